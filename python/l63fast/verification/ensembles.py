"""Scores of ensembles: CRPS, rank histogram, and whether the spread is the error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.bootstrap import Interval, resample
from l63fast.verification.measures import pair

__all__ = [
    "RankHistogram",
    "SpreadSkill",
    "crps",
    "rank_histogram",
    "spread_skill",
]


@dataclass(frozen=True, eq=False)
class RankHistogram:
    """How often the truth took each place among the sorted members.

    Attributes
    ----------
    counts : (3, n_members + 1) int64
        By component; place 0 is below all members.
    shares, low, high : (3, n_members + 1)
        Of all ranks, 1 / (n_members + 1) each if truth and members are alike, with
        bootstrap intervals.
    """

    counts: np.ndarray
    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class SpreadSkill:
    """The spread that a scheme claims beside the error that it makes.

    Attributes
    ----------
    spread, error : (n_bins,)
        Root mean squares in bins of rising spread, as many analyses in each.
    ratio : float
        Root mean square of all spreads over that of all errors; 1 if it can be trusted.
    ci95 : (float, float)
        Bootstrap interval of the ratio.
    """

    spread: np.ndarray
    error: np.ndarray
    ratio: float
    ci95: Interval


@ieee_arithmetic()
def crps(
    members: np.ndarray, truth: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean CRPS over components, times and trajectories, with its interval.

    The fair estimate (Ferro 2014), which does not favour large ensembles for their size
    alone; of a single member it would be its absolute error. NaN if any member is.

    Parameters
    ----------
    members : (n_trajectories, n_times, n_members, 3)
        At least 2 members.
    truth : (n_trajectories, n_times, 3)
    n_bootstrap, seed : int

    Returns
    -------
    crps, low, high : float

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes do not fit, or the truth is not finite.
    """
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    each = crps_means(members, truth)
    means = resample(each[:, None], n_bootstrap, seed)
    return (float(each.mean()), *means.interval())


@ieee_arithmetic()
def crps_means(members: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean CRPS (n_trajectories,) of ensembles, as `crps` takes them."""
    from scoringrules import crps_ensemble

    members, truth = _ensembles(members, truth)
    how: dict[str, Any] = {"m_axis": 1, "estimator": "pwm", "backend": "numpy"}
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(
            [
                crps_ensemble(y, x, **how).mean()
                for x, y in zip(members, truth, strict=True)  # one by one: for memory
            ]
        )


@ieee_arithmetic()
def crps_means_of_normal(
    analysis: np.ndarray, spread: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """Return the mean CRPS (n_trajectories,) of N(analysis, spread^2), by component.

    The closed form of Gneiting & Raftery (2007), equation 21.

    Parameters
    ----------
    analysis, spread, truth : (n_trajectories, n_times, 3)
        Mean and standard deviation; a spread of 0 gives the absolute error.
    """
    from scipy.special import ndtr

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sigma = np.maximum(spread, np.finfo(np.float64).tiny)
        z = (truth - analysis) / sigma
        density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
        each = z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / math.sqrt(math.pi)
        return np.asarray((sigma * each).mean(axis=(1, 2)))


@ieee_arithmetic()
def rank_histogram(
    members: np.ndarray, truth: np.ndarray, *, n_bootstrap: int = 1000, seed: int = 0
) -> RankHistogram:
    """Return how often the truth took each place among the members (Hamill 2001).

    An ensemble with a member that is not finite has no ranks: all shares are NaN then.

    Parameters
    ----------
    members : (n_trajectories, n_times, n_members, 3)
    truth : (n_trajectories, n_times, 3)
    n_bootstrap, seed : int

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes do not fit, or the truth is not finite.
    """
    members, truth = _ensembles(members, truth)
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    n, n_times, n_members = members.shape[:3]
    ranks = (members < truth[:, :, None]).sum(axis=2)
    whole = np.isfinite(members).all(axis=(2, 3))
    counts = np.empty((n, 3, n_members + 1))
    for place in range(n_members + 1):
        found = (ranks == place) & whole[..., None]
        counts[:, :, place] = found.sum(axis=1)
    shares = counts / (n_times if whole.all() else np.nan)
    columns = shares.reshape(n, -1)
    low, high = resample(columns, n_bootstrap, seed).intervals()
    return RankHistogram(
        counts=counts.sum(axis=0).astype(np.int64),
        shares=shares.mean(axis=0),
        low=low.reshape(3, -1),
        high=high.reshape(3, -1),
    )


@ieee_arithmetic()
def spread_skill(
    analysis: np.ndarray,
    spread: np.ndarray,
    truth: np.ndarray,
    *,
    n_bins: int = 10,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> SpreadSkill:
    """Return the claimed spread beside the error, over all and in bins of spread.

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)
    spread : (n_trajectories, n_times, 3)
        Standard deviation of the analysis error, as claimed.
    n_bins : int
        At most the number of analyses.
    n_bootstrap, seed : int

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes differ, or the truth is not finite.
    """
    analysis, truth = pair(analysis, truth)
    spread, _ = pair(spread, truth, "spread")
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    n_analyses = truth.shape[0] * truth.shape[1]
    n_bins = _checks.count("n_bins", n_bins, minimum=1, maximum=n_analyses)
    with np.errstate(over="ignore", invalid="ignore"):
        claimed = (spread**2).mean(axis=-1)
        made = ((analysis - truth) ** 2).mean(axis=-1)
        means = np.stack([claimed.mean(axis=1), made.mean(axis=1)], axis=1)
        ratio = resample(means, n_bootstrap, seed).apply(
            lambda both: np.sqrt(both[..., :1] / both[..., 1:])
        )
    bins = np.array_split(np.argsort(claimed, axis=None), n_bins)
    return SpreadSkill(
        spread=np.sqrt([claimed.ravel()[chosen].mean() for chosen in bins]),
        error=np.sqrt([made.ravel()[chosen].mean() for chosen in bins]),
        ratio=float(ratio.measured[0]),
        ci95=ratio.interval(),
    )


def _ensembles(members: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    shape = (None, None, None, 3)
    members = _checks.array("members", members, shape=shape)
    _checks.count("members: n_members", members.shape[2], minimum=2)
    truth = _checks.array("truth", truth, shape=(*members.shape[:2], 3))
    _checks.count("truth: n_trajectories", truth.shape[0], minimum=1)
    _checks.count("truth: n_times", truth.shape[1], minimum=1)
    _checks.finite("truth", truth)
    return members, truth
