"""Reports of finished experiments: a page, tables and figures."""

from l63fast.experiments.report.page import PAGE, report, write_report, write_summary

__all__ = ["PAGE", "report", "write_report", "write_summary"]
