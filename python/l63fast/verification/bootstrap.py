"""Bootstrap over trajectories, the independent units, with keyed random numbers.

The 95 % interval of a score is that of Efron (1987), "BCa": levels of the resampled
scores, moved by their median bias and by the skewness of the score. For a few dozen
trajectories every interval from resampled means alone is too narrow, as the variance
is divided by n in place of n - 1 and normal quantiles stand for those of Student's t;
so the levels start from sqrt(n / (n - 1)) t, not from 1.96 (Hesterberg 2015).

Of two paired scores the difference is nearly symmetric, but often heavy-tailed: the
skewness estimated from it is mostly noise, and an interval moved by noise covers less.
Intervals of paired scores are therefore widened in the same way and not moved.

No bootstrap knows of losses that it has not seen. Where trajectory means are very
skewed, a few trajectories make the score: `rare_losses`.
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
_CHUNK: Final = 2**22  # resampled numbers held at once
_LARGEST_SKEWNESS: Final = 2.0
_ENOUGH: Final = 50  # trajectories for which that much is shown to be harmless


@dataclass(frozen=True, eq=False)
class Resampled:
    """Statistics of trajectories: as measured, resampled, and with one left out.

    Attributes
    ----------
    measured : (n_columns,)
    resampled : (n_bootstrap, n_columns)
    left_out : (n_trajectories, n_columns)
    """

    measured: np.ndarray
    resampled: np.ndarray
    left_out: np.ndarray

    def apply(self, statistic: Callable[[np.ndarray], np.ndarray]) -> Resampled:
        """Return a function of the columns (..., n_columns) -> (..., any number)."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return Resampled(
                statistic(self.measured),
                statistic(self.resampled),
                statistic(self.left_out),
            )

    def interval(self, column: int = 0, *, paired: bool = False) -> Interval:
        """Return the 95 % interval of a column; NaN if a resampled value is.

        Parameters
        ----------
        column : int
        paired : bool
            Whether the column contrasts two methods: then it is not moved for skewness.
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
        """Return the ends of the intervals of all columns."""
        ends = np.array([self.interval(i) for i in range(len(self.measured))])
        return ends[:, 0], ends[:, 1]

    def _moved(self, column: int, z: np.ndarray) -> np.ndarray:
        """Return the levels of Efron (1987), equation 2.3, as normal quantiles.

        The acceleration is a sixth of the statistic's skewness. Its third moment is
        that of the jackknife over trajectories. Its spread is that of the resampled
        values, to which data sets and trainings add where they are resampled too: too
        few of those are ever at hand for a skewness of their own.
        """
        from scipy.special import ndtri

        values, measured = self.resampled[:, column], self.measured[column]
        n, others = len(self.left_out), self.left_out[:, column]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            below = ((values < measured) + 0.5 * (values == measured)).mean()
            one = 0.5 / len(values)  # the least that a share of resamples can say
            bias = ndtri(np.clip(below, one, 1.0 - one))
            spread = values.std()
            shares = (others.mean() - others) * ((n - 1) / n) / spread
            acceleration = 0.0 if spread == 0.0 else (shares**3).sum() / 6.0
            moved = bias + z
            slope = 1.0 - acceleration * moved
            levels = np.where(slope > 0.0, bias + moved / slope, np.copysign(np.inf, z))
        return np.asarray(levels)


def resample(values: np.ndarray, n_bootstrap: int, seed: _checks.Seed) -> Resampled:
    """Return the means over trajectories of (n_trajectories, n_columns)."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Resampled(
            values.mean(axis=0),
            bootstrap_means(values, n_bootstrap, seed),
            left_out_means(values[None]),
        )


def bootstrap_means(
    values: np.ndarray, n_bootstrap: int, seed: _checks.Seed
) -> np.ndarray:
    """Return means over resampled trajectories (n_bootstrap, n_columns).

    The trajectory is the independent unit, the times within one are not.
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
        The mean over data sets of their means, one of which lacks a trajectory. Of data
        sets with a single trajectory the whole set is left out.
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
    """Return data sets of a single trajectory each as one set of all of these."""
    return values.reshape(1, -1, values.shape[2]) if values.shape[1] == 1 else values


def rare_losses(values: np.ndarray, *, of_squares: bool = False) -> np.ndarray:
    """Return whether few trajectories make the mean (n_columns,) of bool.

    So it is where trajectory means (n_data, n_trajectories, n_columns), around the mean
    of their data set, have a skewness above 2, or where some, not all, are not finite.

    Means of squares are about three times as skewed as those of their roots, without
    any loss. What harms an interval is skewness over the root of n, so of squares as
    much of that is allowed as 2 is for 50 trajectories.
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

    Clopper & Pearson (1934). A share that is a mean over trainings need not be a
    multiple of 1 / n; the interval is that of n trajectories all the same, since
    trainings on the same trajectories are not independent.
    """
    from scipy.special import betaincinv

    k = share * n
    low = 0.0 if k <= 0.0 else float(betaincinv(k, n - k + 1.0, 1.0 - _UPPER))
    high = 1.0 if k >= n else float(betaincinv(k + 1.0, n - k, _UPPER))
    return low, high
