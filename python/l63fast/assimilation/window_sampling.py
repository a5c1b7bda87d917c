"""Samples of what is known of windows: cooled step by step, moved in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from l63fast import _random

_SAMPLES: Final = 1024  # of each window
_SWEEPS: Final = 6  # in which all of them may move, after each cooling
_BLOCK: Final = 64  # samples side by side whose differences are the others' steps
_LENGTHS: Final = np.array([1.2, 0.6, 0.3])  # of steps, in units of such differences
_KEPT: Final = 0.5  # effective size after a cooling, in shares of the samples

# Takes states (n, k, 3) and windows (n,); gives misfits (n, k), last states (n, k, 3).
Weigh = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Population(NamedTuple):
    """States that stand for a distribution, one of each window.

    Attributes
    ----------
    origins : (n, k, 3)
        Where they begin, some time before the window.
    square : (n, k)
        Squared misfits of what they show to what was seen, in units of its errors.
    last : (n, k, 3)
        Where they end.
    """

    origins: np.ndarray
    square: np.ndarray
    last: np.ndarray

    def taken(self, index: np.ndarray) -> Population:
        """Return those of the indices (n, k') in each window."""
        return Population(
            np.take_along_axis(self.origins, index[..., None], axis=1),
            np.take_along_axis(self.square, index, axis=1),
            np.take_along_axis(self.last, index[..., None], axis=1),
        )


def shares(square: np.ndarray, coldness: np.ndarray) -> np.ndarray:
    """Return weights (n, k) of squared misfits, exp(-coldness square / 2), of sum 1."""
    above = square - square.min(axis=1, keepdims=True)
    weights = np.exp(-0.5 * coldness[:, None] * above)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def coldest(square: np.ndarray, size: float, most: np.ndarray) -> np.ndarray:
    """Return the coldness (n,), at most `most`, that leaves an effective size."""

    def is_enough(coldness: np.ndarray) -> np.ndarray:
        share = shares(square, coldness)
        return np.asarray(1.0 / (share**2).sum(axis=1) >= size)

    low, high = np.zeros(len(square)), most.copy()
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = is_enough(middle)
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.where(is_enough(most), most, low)


def sampled(
    weigh: Weigh, start: Population, coldness: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples (n, k, 3) of last states, and how many of them differ (n,).

    A sequential Monte Carlo sampler (Del Moral, Doucet & Jasra 2006) of the likelihood
    to the power of a coldness that grows to 1. Each cooling leaves half the effective
    size; samples are then drawn anew by their weights and moved by Metropolis steps
    along differences of others (ter Braak 2006), of those that are beside them along
    one of the principal axes after the other.
    Steps begin before the window, so that what leaves the attractor falls back; the
    climate's density is taken to be the same over the length of a step.

    Parameters
    ----------
    weigh : callable
    start : Population
        Of the climate.
    coldness : (n,)
        At which the population holds all of the weight.
    seed : int
    """
    n = len(coldness)
    last, distinct = np.empty((n, _SAMPLES, 3)), np.empty(n)
    open_, now, cooled, stage = np.arange(n), start, coldness.copy(), 0
    share = shares(now.square, cooled)
    while len(open_):
        draws = _Draws.of(seed, stage)
        now = now.taken(_resampled(share, draws.offset))
        for sweep, uniforms in enumerate(draws.sweeps):
            if sweep % 2 == 0:
                now = _sorted(now, -1 - sweep // 2 % 3)
            now = _moved(weigh, now, open_, cooled, uniforms, sweep % 2)
        done = cooled >= 1.0
        last[open_[done]] = now.last[done]
        distinct[open_[done]] = [len(np.unique(s[:, 0])) for s in now.last[done]]
        now = Population(*(values[~done] for values in now))
        open_, cooled, stage = open_[~done], cooled[~done], stage + 1
        further = coldest(now.square, _KEPT * _SAMPLES, 1.0 - cooled)
        share, cooled = shares(now.square, further), cooled + further
    return last, distinct


class _Draws(NamedTuple):
    """The random numbers of a stage, the same for all windows."""

    offset: float
    sweeps: np.ndarray

    @classmethod
    def of(cls, seed: int, stage: int) -> _Draws:
        shape = (2 * _SWEEPS, _SAMPLES // 2, 4)
        n = int(np.prod(shape))
        found = _random.uniforms(seed, "scheme", "none", 1, (n + 1,), draw=stage)[0]
        return cls(float(found[n]), found[:n].reshape(shape))


def _resampled(share: np.ndarray, offset: float) -> np.ndarray:
    """Return indices (n, k), each as often as its share says: systematic resampling."""
    heights = (np.arange(_SAMPLES) + offset) / _SAMPLES
    sums = share.cumsum(axis=1)
    sums /= sums[:, -1:]
    return np.stack([np.searchsorted(row, heights) for row in sums])


def _sorted(population: Population, axis: int) -> Population:
    """Return the samples of each window along a principal axis of their origins."""
    about = population.origins - population.origins.mean(axis=1, keepdims=True)
    axes = np.linalg.eigh(np.einsum("nki,nkj->nij", about, about))[1]
    along = np.einsum("nki,ni->nk", about, axes[:, :, axis])
    return population.taken(np.argsort(along, axis=1, kind="stable"))


def _moved(
    weigh: Weigh,
    now: Population,
    windows: np.ndarray,
    coldness: np.ndarray,
    uniforms: np.ndarray,
    half: int,
) -> Population:
    """Return the population after every other sample had its chance to move."""
    movers, others = slice(half, None, 2), slice(1 - half, None, 2)
    mine, theirs = now.origins[:, movers], now.origins[:, others]
    k = mine.shape[1]
    one, other, length, chance = uniforms.T
    block = np.arange(k) // _BLOCK * _BLOCK
    a, b = (block + (u * _BLOCK).astype(np.intp) for u in (one, other))
    step = _LENGTHS[(length * len(_LENGTHS)).astype(np.intp)]
    proposed = mine + step[:, None] * (theirs[:, a] - theirs[:, b])
    square, last = weigh(proposed, windows)
    worse = square - now.square[:, movers]
    accepted = np.log(chance) < -0.5 * coldness[:, None] * worse
    moved = Population(*(values.copy() for values in now))
    moved.origins[:, movers] = np.where(accepted[..., None], proposed, mine)
    moved.square[:, movers] = np.where(accepted, square, now.square[:, movers])
    moved.last[:, movers] = np.where(accepted[..., None], last, now.last[:, movers])
    return moved
