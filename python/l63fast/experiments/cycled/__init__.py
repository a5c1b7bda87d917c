"""Cycled experiments: schemes beside published scores and beside the optimum."""
