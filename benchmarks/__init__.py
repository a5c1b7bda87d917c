"""Benchmarks, one file per costly function; each asserts its answer."""
