"""The report of an experiment: one HTML page, its tables and its figures."""
