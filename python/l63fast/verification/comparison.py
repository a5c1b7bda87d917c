"""Methods on the same data: paired contrasts, intervals over trainings, and ranks."""

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
    seed: _checks.Seed = 0,
) -> Comparison:
    """Return difference and ratio of two scores, with paired 95 % intervals.

    Both are resampled with the same trajectories, so what is hard for both cancels.

    Parameters
    ----------
    a, b : (n_trajectories,)
        Time means of the instantaneous root mean square for "rmse_a", of its square for
        "rmse_pooled_a", as `trajectory_means` gives them.
    measure : {"rmse_a", "rmse_pooled_a"}
    n_bootstrap : int
    seed : int, SeedSequence or Generator
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
    seed: _checks.Seed = 0,
) -> tuple[float, float, float]:
    """Return the score of `a` minus that of `b`, and its 95 % interval.

    Both are resampled with the same trajectories, so what is hard for both cancels.

    Parameters
    ----------
    a, b, truth : (n_trajectories, n_times, 3)
    measure : "rmse_a" or "rmse_pooled_a"
    mirror_aware : bool
    n_bootstrap : int
    seed : int, SeedSequence or Generator

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


@dataclass(frozen=True)
class MethodScore:
    """The score of a method, and how far its interval can be trusted.

    Attributes
    ----------
    value : float
    ci95 : (float, float)
    rare_losses : bool
        Whether few trajectories make the score: their means are too skewed (see
        `bootstrap.rare_losses`), or some are not finite. The interval does not know of
        losses that are not in the sample; `lost_ci95` does, and `median` does not
        depend on them.
    median : float
        Of the trajectory means; its root for "rmse_pooled_a", as the score is.
    lost : float
        Share of trajectories that are lost: time-mean error above 7.6, or not finite.
        NaN where the time means are not known.
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
    """Where a method stands among others.

    Attributes
    ----------
    rank : int or None
        1 for the best and all methods that are not distinguishable from it, by the 95 %
        interval of their paired difference; then in the same way among those that are
        left, one more than there are methods of lower rank. None for a method without
        one: its score is made by rare losses, or is not finite.
    ties : tuple of str
        Methods with a rank that it is not distinguishable from, one by one.
    """

    rank: int | None
    ties: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Repetitions:
    """Scores of methods over data, trainings and trajectories, all resampled together.

    Sets of data are drawn first and trajectories within each of them. Trainings on one
    set of data share its trajectories: both are drawn, each for itself (the pigeonhole
    bootstrap of Owen 2007). Of data and of trainings one fewer is drawn than there are,
    which makes the variance over them unbiased (McCarthy & Snowden 1985); what there is
    only one of adds nothing to an interval. The acceleration of the intervals (BCa) is
    from leaving out one trajectory at a time, from all trainings.

    Attributes
    ----------
    names : tuple of str
    scores : (n_methods,)
    resampled : (n_bootstrap, n_methods)
    left_out : (n_data * n_trajectories, n_methods)
        The scores without one trajectory.
    medians : (n_methods,)
        Of the trajectory means.
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
            Or of (n_data, n_trainings, n_trajectories). By method, the same data and
            trajectories for all: time means of the instantaneous root mean square for
            "rmse_a", of its square for "rmse_pooled_a", as `trajectory_means` gives
            them. A method that is trained once, or not at all, is the same beside every
            training of another.
        measure : {"rmse_a", "rmse_pooled_a"}
        rmse_means : dict of arrays, optional
            For "rmse_pooled_a", time means of the instantaneous root mean square by
            method, in the shapes of `means`: they say which trajectories are lost. For
            "rmse_a" these are `means`.
        n_bootstrap : int
        seed : int, SeedSequence or Generator

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If there is no method, or methods or shapes differ.
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
        """Return the score of a method, its 95 % interval, and what to think of it."""
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
        """Return where each of some methods stands among them.

        Parameters
        ----------
        names : tuple of str
        tie : callable, optional
            Says of two methods, and how they compare, whether they count as ties
            although the interval of their difference leaves out 0.
        """
        ranked = self._ranked(names)
        ties: dict[str, set[str]] = {name: set() for name in ranked}
        for a, b in itertools.combinations(ranked, 2):
            if self._is_tie(a, b) or (
                tie is not None and tie(a, b, self.compare(a, b))
            ):
                ties[a].add(b)
                ties[b].add(a)
        ranks: dict[str, int] = {}
        while left := [name for name in ranked if name not in ranks]:
            place = 1 + len(ranks)
            group = [left[0], *(name for name in left if name in ties[left[0]])]
            ranks |= dict.fromkeys(group, place)
        return {
            name: Rank(
                ranks.get(name),
                tuple(other for other in names if other in ties.get(name, ())),
            )
            for name in names
        }

    def _columns(self, columns: list[int]) -> Resampled:
        return Resampled(
            self.scores[columns], self.resampled[:, columns], self.left_out[:, columns]
        )

    def _ranked(self, names: tuple[str, ...]) -> list[str]:
        """Return those that can have a rank, by their scores."""
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
    """Return the time means that belong to squares, as `_together`, where known."""
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
    """Return resampled means (n_bootstrap, n_methods) of what `_together` gives."""
    n_data, n_trainings, n_trajectories, n_methods = values.shape
    if n_data == 1 and (n_trainings == 1 or n_trajectories == 1):
        return bootstrap_means(values[0].mean(axis=0), n_bootstrap, seed)
    n_drawn, n_taught = max(n_data - 1, 1), max(n_trainings - 1, 1)
    shape = (n_drawn, 1 + n_trajectories + n_taught)
    means = np.empty((n_bootstrap, n_methods))
    for i in range(n_bootstrap):
        draws = _random.uniforms(seed, "bootstrap", "none", 1, shape, first=i)[0]
        data = (draws[:, 0] * n_data).astype(np.intp)
        picked = (draws[:, 1 : 1 + n_trajectories] * n_trajectories).astype(np.intp)
        taught = (draws[:, 1 + n_trajectories :] * n_trainings).astype(np.intp)
        chosen = [
            values[d][t].mean(axis=0)[p]
            for d, t, p in zip(data, taught, picked, strict=True)
        ]
        means[i] = np.mean(chosen, axis=(0, 1))
    return means
