"""Comparison of methods on the same data: paired intervals, and ranks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentValueError
from l63fast.verification.bootstrap import (
    Interval,
    Resampled,
    bootstrap_means,
    left_out_means,
    proportion_interval,
    rare_losses,
    resample,
)
from l63fast.verification.scores import (
    MEASURES,
    by_trajectory,
    lost,
    pair,
    squared_errors,
)


@dataclass(frozen=True)
class Comparison:
    """The comparison of two methods on the same trajectories, resampled together.

    Attributes
    ----------
    difference : float
        Score of a minus score of b; negative where a is better.
    difference_ci95 : (float, float)
    ratio : float
        Score of a divided by score of b.
    ratio_ci95 : (float, float)
    rare_losses : bool
        Whether a few trajectories determine one of the scores; then the intervals are
        too narrow by an unknown amount.
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
    seed: _checks.Seed = 0,
) -> Comparison:
    """Return difference and ratio of two scores, with paired 95 % intervals.

    Both methods are resampled with the same trajectories, so that trajectories that are
    difficult for both do not widen the intervals.

    Parameters
    ----------
    a, b : (n_trajectories,)
        Time means of the instantaneous root mean square for "rmse_a", of its square for
        "rmse_pooled_a"; see `trajectory_means`.
    measure : {"rmse_a", "rmse_pooled_a"}
    n_bootstrap : int
    seed : int, SeedSequence or Generator

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
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
    """Return the comparison of the scores of two columns."""
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
    seed: _checks.Seed = 0,
) -> tuple[float, float, float]:
    """Return the score of `a` minus the score of `b`, and its 95 % interval.

    Both are resampled with the same trajectories; see `compare`.

    Parameters
    ----------
    a, b, truth : (n_trajectories, n_times, 3)
    measure : {"rmse_a", "rmse_pooled_a"}
    mirror_aware : bool
    n_bootstrap : int
    seed : int, SeedSequence or Generator

    Returns
    -------
    difference, low, high : float
        Negative where `a` is better.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    measure = _checks.choice("measure", measure, MEASURES)
    mirror_aware = _checks.boolean("mirror_aware", mirror_aware)
    columns = []
    for name, analysis in (("a", a), ("b", b)):
        squares = squared_errors(*pair(analysis, truth, name), mirror_aware)
        columns.append(by_trajectory(squares)[:, MEASURES.index(measure)])
    result = compare(*columns, measure=measure, n_bootstrap=n_bootstrap, seed=seed)
    return (result.difference, *result.difference_ci95)


@dataclass(frozen=True)
class MethodScore:
    """The score of a method, its 95 % interval, and warnings about that interval.

    Attributes
    ----------
    value : float
    ci95 : (float, float)
    rare_losses : bool
        Whether a few trajectories determine the score: the trajectory means are too
        skewed (see `bootstrap.rare_losses`), or some are not finite. Then ci95 does not
        cover losses that are not in the sample; `lost_ci95` does, and `median` does not
        depend on them.
    median : float
        Median of the trajectory means; its root for "rmse_pooled_a".
    lost : float
        Share of lost trajectories: time-mean error above 7.6, or not finite. NaN where
        the time means are not known.
    lost_ci95 : (float, float)
        Exact interval of that share (Clopper & Pearson 1934).
    """

    value: float
    ci95: Interval
    rare_losses: bool
    median: float
    lost: float
    lost_ci95: Interval


@dataclass(frozen=True)
class Rank:
    """The rank of a method among others, and its ties.

    Attributes
    ----------
    rank : int or None
        1 for the best method and for all methods that are not distinguishable from it,
        by the 95 % interval of their paired difference. The remaining methods are
        ranked in the same way; their rank is one more than the number of methods before
        them. None for a method without rank: its score is determined by rare losses, or
        is not finite.
    ties : tuple of str
        Methods with a rank that are not distinguishable from it in pairs.
    worst : int or None
        The rank if all methods without rank whose score is lower (in a tie: lower than
        the best of it) are better indeed; equal to `rank` if there are none.
    """

    rank: int | None
    ties: tuple[str, ...]
    worst: int | None


@dataclass(frozen=True, eq=False)
class Repetitions:
    """Scores of methods over data sets, trainings and trajectories, resampled together.

    Data sets are drawn first, then trajectories within each of them. All trainings on
    one data set use its trajectories; trainings and trajectories are drawn
    independently (the pigeonhole bootstrap of Owen 2007). Of n data sets or trainings n
    - 1 are drawn, which makes the variance over them unbiased (McCarthy & Snowden
    1985); a single one adds nothing to an interval. The acceleration of the BCa
    intervals is from leaving out one trajectory at a time, in all trainings.

    Attributes
    ----------
    names : tuple of str
        The methods.
    scores : (n_methods,)
    resampled : (n_bootstrap, n_methods)
    left_out : (n_data * n_trajectories, n_methods)
        The scores without one trajectory.
    medians : (n_methods,)
        Medians of the trajectory means.
    lost : (n_methods,)
        Share of lost trajectories; NaN where it is not known.
    rare_losses : (n_methods,) of bool
    n_data, n_trainings : int
    """

    names: tuple[str, ...]
    scores: np.ndarray
    resampled: np.ndarray
    left_out: np.ndarray
    medians: np.ndarray
    lost: np.ndarray
    rare_losses: np.ndarray
    n_data: int
    n_trainings: int = 1

    @classmethod
    @ieee_arithmetic()
    def of(
        cls,
        means: Mapping[str, np.ndarray],
        *,
        measure: str = "rmse_pooled_a",
        rmse_means: Mapping[str, np.ndarray] | None = None,
        n_bootstrap: int = 1000,
        seed: _checks.Seed = 0,
    ) -> Repetitions:
        """Return the scores of methods.

        Parameters
        ----------
        means : dict of (n_data, n_trajectories)
            Or (n_data, n_trainings, n_trajectories). By method, with the same data and
            trajectories for all: time means of the instantaneous root mean square for
            "rmse_a", of its square for "rmse_pooled_a"; see `trajectory_means`. A
            method with one training, or without training, is compared with every
            training of the others.
        measure : {"rmse_a", "rmse_pooled_a"}
        rmse_means : dict of arrays, optional
            For "rmse_pooled_a": the time means of the instantaneous root mean square,
            in the shapes of `means`, which decide what trajectories are lost.
        n_bootstrap : int
        seed : int, SeedSequence or Generator

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If there is no method, or if methods or shapes differ.
        """
        measure = _checks.choice("measure", measure, MEASURES)
        n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
        values = _together("means", means)
        times = (
            values if measure == "rmse_a" else _times(rmse_means, means, values.shape)
        )
        seed = _checks.seed("seed", seed)
        finish = np.sqrt if measure == "rmse_pooled_a" else np.asarray
        trajectories = values.mean(axis=1)  # over trainings, (n_data, n, n_methods)
        marked = rare_losses(trajectories, of_squares=measure == "rmse_pooled_a")
        share_lost = np.full(len(means), np.nan)
        if times is not None:
            marked |= rare_losses(times.mean(axis=1))
            share_lost = lost(times).mean(axis=(0, 1, 2))
        # A NaN counts as the worst value, so that the median stays defined.
        medians = np.median(np.where(np.isnan(values), np.inf, values), axis=(0, 1, 2))
        return cls(
            tuple(means),
            finish(values.mean(axis=(0, 1, 2))),
            finish(_resampled(values, n_bootstrap, seed)),
            finish(left_out_means(trajectories)),
            finish(medians),
            share_lost,
            marked,
            *values.shape[:2],
        )

    def score(self, name: str) -> MethodScore:
        """Return the score of a method, its 95 % interval, and warnings about that."""
        i = self.names.index(name)
        share = float(self.lost[i])
        return MethodScore(
            value=float(self.scores[i]),
            ci95=self._columns([i]).interval(),
            rare_losses=bool(self.rare_losses[i]),
            median=float(self.medians[i]),
            lost=share,
            lost_ci95=proportion_interval(share, len(self.left_out)),
        )

    def compare(self, a: str, b: str) -> Comparison:
        """Return difference and ratio of the scores of two methods, paired."""
        columns = [self.names.index(a), self.names.index(b)]
        marked = bool(self.rare_losses[columns].any())
        return contrasted(self._columns(columns), marked)

    def standings(
        self,
        names: tuple[str, ...],
        tie: Callable[[str, str, Comparison], bool] | None = None,
    ) -> dict[str, Rank]:
        """Return the rank of each of some methods among them.

        Parameters
        ----------
        names : tuple of str
        tie : callable, optional
            Called with two methods and their comparison. Returns whether they count as
            ties although the interval of their difference excludes 0.
        """
        ranked = self._ranked(names)
        ties: dict[str, set[str]] = {name: set() for name in ranked}
        for a, b in itertools.combinations(ranked, 2):
            if self._is_tie(a, b) or (
                tie is not None and tie(a, b, self.compare(a, b))
            ):
                ties[a].add(b)
                ties[b].add(a)
        scores = dict(zip(self.names, self.scores, strict=True))
        unranked = [scores[name] for name in names if name not in ranked]
        places: dict[str, tuple[int, int]] = {}
        # The best of the rest and all its ties share the next rank.
        while left := [name for name in ranked if name not in places]:
            best, rank = left[0], 1 + len(places)
            group = [best, *(name for name in left if name in ties[best])]
            n_lower = sum(bool(score < scores[best]) for score in unranked)
            places |= dict.fromkeys(group, (rank, rank + n_lower))
        found = {}
        for name in names:
            rank_of, worst = places.get(name, (None, None))
            beside = tuple(other for other in names if other in ties.get(name, ()))
            found[name] = Rank(rank_of, beside, worst)
        return found

    def _columns(self, columns: list[int]) -> Resampled:
        return Resampled(
            self.scores[columns], self.resampled[:, columns], self.left_out[:, columns]
        )

    def _ranked(self, names: tuple[str, ...]) -> list[str]:
        """Return the methods that can have a rank, from the lowest score on."""
        values = {name: self.scores[self.names.index(name)] for name in names}
        marked = {name: self.rare_losses[self.names.index(name)] for name in names}
        able = [
            name for name in names if not marked[name] and np.isfinite(values[name])
        ]
        return sorted(able, key=values.__getitem__)

    def _is_tie(self, a: str, b: str) -> bool:
        low, high = self.compare(a, b).difference_ci95
        return not (low > 0.0 or high < 0.0)


def _times(
    rmse_means: Mapping[str, np.ndarray] | None,
    means: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
) -> np.ndarray | None:
    """Return the time means of `rmse_means`, stacked like `means`, or None."""
    if rmse_means is None:
        return None
    if set(rmse_means) != set(means):
        raise ArgumentValueError(
            f"rmse_means: expected the methods of means, {', '.join(means)}, "
            f"got {', '.join(rmse_means) or 'none'}"
        )
    times = _together("rmse_means", {name: rmse_means[name] for name in means})
    if times.shape != shape:
        raise ArgumentValueError(
            f"rmse_means: expected {shape[:-1]} of each method, got {times.shape[:-1]}"
        )
    return times


def _together(argument: str, means: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the means as (n_data, n_trainings, n_trajectories, n_methods)."""
    if not means:
        raise ArgumentValueError(f"{argument}: expected at least one method, got none")
    arrays = {}
    for name, given in means.items():
        shape = (None,) * (3 if np.ndim(given) == 3 else 2)
        values = _checks.array(f"{argument}[{name!r}]", given, shape=shape)
        arrays[name] = values if values.ndim == 3 else values[:, None]
    n_data, _, n = next(iter(arrays.values())).shape
    numbers = [values.shape[1] for values in arrays.values()]
    trainings = next((number for number in numbers if number > 1), 1)
    for name, values in arrays.items():
        if values.shape not in ((n_data, trainings, n), (n_data, 1, n)):
            expected = (n_data, n) if trainings == 1 else (n_data, trainings, n)
            raise ArgumentValueError(
                f"{argument}[{name!r}]: expected {expected}, "
                f"got {np.shape(means[name])}"
            )
    whole = (n_data, trainings, n)
    return np.stack([np.broadcast_to(v, whole) for v in arrays.values()], axis=-1)


def _resampled(values: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Return resampled means (n_bootstrap, n_methods) of an array from `_together`.

    Each resample draws data sets; for each of these, trajectories and trainings.
    """
    n_data, n_trainings, n_trajectories, n_methods = values.shape
    # Only trajectories can be resampled; a single one gives NaN.
    if n_data == 1 and (n_trainings == 1 or n_trajectories == 1):
        return bootstrap_means(values[0].mean(axis=0), n_bootstrap, seed)
    # One fewer than there are: unbiased variance (McCarthy & Snowden 1985).
    n_drawn, n_trained = max(n_data - 1, 1), max(n_trainings - 1, 1)
    shape = (n_drawn, 1 + n_trajectories + n_trained)
    means = np.empty((n_bootstrap, n_methods))
    for i in range(n_bootstrap):
        draws = _random.uniforms(seed, "bootstrap", "none", 1, shape, first=i)[0]
        data = (draws[:, 0] * n_data).astype(np.intp)
        picked = (draws[:, 1 : 1 + n_trajectories] * n_trajectories).astype(np.intp)
        trainings = (draws[:, 1 + n_trajectories :] * n_trainings).astype(np.intp)
        chosen = [
            values[d][t].mean(axis=0)[p]
            for d, t, p in zip(data, trainings, picked, strict=True)
        ]
        means[i] = np.mean(chosen, axis=(0, 1))
    return means
