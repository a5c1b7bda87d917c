"""Reports: one page about a finished experiment, its tables and its figures."""

from l63fast.experiments.report.page import PAGE, report, write_report, write_summary

__all__ = ["PAGE", "report", "write_report", "write_summary"]
