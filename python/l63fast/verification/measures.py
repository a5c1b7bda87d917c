"""Errors of analyses against the truth: the measures everything else is made of."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.lorenz63 import mirror

__all__ = [
    "MEASURES",
    "by_trajectory",
    "finish",
    "instantaneous_rms",
    "mean_squares",
    "nearer",
    "pair",
    "rmse",
    "rmse_pooled",
    "skill",
    "squared_errors",
]

MEASURES: Final = ("rmse_a", "rmse_pooled_a")


@ieee_arithmetic()
def instantaneous_rms(
    analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool = False
) -> np.ndarray:
    """Return the root mean square over the components at each time.

    Parameters
    ----------
    analysis : (n_trajectories, n_times, 3)
        NaN and infinity are let through.
    truth : (n_trajectories, n_times, 3)
    mirror_aware : bool
        Take the smaller of the errors of the analysis and of its mirror image.

    Returns
    -------
    (n_trajectories, n_times) float64
    """
    mirror_aware = _checks.boolean("mirror_aware", mirror_aware)
    squares = squared_errors(*pair(analysis, truth), mirror_aware)
    return np.asarray(np.sqrt(squares))


@ieee_arithmetic()
def rmse(analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool = False) -> float:
    """Return the time mean of `instantaneous_rms`, averaged over trajectories (DAPPER).

    The arguments are those of `instantaneous_rms`.
    """
    return _measure("rmse_a", analysis, truth, mirror_aware)


@ieee_arithmetic()
def rmse_pooled(
    analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool = False
) -> float:
    """Return the root of the mean square over trajectories, times and components.

    The arguments are those of `instantaneous_rms`.
    """
    return _measure("rmse_pooled_a", analysis, truth, mirror_aware)


def skill(value: float, reference: float) -> float:
    """Return 1 - value / reference: 1 is perfect, 0 no better than the reference.

    NaN where the reference is not finite: nothing is better than a failure.
    """
    if not math.isfinite(reference):
        return math.nan
    reference = _checks.real("reference", reference, above=0.0)
    return 1.0 - value / reference


def _measure(name: str, analysis: Any, truth: Any, mirror_aware: bool) -> float:
    mirror_aware = _checks.boolean("mirror_aware", mirror_aware)
    squares = squared_errors(*pair(analysis, truth), mirror_aware)
    scores = finish(by_trajectory(squares).mean(axis=0))
    return float(scores[MEASURES.index(name)])


def pair(
    analysis: Any, truth: Any, name: str = "analysis"
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (n_trajectories, n_times, 3); the truth must be finite."""
    truth = _checks.array("truth", truth, shape=(None, None, 3))
    _checks.finite("truth", truth)
    _checks.count("truth: n_trajectories", truth.shape[0], minimum=1)
    _checks.count("truth: n_times", truth.shape[1], minimum=1)
    return _checks.array(name, analysis, shape=truth.shape), truth


def mean_squares(
    analysis: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean square over components, of the analysis and of its mirror image.

    Both are NaN where either is, so that a minimum of the two cannot lose a NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        plain = ((analysis - truth) ** 2).mean(axis=-1)
        mirrored = ((mirror(analysis) - truth) ** 2).mean(axis=-1)
    return plain, mirrored


def nearer(analysis: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each analysis (..., 3) or its mirror image, if nearer to the truth."""
    plain, mirrored = mean_squares(analysis, truth)
    return np.where((mirrored < plain)[..., None], mirror(analysis), analysis)


def squared_errors(
    analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool
) -> np.ndarray:
    """Return the mean square over components at each time, the smaller if asked."""
    plain, mirrored = mean_squares(analysis, truth)
    return np.asarray(np.minimum(plain, mirrored) if mirror_aware else plain)


def by_trajectory(*mean_squares: np.ndarray) -> np.ndarray:
    """Return time means (n_trajectories, 2 each): of the root, and of the square."""
    columns = []
    for squares in mean_squares:
        columns += [np.sqrt(squares).mean(axis=1), squares.mean(axis=1)]
    return np.stack(columns, axis=1)


def finish(means: np.ndarray) -> np.ndarray:
    """Return (..., 4) scores from (..., 4) means: every second one is a mean square."""
    finished = means.copy()
    finished[..., 1::2] = np.sqrt(means[..., 1::2])
    return finished
