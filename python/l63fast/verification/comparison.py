"""Two sets of analyses on the same trajectories: paired differences and ratios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.verification.bootstrap import (
    Interval,
    Resampled,
    rare_losses,
    resample,
)
from l63fast.verification.measures import (
    MEASURES,
    by_trajectory,
    pair,
    squared_errors,
)

__all__ = ["Comparison", "compare", "contrasted", "paired_difference"]


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same trajectories, resampled together.

    Attributes
    ----------
    difference : float
        Score of a minus that of b; negative where a is better.
    difference_ci95 : (float, float)
    ratio : float
        Score of a over that of b.
    ratio_ci95 : (float, float)
    rare_losses : bool
        Whether few trajectories make the score of either, so that the intervals are too
        narrow by an unknown amount.
    """

    difference: float
    difference_ci95: Interval
    ratio: float
    ratio_ci95: Interval
    rare_losses: bool = False


@ieee_arithmetic()
def compare(
    a: np.ndarray,
    b: np.ndarray,
    *,
    measure: str = "rmse_pooled_a",
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Return difference and ratio of two scores, with paired 95 % intervals.

    Both are resampled with the same trajectories, so what is hard for both cancels.

    Parameters
    ----------
    a, b : (n_trajectories,)
        Time means of the instantaneous root mean square for "rmse_a", of its square for
        "rmse_pooled_a", as `trajectory_means` gives them.
    measure : {"rmse_a", "rmse_pooled_a"}
    n_bootstrap, seed : int
    """
    measure = _checks.choice("measure", measure, MEASURES)
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
    a = _checks.array("a", a, shape=(None,))
    means = np.stack([a, _checks.array("b", b, shape=a.shape)], axis=1)
    scores = resample(means, n_bootstrap, seed)
    marked = rare_losses(means[None], of_squares=measure == "rmse_pooled_a")
    if measure == "rmse_pooled_a":
        scores = scores.apply(np.sqrt)
    return contrasted(scores, bool(marked.any()))


def contrasted(scores: Resampled, has_rare_losses: bool) -> Comparison:
    """Return how the scores of the two columns differ."""
    both = scores.apply(
        lambda of: np.stack([of[..., 0] - of[..., 1], of[..., 0] / of[..., 1]], axis=-1)
    )
    difference, ratio = both.measured.tolist()
    return Comparison(
        difference,
        both.interval(0, paired=True),
        ratio,
        both.interval(1, paired=True),
        has_rare_losses,
    )


@ieee_arithmetic()
def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    truth: np.ndarray,
    *,
    measure: str = "rmse_pooled_a",
    mirror_aware: bool = False,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the score of `a` minus that of `b`, and its 95 % interval.

    Both are resampled with the same trajectories, so what is hard for both cancels.

    Parameters
    ----------
    a, b, truth : (n_trajectories, n_times, 3)
    measure : "rmse_a" or "rmse_pooled_a"
    mirror_aware : bool
    n_bootstrap, seed : int

    Returns
    -------
    difference, low, high : float
        Negative where `a` is better.
    """
    measure = _checks.choice("measure", measure, MEASURES)
    mirror_aware = _checks.boolean("mirror_aware", mirror_aware)
    columns = []
    for name, analysis in (("a", a), ("b", b)):
        squares = squared_errors(*pair(analysis, truth, name), mirror_aware)
        columns.append(by_trajectory(squares)[:, MEASURES.index(measure)])
    found = compare(*columns, measure=measure, n_bootstrap=n_bootstrap, seed=seed)
    return (found.difference, *found.difference_ci95)
