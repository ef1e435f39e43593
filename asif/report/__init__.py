"""What a comparison or an audit came to, for people: tables for the terminal, plots, and a page."""

from asif.report.audit.page import render_audit_page
from asif.report.page import html_page
from asif.report.table import Table, tables

__all__ = ["Table", "render_audit_page", "html_page", "tables"]
