"""Experiments: settings, cells, and the tables and figures made of them."""
