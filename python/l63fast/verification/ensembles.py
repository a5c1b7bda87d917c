"""Verification of estimated uncertainty: ensemble scores, spread, innovations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.bootstrap import Interval, resample
from l63fast.verification.distributions import fair_crps
from l63fast.verification.scores import checked_truth, pair


@dataclass(frozen=True, eq=False)
class RankHistogram:
    """How often the truth had each rank among the sorted ensemble members.

    Attributes
    ----------
    counts : (3, n_members + 1) int64
        By component; rank 0 is below all members.
    shares, low, high : (3, n_members + 1)
        Share of each rank with its bootstrap interval; 1 / (n_members + 1) if truth and
        members have the same distribution.
    """

    counts: np.ndarray
    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class SpreadSkill:
    """The estimated spread of the analysis compared with its actual error.

    Attributes
    ----------
    spread, error : (n_bins,)
        Root mean squares in bins of increasing spread with equal numbers of analyses.
    ratio : float
        Root mean square of all spreads divided by that of all errors; 1 is ideal.
    ci95 : (float, float)
        Bootstrap interval of the ratio.
    """

    spread: np.ndarray
    error: np.ndarray
    ratio: float
    ci95: Interval


@dataclass(frozen=True, eq=False)
class InnovationStatistics:
    """Statistics of the innovations y - h(x_b) and of their estimated covariances S.

    Attributes
    ----------
    mean : (m,)
    covariance : (m, m)
        Mean of d d^T over the innovations d.
    claimed : (m, m)
        Mean of the estimated covariances S.
    ratio : float
        Mean of d^T S^-1 d per observed value: 1 if each S is right, above 1 if the
        scheme is overconfident.
    trace_ratio : float
        Trace of `covariance` divided by the trace of `claimed`: 1 if S is right on
        average.
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

    The fair estimator of Ferro (2014) is used, whose expectation does not depend on the
    number of members. The result is NaN if any member is NaN.

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
    """Return the mean CRPS (n_trajectories,) of ensembles; arguments as in `crps`."""
    members, truth = _ensembles(members, truth)
    means = np.empty(len(members))
    with np.errstate(over="ignore", invalid="ignore"):
        for i, y in enumerate(truth):  # one by one, to save memory
            x = np.sort(np.ascontiguousarray(members[i].swapaxes(1, 2)), axis=-1)
            means[i] = fair_crps(x, y).mean()
    return means


@ieee_arithmetic()
def rank_histogram(
    members: np.ndarray,
    truth: np.ndarray,
    *,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> RankHistogram:
    """Return how often the truth had each rank among the members (Hamill 2001).

    An ensemble with a non-finite member has no ranks; then all shares are NaN.

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
    complete = np.isfinite(members).all(axis=(2, 3))
    counts = np.empty((n, 3, n_members + 1))
    for place in range(n_members + 1):
        has_rank = (ranks == place) & complete[..., None]
        counts[:, :, place] = has_rank.sum(axis=1)
    # Leaving out incomplete ensembles would bias the shares, so all become NaN.
    shares = counts / (n_times if complete.all() else np.nan)
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
    """Return the estimated spread and the actual error, over all and in bins of spread.

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)
    spread : (n_trajectories, n_times, 3)
        Estimated standard deviation of the analysis error.
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
    missing: str = "propagate",
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> InnovationStatistics:
    """Return statistics of innovations and of their estimated covariances.

    Sources: Desroziers, Berre, Chapnik & Poli (2005), equation 1; the normalised square
    is the consistency test of Dee (1995).

    Parameters
    ----------
    innovation : (n_trajectories, n_times, m)
        NaN and infinity are accepted and make the results non-finite.
    covariance : (n_trajectories, n_times, m, m)
        Estimated covariances, symmetric and positive definite.
    missing : {"propagate", "nan"}
        With "nan", NaN in `innovation` with a finite covariance is a value that was not
        observed, and is left out.
    n_bootstrap : int
    seed : int, SeedSequence or Generator

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes do not fit.
    """
    d = _checks.array("innovation", innovation, shape=(None, None, None))
    for axis, name in enumerate(("n_trajectories", "n_times", "obs_dim")):
        _checks.count(f"innovation: {name}", d.shape[axis], minimum=1)
    S = _checks.array("covariance", covariance, shape=(*d.shape, d.shape[-1]))
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    m = d.shape[-1]
    _checks.choice("missing", missing, ("propagate", "nan"))
    block, share = S, np.ones(d.shape[:2])
    n_present: Any = share.size
    n_pairs: Any = share.size
    if missing == "nan":
        present = ~(np.isnan(d) & np.isfinite(S).all(axis=(-2, -1))[..., None])
        pairs = present[..., :, None] & present[..., None, :]
        # The block of the present values, with rows of the identity for the others.
        block, d = np.where(pairs, S, np.eye(m)), np.where(present, d, 0.0)
        S, share = np.where(pairs, S, 0.0), present.mean(axis=-1)
        n_present, n_pairs = present.sum(axis=(0, 1)), pairs.sum(axis=(0, 1))
    with np.errstate(over="ignore", invalid="ignore"):
        products = d[..., :, None] * d[..., None, :]
        normalised = (d * np.linalg.solve(block, d[..., None])[..., 0]).sum(axis=-1) / m
        made = np.trace(products, axis1=-2, axis2=-1)
        claimed = np.trace(S, axis1=-2, axis2=-1)
        each = (normalised, made, claimed, share)
        means = np.stack([values.mean(axis=1) for values in each], axis=1)
        ratios = resample(means, n_bootstrap, seed).apply(
            lambda of: np.stack([of[..., 0] / of[..., 3], of[..., 1] / of[..., 2]], -1)
        )
        names = ("ratio", "trace_ratio")
        return InnovationStatistics(
            mean=d.sum(axis=(0, 1)) / n_present,
            covariance=products.sum(axis=(0, 1)) / n_pairs,
            claimed=S.sum(axis=(0, 1)) / n_pairs,
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
