"""The report of an experiment: one HTML page, its tables and its figures."""

from l63fast.experiments.reporting.writing import PAGE, REPORT, write_report

__all__ = ["PAGE", "REPORT", "write_report"]
