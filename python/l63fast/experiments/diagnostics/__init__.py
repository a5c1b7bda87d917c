"""Where, how and for how long analyses are wrong: small arrays made once in a cell."""

from l63fast.experiments.diagnostics.dataset import DIAGNOSTICS, diagnose

__all__ = ["DIAGNOSTICS", "diagnose"]
