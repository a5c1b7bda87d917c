"""Methods on the same data, in several trainings: intervals over all, and ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentValueError
from l63fast.verification.bootstrap import Interval, bootstrap_means, interval
from l63fast.verification.comparison import Comparison, contrasted
from l63fast.verification.measures import MEASURES

__all__ = ["Repetitions", "Standing"]


@dataclass(frozen=True)
class Standing:
    """Where a method stands among others.

    Attributes
    ----------
    rank : int
        One more than there are methods that are better with a 95 % interval of the
        paired difference that excludes 0; so several may have the same.
    equals : tuple of str
        Methods that it cannot be told from: the interval holds 0.
    """

    rank: int
    equals: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Repetitions:
    """Scores of methods over data, trainings and trajectories, all resampled together.

    Sets of data are drawn first and trajectories within each of them. Trainings on one
    set of data share its trajectories: both are drawn, each for itself (the pigeonhole
    bootstrap of Owen 2007). Of data and of trainings one fewer is drawn than there are,
    which makes the variance over them unbiased (McCarthy & Snowden 1985); what there is
    only one of adds nothing to an interval.

    Attributes
    ----------
    names : tuple of str
    scores : (n_methods,)
    resampled : (n_bootstrap, n_methods)
    n_data, n_trainings : int
    """

    names: tuple[str, ...]
    scores: np.ndarray
    resampled: np.ndarray
    n_data: int
    n_trainings: int = 1

    @classmethod
    @ieee_arithmetic()
    def of(
        cls,
        means: Mapping[str, np.ndarray],
        *,
        measure: str = "pool",
        n_bootstrap: int = 1000,
        seed: int = 0,
    ) -> Repetitions:
        """Return the scores of methods.

        Parameters
        ----------
        means : dict of (n_data, n_trajectories)
            Or of (n_data, n_trainings, n_trajectories). By method, the same data and
            trajectories for all: time means of the instantaneous root mean square for
            "rms", of its square for "pool", as `trajectory_means` gives them. A method
            that is trained once, or not at all, is the same beside every training of
            another.
        measure : {"rms", "pool"}
        n_bootstrap, seed : int

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If there is no method, or shapes differ.
        """
        measure = _checks.choice("measure", measure, MEASURES)
        n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
        values = _together(means)
        both = np.concatenate(
            [
                values.mean(axis=(0, 1, 2))[None],
                _resampled(values, n_bootstrap, _checks.seed("seed", seed)),
            ]
        )
        scores = np.sqrt(both) if measure == "pool" else both
        return cls(tuple(means), scores[0], scores[1:], *values.shape[:2])

    def score(self, name: str) -> tuple[float, Interval]:
        """Return the score of a method and its 95 % interval."""
        i = self.names.index(name)
        return float(self.scores[i]), interval(self.resampled[:, i])

    def compare(self, a: str, b: str) -> Comparison:
        """Return difference and ratio of the scores of two methods, paired."""
        columns = [self.names.index(a), self.names.index(b)]
        both = np.concatenate([self.scores[None], self.resampled])[:, columns]
        return contrasted(both)

    def standings(self, names: tuple[str, ...]) -> dict[str, Standing]:
        """Return where each of some methods stands among them."""
        found = {}
        for name in names:
            better, equals = 0, []
            for other in names:
                low, high = self.compare(other, name).difference_ci95
                if other != name and high < 0.0:
                    better += 1
                elif other != name and not low > 0.0:
                    equals.append(other)
            found[name] = Standing(1 + better, tuple(equals))
        return found


def _together(means: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the means as (n_data, n_trainings, n_trajectories, n_methods)."""
    if not means:
        raise ArgumentValueError("means: expected at least one method, got none")
    arrays = {}
    for name, given in means.items():
        shape = (None,) * (3 if np.ndim(given) == 3 else 2)
        values = _checks.array(f"means[{name!r}]", given, shape=shape)
        arrays[name] = values if values.ndim == 3 else values[:, None]
    n_data, _, n = next(iter(arrays.values())).shape
    numbers = [values.shape[1] for values in arrays.values()]
    trainings = next((number for number in numbers if number > 1), 1)
    for name, values in arrays.items():
        if values.shape not in ((n_data, trainings, n), (n_data, 1, n)):
            expected = (n_data, n) if trainings == 1 else (n_data, trainings, n)
            raise ArgumentValueError(
                f"means[{name!r}]: expected {expected}, got {np.shape(means[name])}"
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
