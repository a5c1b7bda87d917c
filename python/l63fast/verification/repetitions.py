"""Methods on the same repetitions and trajectories: intervals over both, and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l63fast import _checks, _random
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
    """Scores of methods over seeds and trajectories, all resampled together.

    Seeds are drawn first, then trajectories within each of them, since trajectories of
    one seed share an encoder. One seed fewer is drawn than there are, which makes the
    variance over seeds unbiased (McCarthy & Snowden 1985); from a single seed, the
    intervals are over trajectories only.

    Attributes
    ----------
    names : tuple of str
    scores : (n_methods,)
    resampled : (n_bootstrap, n_methods)
    n_seeds : int
    """

    names: tuple[str, ...]
    scores: np.ndarray
    resampled: np.ndarray
    n_seeds: int

    @classmethod
    def of(
        cls,
        means: dict[str, np.ndarray],
        *,
        measure: str = "pool",
        n_bootstrap: int = 1000,
        seed: int = 0,
    ) -> Repetitions:
        """Return the scores of methods.

        Parameters
        ----------
        means : dict of (n_seeds, n_trajectories)
            By method, the same seeds and trajectories for all: time means of the
            instantaneous root mean square for "rms", of its square for "pool", as
            `trajectory_means` gives them.
        measure : {"rms", "pool"}
        n_bootstrap, seed : int

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If there is no method, or shapes differ.
        """
        measure = _checks.choice("measure", measure, MEASURES)
        n_bootstrap = _checks.count("n_bootstrap", n_bootstrap)
        if not means:
            raise ArgumentValueError("means: expected at least one method, got none")
        shape = np.shape(next(iter(means.values())))
        arrays = [
            _checks.array(f"means[{name!r}]", values, shape=(None, None))
            for name, values in means.items()
        ]
        for name, array in zip(means, arrays, strict=True):
            if array.shape != shape:
                raise ArgumentValueError(
                    f"means[{name!r}]: expected {shape}, got {array.shape}"
                )
        values = np.stack(arrays, axis=-1)
        both = np.concatenate(
            [
                values.mean(axis=(0, 1))[None],
                _resampled(values, n_bootstrap, _checks.seed("seed", seed)),
            ]
        )
        scores = np.sqrt(both) if measure == "pool" else both
        return cls(tuple(means), scores[0], scores[1:], len(values))

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


def _resampled(values: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Return means (n_bootstrap, n_methods) of (n_seeds, n_trajectories, n_methods)."""
    n_seeds, n_trajectories, n_methods = values.shape
    if n_seeds == 1:
        return bootstrap_means(values[0], n_bootstrap, seed)
    drawn = n_seeds - 1
    shape = (drawn, 1 + n_trajectories)
    means = np.empty((n_bootstrap, n_methods))
    for i in range(n_bootstrap):
        draws = _random.uniforms(seed, "bootstrap", "none", 1, shape, first=i)[0]
        seeds = (draws[:, :1] * n_seeds).astype(np.intp)
        picked = (draws[:, 1:] * n_trajectories).astype(np.intp)
        means[i] = values[seeds, picked].mean(axis=(0, 1))
    return means
