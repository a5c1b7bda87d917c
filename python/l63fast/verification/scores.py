"""Errors of analyses: measures, scores, and kinds of failure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.lorenz63 import mirror
from l63fast.verification.bootstrap import (
    Interval,
    proportion_interval,
    rare_losses,
    resample,
)

MEASURES: Final = ("rmse_a", "rmse_pooled_a")
CLIMATOLOGICAL_RMS: Final = 7.6  # rmse_a of the climatological mean (DAPPER)
FAR_OFF: Final = CLIMATOLOGICAL_RMS / 2.0  # half of the error without any observation
_MIRRORED: Final = 0.5


@ieee_arithmetic()
def instantaneous_rms(
    analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool = False
) -> np.ndarray:
    """Return the root mean square error over the components at each time.

    Parameters
    ----------
    analysis : (n_trajectories, n_times, 3)
        NaN and infinity are accepted.
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
    """Return rmse.a as DAPPER defines it: the mean of `instantaneous_rms`.

    The mean is over times and trajectories. Arguments as in `instantaneous_rms`.
    """
    return _measure("rmse_a", analysis, truth, mirror_aware)


@ieee_arithmetic()
def rmse_pooled(
    analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool = False
) -> float:
    """Return the root of the mean square error over trajectories, times and components.

    Arguments as in `instantaneous_rms`.
    """
    return _measure("rmse_pooled_a", analysis, truth, mirror_aware)


def skill(value: float, reference: float) -> float:
    """Return 1 - value / reference: 1 is perfect, 0 is as good as the reference.

    NaN where the reference is not finite.
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
    truth = checked_truth(truth, (None, None, 3))
    analysis = _checks.by_names(name, analysis, leading=("trajectory", "time"))
    return _checks.array(name, analysis, shape=truth.shape), truth


def checked_truth(truth: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a truth as float64 (n_trajectories, n_times, 3), finite and not empty."""
    truth = _checks.by_names("truth", truth, leading=("trajectory", "time"))
    checked = _checks.array("truth", truth, shape=shape)
    _checks.finite("truth", checked)
    for axis, name in enumerate(("n_trajectories", "n_times")):
        _checks.count(f"truth: {name}", checked.shape[axis], minimum=1)
    return checked


def mean_squares(
    analysis: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean square over components, of the analysis and its mirror image.

    Both are NaN where either is NaN, so that their minimum is NaN too.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        plain = ((analysis - truth) ** 2).mean(axis=-1)
        mirrored = ((mirror(analysis) - truth) ** 2).mean(axis=-1)
    return plain, mirrored


def nearer(analysis: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each analysis (..., 3), mirrored where that is nearer to the truth."""
    plain, mirrored = mean_squares(analysis, truth)
    return np.where((mirrored < plain)[..., None], mirror(analysis), analysis)


def squared_errors(
    analysis: np.ndarray, truth: np.ndarray, mirror_aware: bool
) -> np.ndarray:
    """Return the mean square over components at each time; mirror-aware if asked."""
    plain, mirrored = mean_squares(analysis, truth)
    return np.asarray(np.minimum(plain, mirrored) if mirror_aware else plain)


def by_trajectory(*mean_squares: np.ndarray) -> np.ndarray:
    """Return time means of root and square, (n_trajectories, 2 per argument)."""
    columns = []
    for squares in mean_squares:
        columns += [np.sqrt(squares).mean(axis=1), squares.mean(axis=1)]
    return np.stack(columns, axis=1)


def finish(means: np.ndarray) -> np.ndarray:
    """Return scores from means (..., k); odd columns are mean squares."""
    finished = means.copy()
    finished[..., 1::2] = np.sqrt(means[..., 1::2])
    return finished


@dataclass(frozen=True)
class Scores:
    """Scores of one set of analyses; a score is NaN if one of its analyses is NaN.

    Attributes
    ----------
    rmse_a : float
        Time mean of the instantaneous root mean square over the components (DAPPER).
    rmse_pooled_a : float
        Root of the mean square over trajectories, times and components.
    rmse_x, rmse_y, rmse_z : float
        Root of the mean square of one component; the mean of their squares is the
        square of rmse_pooled_a, or of its mirror-aware form.
    median, p95 : float
        Quantiles of the instantaneous root mean square.
    mirror_rmse_a, mirror_rmse_pooled_a : float
        The same with the smaller of the errors of x_a and S x_a at each time.
    sign_flip_rate : float
        Share of analyses whose mirror image is closer to the truth.
    divergence_rate : float
        Filter divergence: share of trajectories with a time-mean error above 7.6 or not
        finite.
    n_trajectories, n_analyses, n_non_finite : int
        Numbers of trajectories, of analyses, and of analyses with NaN or infinity.
    ci95 : dict of str to (float, float)
        95 % intervals of the four errors and of sign_flip_rate by bootstrap over
        trajectories, of divergence_rate by Clopper & Pearson (1934); NaN for a single
        trajectory.
    rare_losses : dict of str to bool
        Whether a few trajectories determine one of the four errors: the skewness of the
        trajectory means is above 2, or some are not finite. The interval does not cover
        losses that are not in this sample.
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
    seed: _checks.Seed = 0,
) -> Scores:
    """Return all scores of a set of analyses.

    Parameters
    ----------
    analysis : (n_trajectories, n_times, 3)
        NaN and infinity are counted, and make their scores non-finite.
    truth : (n_trajectories, n_times, 3)
    mirror_aware : bool
        Whether components, quantiles and divergence_rate use mirror-aware errors.
        `rmse_a` and `rmse_pooled_a` are never mirror-aware.
    n_bootstrap : int
        Number of resamples of the trajectories; with 0 the intervals are NaN.
    seed : int, SeedSequence or Generator
        Key of the resampling; equal seeds draw the same resamples.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the shapes differ, an axis is empty, or the truth is not finite.
    """
    analysis, truth = pair(analysis, truth)
    mirror_aware = _checks.boolean("mirror_aware", mirror_aware)
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    plain, mirrored = mean_squares(analysis, truth)
    smaller = np.minimum(plain, mirrored)
    flipped = mirrored < plain
    broken = ~np.isfinite(analysis).all(axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = (nearer(analysis, truth) if mirror_aware else analysis) - truth
        components = np.sqrt((errors**2).mean(axis=(0, 1)))
        each = np.sqrt(smaller if mirror_aware else plain)
        median, p95 = np.quantile(each, (0.5, 0.95))
    means = by_trajectory(plain, smaller)  # as `trajectory_means`
    time_mean = means[:, 2 if mirror_aware else 0]
    names = ("rmse_a", "rmse_pooled_a", "mirror_rmse_a", "mirror_rmse_pooled_a")
    values = dict(zip(names, finish(means.mean(axis=0)).tolist(), strict=True))
    divergence_rate = float(lost(time_mean).mean())
    # A non-finite analysis has no sign.
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
    # A pooled score is also marked where the time means of its roots are marked.
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

    Lost means a time mean that is above 7.6, the error of climatology, or not finite.
    """
    # Not `>`, so that NaN counts as lost.
    return np.asarray(~(time_means <= CLIMATOLOGICAL_RMS))


@ieee_arithmetic()
def trajectory_means(analysis: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the time means that scores are computed from, (n_trajectories, 4).

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)

    Returns
    -------
    (n_trajectories, 4)
        Time means of the instantaneous root mean square, of its square, and both
        mirror-aware. rmse_a and mirror_rmse_a are the means of columns 0 and 2;
        rmse_pooled_a and mirror_rmse_pooled_a the roots of the means of columns 1 and
        3.
    """
    plain, mirrored = mean_squares(*pair(analysis, truth))
    return by_trajectory(plain, np.minimum(plain, mirrored))


class Failure(IntEnum):
    """The kind of failure of an analysis."""

    NONE = 0
    SIGN_FLIP = 1
    WRONG_LOBE = 2
    SAME_LOBE = 3
    NOT_FINITE = 4

    @property
    def words(self) -> str:
        """Name in tables and figures."""
        return _WORDS[self]


_WORDS: Final = {
    Failure.NONE: "near the truth",
    Failure.SIGN_FLIP: "sign flip",
    Failure.WRONG_LOBE: "wrong lobe",
    Failure.SAME_LOBE: "right lobe, far off",
    Failure.NOT_FINITE: "not finite",
}


@ieee_arithmetic()
def classify_failures(
    analysis: np.ndarray, truth: np.ndarray, *, far_off: float = FAR_OFF
) -> np.ndarray:
    """Return a `Failure` for each analysis, (n_trajectories, n_times) int8.

    An analysis fails where the root mean square of its error over the components is
    above `far_off`. It is a sign flip where its mirror image is at most half as far
    from the truth; else the wrong lobe where x has the wrong sign; else the right lobe,
    far off.

    Parameters
    ----------
    analysis, truth : (n_trajectories, n_times, 3)
    far_off : float
        By default half the error of climatology, 3.8.
    """
    analysis, truth = pair(analysis, truth)
    far_off = _checks.real("far_off", far_off, above=0.0)
    plain, mirrored = mean_squares(analysis, truth)
    finite = np.isfinite(plain)
    with np.errstate(invalid="ignore"):
        failed = finite & (plain > far_off**2)
        flipped = mirrored < _MIRRORED**2 * plain
        other_side = np.sign(analysis[..., 0]) != np.sign(truth[..., 0])
    kinds = np.full(plain.shape, Failure.NONE, dtype=np.int8)
    # From general to special: a sign flip is also in the wrong lobe.
    kinds[failed] = Failure.SAME_LOBE
    kinds[failed & other_side] = Failure.WRONG_LOBE
    kinds[failed & flipped] = Failure.SIGN_FLIP
    kinds[~finite] = Failure.NOT_FINITE
    return kinds
