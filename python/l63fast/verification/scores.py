"""The scores of a set of analyses, and the time means that they are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.bootstrap import (
    Interval,
    proportion_interval,
    rare_losses,
    resample,
)
from l63fast.verification.measures import (
    by_trajectory,
    finish,
    mean_squares,
    nearer,
    pair,
)

__all__ = [
    "CLIMATOLOGICAL_RMS",
    "Scores",
    "decibel",
    "score",
    "trajectory_means",
]

CLIMATOLOGICAL_RMS: Final = 7.6  # what the climatological mean scores (DAPPER)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of analyses; a score with a NaN analysis in it is NaN.

    Attributes
    ----------
    rmse_a : float
        Time mean of the instantaneous root mean square over the components (DAPPER).
    rmse_pooled_a : float
        Root of the mean square over trajectories, times and components.
    rmse_x, rmse_y, rmse_z : float
        Root of the mean square of one component; their mean square is its.
    median, p95 : float
        Quantiles of the instantaneous root mean square.
    mirror_rmse_a, mirror_rmse_pooled_a : float
        As above with, at each time, the smaller of the errors of x_a and of S x_a.
    sign_flip_rate : float
        Share of analyses that are closer to the truth once mirrored.
    divergence_rate : float
        Share of trajectories with a time-mean error above 7.6 or not finite.
    n_trajectories, n_analyses, n_non_finite : int
        How many there are, and how many analyses hold NaN or infinity.
    ci95 : dict of str to (float, float)
        Intervals of the four errors and of sign_flip_rate by bootstrap over
        trajectories, of divergence_rate after Clopper & Pearson (1934); NaN for a
        single trajectory, which says nothing about the spread.
    rare_losses : dict of str to bool
        Whether few trajectories make one of the four errors: the skewness
        of the trajectory means is above 2, or some are not finite. The interval does
        not know of losses that this sample does not hold.
    """

    rmse_a: float
    rmse_pooled_a: float
    rmse_x: float
    rmse_y: float
    rmse_z: float
    median: float
    p95: float
    mirror_rmse_a: float
    mirror_rmse_pooled_a: float
    sign_flip_rate: float
    divergence_rate: float
    n_trajectories: int
    n_analyses: int
    n_non_finite: int
    ci95: dict[str, Interval]
    rare_losses: dict[str, bool]

    @property
    def decibel(self) -> float:
        """Mean squared error in dB: 10 log10 of `rmse_pooled_a` squared."""
        return decibel(self.rmse_pooled_a)

    @property
    def decibel_ci95(self) -> Interval:
        """Bootstrap interval of `decibel`."""
        low, high = self.ci95["rmse_pooled_a"]
        return decibel(low), decibel(high)


def decibel(rmse_pooled: float) -> float:
    """Return the mean squared error in dB, 10 log10 of the square of `rmse_pooled`."""
    if rmse_pooled == 0.0:
        return -math.inf
    return 20.0 * math.log10(rmse_pooled)


@ieee_arithmetic()
def score(
    analysis: np.ndarray,
    truth: np.ndarray,
    *,
    mirror_aware: bool = False,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Scores:
    """Return all scores of a set of analyses.

    Parameters
    ----------
    analysis : (n_trajectories, n_times, 3)
        NaN and infinity are counted and make the scores that hold them non-finite.
    truth : (n_trajectories, n_times, 3)
    mirror_aware : bool
        Take components, quantiles and divergence from the mirror-aware errors. The
        names `rmse_a` and `rmse_pooled_a` stay plain.
    n_bootstrap : int
        Resamples of the trajectories; 0 leaves the intervals NaN.
    seed : int
        Key of the resampling; equal seeds resample equally.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes differ, an axis is empty, or the truth is not finite.
    """
    analysis, truth = pair(analysis, truth)
    mirror_aware = _checks.boolean("mirror_aware", mirror_aware)
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    plain, mirrored = mean_squares(analysis, truth)
    folded = np.minimum(plain, mirrored)
    flipped = mirrored < plain
    broken = ~np.isfinite(analysis).all(axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = (nearer(analysis, truth) if mirror_aware else analysis) - truth
        components = np.sqrt((errors**2).mean(axis=(0, 1)))
        each = np.sqrt(folded if mirror_aware else plain)
        median, p95 = np.quantile(each, (0.5, 0.95))
    means = by_trajectory(plain, folded)  # as `trajectory_means`
    time_mean = means[:, 2 if mirror_aware else 0]
    names = ("rmse_a", "rmse_pooled_a", "mirror_rmse_a", "mirror_rmse_pooled_a")
    values = dict(zip(names, finish(means.mean(axis=0)).tolist(), strict=True))
    divergence_rate = float(lost(time_mean).mean())
    flips = np.where(broken, np.nan, flipped).mean(axis=1)
    columns = np.hstack([means, flips[:, None]])
    resampled = resample(columns, n_bootstrap, seed).apply(finish)
    intervals = {
        name: resampled.interval(i) for i, name in enumerate((*names, "sign_flip_rate"))
    }
    known = n_bootstrap > 0 and len(means) > 1
    intervals["divergence_rate"] = (
        proportion_interval(divergence_rate, len(means))
        if known
        else (math.nan, math.nan)
    )
    marked = rare_losses(means[None])
    # A score of squares is marked with the time means that they belong to.
    marked[1::2] = marked[::2] | rare_losses(means[None, :, 1::2], of_squares=True)
    return Scores(
        **values,
        rmse_x=float(components[0]),
        rmse_y=float(components[1]),
        rmse_z=float(components[2]),
        median=float(median),
        p95=float(p95),
        sign_flip_rate=float(flips.mean()),
        divergence_rate=divergence_rate,
        n_trajectories=analysis.shape[0],
        n_analyses=broken.size,
        n_non_finite=int(broken.sum()),
        ci95=intervals,
        rare_losses=dict(zip(names, marked.tolist(), strict=True)),
    )


def lost(time_means: np.ndarray) -> np.ndarray:
    """Return which trajectories are lost, from time means of the instantaneous rms.

    The time mean is above 7.6, what climatology scores, or it is not finite.
    """
    return np.asarray(~(time_means <= CLIMATOLOGICAL_RMS))


@ieee_arithmetic()
def trajectory_means(analysis: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the time means that scores are made of, (n_trajectories, 4).

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)

    Returns
    -------
    (n_trajectories, 4)
        Of the instantaneous root mean square and of its square, plain, then
        mirror-aware: rmse_a and mirror_rmse_a are means of columns 0 and 2,
        rmse_pooled_a and mirror_rmse_pooled_a roots of means of columns 1 and 3.
    """
    plain, mirrored = mean_squares(*pair(analysis, truth))
    return by_trajectory(plain, np.minimum(plain, mirrored))
