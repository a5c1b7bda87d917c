"""Bootstrap over trajectories, the independent units, with keyed random numbers."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from l63fast import _checks, _random

__all__ = ["Interval", "bootstrap_means", "interval", "intervals"]

Interval = tuple[float, float]

_LEVELS: Final = (2.5, 97.5)
_CHUNK: Final = 2**22  # resampled trajectories held at once


def bootstrap_means(values: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Return means over resampled trajectories (n_bootstrap, n_columns).

    Percentile bootstrap (Efron 1979); the trajectory is the independent unit, the times
    within one are not.
    """
    seed = _checks.seed("seed", seed)
    n_trajectories = len(values)
    if n_trajectories == 1:
        return np.full((n_bootstrap, values.shape[1]), np.nan)
    rows = max(_CHUNK // n_trajectories, 1)
    means = np.empty((n_bootstrap, values.shape[1]))
    for first in range(0, n_bootstrap, rows):
        n = min(rows, n_bootstrap - first)
        draws = _random.uniforms(
            seed, "bootstrap", "none", n, (n_trajectories,), first=first
        )
        picked = (draws * n_trajectories).astype(np.intp)
        means[first : first + n] = values[picked].mean(axis=1)
    return means


def interval(samples: np.ndarray) -> Interval:
    """Return the central 95 % of resampled scores (n_bootstrap,); NaN if any is."""
    if samples.size == 0 or np.isnan(samples).any():
        return (math.nan, math.nan)
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(samples, _LEVELS)
    return float(low), float(high)


def intervals(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of `interval` for each column of (n_bootstrap, n_columns)."""
    ends = np.array([interval(column) for column in samples.T])
    return ends[:, 0], ends[:, 1]
