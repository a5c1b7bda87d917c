"""Bootstrap over trajectories, the independent units, with keyed random numbers.

The 95 % interval of a score is the BCa interval of Efron (1987): quantiles of the
resampled scores, whose levels are corrected for their median bias and for the skewness
of the score. For a few dozen trajectories, intervals from resampled means are too
narrow: the variance is divided by n instead of n - 1, and normal quantiles are used
instead of those of Student's t. So the levels start from sqrt(n / (n - 1)) t and not
from 1.96 (Hesterberg 2015).

The difference of two paired scores is nearly symmetric but often heavy-tailed. Its
estimated skewness is mostly noise, and a correction by noise lowers the coverage.
So intervals of paired scores are widened in the same way, without the skewness
correction.

No bootstrap can know of losses that are not in the sample. `rare_losses` marks scores
whose trajectory means are so skewed that a few trajectories determine the score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from l63fast import _checks, _random

Interval = tuple[float, float]

_UPPER: Final = 0.975
_CHUNK: Final = 2**22  # resampled numbers kept in memory together
_LARGEST_SKEWNESS: Final = 2.0
_ENOUGH: Final = 50  # trajectories for which this skewness was tested to be harmless


@dataclass(frozen=True, eq=False)
class Resampled:
    """Means over trajectories: measured, resampled, and without one trajectory each.

    Attributes
    ----------
    measured : (n_columns,)
        Means over all trajectories.
    resampled : (n_bootstrap, n_columns)
        Means over resampled trajectories.
    left_out : (n_trajectories, n_columns)
        Means over all trajectories but one (jackknife).
    """

    measured: np.ndarray
    resampled: np.ndarray
    left_out: np.ndarray

    def apply(self, statistic: Callable[[np.ndarray], np.ndarray]) -> Resampled:
        """Return a statistic of the means; it maps (..., n_columns) to (..., any)."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return Resampled(
                statistic(self.measured),
                statistic(self.resampled),
                statistic(self.left_out),
            )

    def interval(self, column: int = 0, *, paired: bool = False) -> Interval:
        """Return the 95 % interval of a column; NaN if any resampled value is NaN.

        Parameters
        ----------
        column : int
        paired : bool
            Whether the column compares two methods; then there is no skewness
            correction.
        """
        from scipy.special import ndtr, stdtrit  # imported here, as in _random

        values, n = self.resampled[:, column], len(self.left_out)
        if values.size == 0 or np.isnan(values).any():
            return (math.nan, math.nan)
        z = math.sqrt(n / (n - 1)) * stdtrit(n - 1, _UPPER) * np.array([-1.0, 1.0])
        if not paired:
            z = self._moved(column, z)
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(values, ndtr(z))
        return float(low), float(high)

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and the upper ends of the intervals of all columns."""
        ends = np.array([self.interval(i) for i in range(len(self.measured))])
        return ends[:, 0], ends[:, 1]

    def _moved(self, column: int, z: np.ndarray) -> np.ndarray:
        """Return the levels of Efron (1987), equation 2.3, as normal quantiles.

        The acceleration is the skewness of the statistic divided by 6. Its third moment
        is from the jackknife over trajectories. Its standard deviation is that of the
        resampled values, which includes data sets and trainings where these are
        resampled too; there are never enough of them to estimate a skewness of their
        own.
        """
        from scipy.special import ndtri

        values, measured = self.resampled[:, column], self.measured[column]
        n, others = len(self.left_out), self.left_out[:, column]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            below = ((values < measured) + 0.5 * (values == measured)).mean()
            one = 0.5 / len(
                values
            )  # the smallest share that this many resamples resolve
            bias = ndtri(np.clip(below, one, 1.0 - one))
            spread = values.std()
            shares = (others.mean() - others) * ((n - 1) / n) / spread
            acceleration = 0.0 if spread == 0.0 else (shares**3).sum() / 6.0
            moved = bias + z
            slope = 1.0 - acceleration * moved
            levels = np.where(slope > 0.0, bias + moved / slope, np.copysign(np.inf, z))
        return np.asarray(levels)


def resample(
    values: np.ndarray, n_bootstrap: int = 1000, seed: _checks.Seed = 0
) -> Resampled:
    """Return the means over trajectories of values (n_trajectories, n_columns)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Resampled(
            values.mean(axis=0),
            bootstrap_means(values, n_bootstrap, seed),
            left_out_means(values[None]),
        )


def bootstrap_means(
    values: np.ndarray, n_bootstrap: int, seed: _checks.Seed
) -> np.ndarray:
    """Return means over resampled trajectories, (n_bootstrap, n_columns).

    Whole trajectories are resampled: they are independent, the times within one are
    not.
    """
    seed = _checks.seed("seed", seed)
    n_trajectories = len(values)
    if n_trajectories == 1:
        return np.full((n_bootstrap, values.shape[1]), np.nan)
    rows = max(_CHUNK // max(values.size, 1), 1)
    means = np.empty((n_bootstrap, values.shape[1]))
    for first in range(0, n_bootstrap, rows):
        n = min(rows, n_bootstrap - first)
        draws = _random.uniforms(
            seed, "bootstrap", "none", n, (n_trajectories,), first=first
        )
        picked = (draws * n_trajectories).astype(np.intp)
        means[first : first + n] = values[picked].mean(axis=1)
    return means


def left_out_means(values: np.ndarray) -> np.ndarray:
    """Return the mean of (n_data, n_trajectories, n_columns) without each trajectory.

    Returns
    -------
    (n_data * n_trajectories, n_columns)
        The mean over data sets of their means, where one data set lacks a trajectory.
        If data sets have a single trajectory, the whole data set is left out.
    """
    values = _in_sets(values)
    n_data, n, n_columns = values.shape
    if n == 1:
        return np.full((1, n_columns), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        means = values.mean(axis=1, keepdims=True)
        without = means.mean(axis=0) + (means - values) / ((n - 1) * n_data)
    return np.asarray(without.reshape(-1, n_columns))


def _in_sets(values: np.ndarray) -> np.ndarray:
    """Return data sets with a single trajectory each as one data set."""
    return values.reshape(1, -1, values.shape[2]) if values.shape[1] == 1 else values


def rare_losses(values: np.ndarray, *, of_squares: bool = False) -> np.ndarray:
    """Return whether a few trajectories determine the mean, (n_columns,) bool.

    This is so where the trajectory means (n_data, n_trajectories, n_columns), relative
    to the mean of their data set, have a skewness above 2, or where some but not all
    are not finite.

    With `of_squares` the values are means of squares. These are about three times as
    skewed as their roots, even without losses. The harm for an interval is proportional
    to skewness / sqrt(n). So as much of it is allowed as a skewness of 2 gives for 50
    trajectories.
    """
    largest = _LARGEST_SKEWNESS
    if of_squares:
        n = values.shape[0] * values.shape[1]
        largest *= max(1.0, math.sqrt(n / _ENOUGH))
    values = _in_sets(values)
    finite = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        apart = values - values.mean(axis=1, keepdims=True)
        apart = apart / np.abs(apart).max(axis=(0, 1))  # their cubes cannot overflow
        skewness = (apart**3).mean(axis=(0, 1)) / (apart**2).mean(axis=(0, 1)) ** 1.5
    some = finite.any(axis=(0, 1)) & ~finite.all(axis=(0, 1))
    return np.asarray(some | (skewness > largest))


def proportion_interval(share: float, n: int) -> Interval:
    """Return the exact 95 % interval of a share of n trajectories.

    Source: Clopper & Pearson (1934). A share that is a mean over trainings may be no
    multiple of 1 / n. The interval is still that of n trajectories, because trainings
    on the same trajectories are not independent.
    """
    from scipy.special import betaincinv

    k = share * n
    low = 0.0 if k <= 0.0 else float(betaincinv(k, n - k + 1.0, 1.0 - _UPPER))
    high = 1.0 if k >= n else float(betaincinv(k + 1.0, n - k, _UPPER))
    return low, high
