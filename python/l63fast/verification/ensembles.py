"""Whether a scheme knows its errors: scores of ensembles, spread and innovations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.bootstrap import Interval, resample
from l63fast.verification.scores import checked_truth, pair


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


@dataclass(frozen=True, eq=False)
class InnovationStatistics:
    """Innovations y - h(x_b) as they are, beside what is claimed of them.

    Attributes
    ----------
    mean : (m,)
    covariance : (m, m)
        Their second moment.
    claimed : (m, m)
        Mean of the claimed covariances S.
    ratio : float
        Trace of S^-1 d d^T over m, averaged: 1 if the claim is right at each time,
        above 1 if the scheme trusts itself too much.
    trace_ratio : float
        Trace of `covariance` over that of `claimed`: right on average only.
    ci95 : dict of str to (float, float)
        Bootstrap intervals of ratio and trace_ratio.
    """

    mean: np.ndarray
    covariance: np.ndarray
    claimed: np.ndarray
    ratio: float
    trace_ratio: float
    ci95: dict[str, Interval]


@ieee_arithmetic()
def crps(
    members: np.ndarray,
    truth: np.ndarray,
    *,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> tuple[float, float, float]:
    """Return the mean CRPS over components, times and trajectories, with its interval.

    The fair estimate (Ferro 2014), which does not favour large ensembles for their size
    alone; of a single member it would be its absolute error. NaN if any member is.

    Parameters
    ----------
    members : (n_trajectories, n_times, n_members, 3)
        At least 2 members.
    truth : (n_trajectories, n_times, 3)
    n_bootstrap : int
    seed : int, SeedSequence or Generator

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
    """Return the mean CRPS (n_trajectories,) of ensembles, as `crps` takes them.

    By probability-weighted moments of the sorted members (Zamo & Naveau 2018), which
    is the fair estimate in n log n operations.
    """
    members, truth = _ensembles(members, truth)
    n = members.shape[2]
    means = np.empty(len(members))
    with np.errstate(over="ignore", invalid="ignore"):
        for i, y in enumerate(truth):  # one by one: for memory
            x = np.sort(np.ascontiguousarray(members[i].swapaxes(1, 2)), axis=-1)
            distance = np.abs(y[..., None] - x).sum(axis=-1) / n
            moment_0 = x.sum(axis=-1) / n
            moment_1 = (x * np.arange(n)).sum(axis=-1) / (n * (n - 1.0))
            means[i] = (distance + moment_0 - 2.0 * moment_1).mean()
    return means


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
    members: np.ndarray,
    truth: np.ndarray,
    *,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> RankHistogram:
    """Return how often the truth took each place among the members (Hamill 2001).

    An ensemble with a member that is not finite has no ranks: all shares are NaN then.

    Parameters
    ----------
    members : (n_trajectories, n_times, n_members, 3)
    truth : (n_trajectories, n_times, 3)
    n_bootstrap : int
    seed : int, SeedSequence or Generator

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
    seed: _checks.Seed = 0,
) -> SpreadSkill:
    """Return the claimed spread beside the error, over all and in bins of spread.

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)
    spread : (n_trajectories, n_times, 3)
        Standard deviation of the analysis error, as claimed.
    n_bins : int
        At most the number of analyses.
    n_bootstrap : int
    seed : int, SeedSequence or Generator

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


@ieee_arithmetic()
def innovation_statistics(
    innovation: np.ndarray,
    covariance: np.ndarray,
    *,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> InnovationStatistics:
    """Return the statistics of innovations beside the covariances claimed for them.

    Parameters
    ----------
    innovation : (n_trajectories, n_times, m)
        NaN and infinity make the statistics that hold them so.
    covariance : (n_trajectories, n_times, m, m)
        Claimed, symmetric and positive definite.
    n_bootstrap : int
    seed : int, SeedSequence or Generator

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes do not fit.

    Notes
    -----
    Desroziers, Berre, Chapnik & Poli (2005), equation 1; the normalised square is the
    consistency test of Dee (1995).
    """
    d = _checks.array("innovation", innovation, shape=(None, None, None))
    for axis, name in enumerate(("n_trajectories", "n_times", "obs_dim")):
        _checks.count(f"innovation: {name}", d.shape[axis], minimum=1)
    S = _checks.array("covariance", covariance, shape=(*d.shape, d.shape[-1]))
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    m = d.shape[-1]
    with np.errstate(over="ignore", invalid="ignore"):
        products = d[..., :, None] * d[..., None, :]
        normalised = (d * np.linalg.solve(S, d[..., None])[..., 0]).sum(axis=-1) / m
        made = np.trace(products, axis1=-2, axis2=-1)
        claimed = np.trace(S, axis1=-2, axis2=-1)
        means = np.stack([a.mean(axis=1) for a in (normalised, made, claimed)], axis=1)
        ratios = resample(means, n_bootstrap, seed).apply(
            lambda of: np.stack([of[..., 0], of[..., 1] / of[..., 2]], axis=-1)
        )
        names = ("ratio", "trace_ratio")
        return InnovationStatistics(
            mean=d.mean(axis=(0, 1)),
            covariance=products.mean(axis=(0, 1)),
            claimed=S.mean(axis=(0, 1)),
            ci95={name: ratios.interval(i) for i, name in enumerate(names)},
            **dict(zip(names, ratios.measured.tolist(), strict=True)),
        )


def _ensembles(members: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    shape = (None, None, None, 3)
    axes = ("trajectory", "time", "member")
    members = _checks.by_names("members", members, leading=axes)
    members = _checks.array("members", members, shape=shape)
    _checks.count("members: n_members", members.shape[2], minimum=2)
    return members, checked_truth(truth, (*members.shape[:2], 3))
