"""Reports of comparisons and audits: tables for the terminal, plots, and HTML pages."""

from asif.report.audit.page import render_audit_page
from asif.report.page import render_comparison_page
from asif.report.table import Table, build_comparison_tables

__all__ = ["Table", "render_audit_page", "render_comparison_page", "build_comparison_tables"]
