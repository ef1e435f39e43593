"""What a comparison came to, for people: tables for the terminal, plots, and a page."""

from asif.report.page import html_page
from asif.report.table import Table, tables

__all__ = ["Table", "html_page", "tables"]
