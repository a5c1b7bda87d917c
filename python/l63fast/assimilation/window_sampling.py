"""Samples of the posterior of windows, by a tempered sequential Monte Carlo sampler.

The likelihood exp(-square / 2) is raised to a tempering exponent that grows from a
small value to 1. Each stage (1) raises the exponent as far as the effective sample size
allows, (2) resamples by the change of the weights, and (3) moves the samples by
Metropolis steps, which restores their diversity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from l63fast import _random

_SAMPLES: Final = 1024  # number of samples per window
_SWEEPS: Final = 6  # sweeps per stage; in each every sample may move once
_BLOCK: Final = 64  # neighbouring samples whose differences give proposals
_LENGTHS: Final = np.array(
    [1.2, 0.6, 0.3]
)  # of proposed steps, in units of these differences
_KEPT: Final = 0.5  # effective size after a stage, as a share of the samples

# Takes origins (n, k, 3) and indices of windows (n,); returns squared misfits (n, k)
# and last states (n, k, 3).
Weigh = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class Population(NamedTuple):
    """Samples of a distribution of states, k for each of n windows.

    Attributes
    ----------
    origins : (n, k, 3)
        Where their trajectories begin, some time before the window.
    square : (n, k)
        Squared misfits to the window's observations, in units of their errors.
    last : (n, k, 3)
        Where their trajectories end.
    """

    origins: np.ndarray
    square: np.ndarray
    last: np.ndarray

    def taken(self, index: np.ndarray) -> Population:
        """Return the samples with the indices (n, k') in each window."""
        return Population(
            np.take_along_axis(self.origins, index[..., None], axis=1),
            np.take_along_axis(self.square, index, axis=1),
            np.take_along_axis(self.last, index[..., None], axis=1),
        )


def shares(square: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Return normalised weights (n, k), proportional to exp(-exponent square / 2)."""
    # Relative to the smallest, so that the largest weight is 1 before normalisation.
    above = square - square.min(axis=1, keepdims=True)
    weights = np.exp(-0.5 * exponent[:, None] * above)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def largest_exponent(square: np.ndarray, size: float, most: np.ndarray) -> np.ndarray:
    """Return the largest exponents (n,) up to `most` with the effective size `size`.

    The effective size decreases with the exponent, so bisection finds it.
    """

    def is_enough(exponent: np.ndarray) -> np.ndarray:
        share = shares(square, exponent)
        return np.asarray(1.0 / (share**2).sum(axis=1) >= size)

    low, high = np.zeros(len(square)), most.copy()
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = is_enough(middle)
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.where(is_enough(most), most, low)


def sampled(
    weigh: Weigh, start: Population, exponent: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples (n, k, 3) of last states, and the number of distinct ones (n,).

    A sequential Monte Carlo sampler (Del Moral, Doucet & Jasra 2006) of the likelihood
    to the power of a tempering exponent that grows to 1. Each stage raises the exponent
    so far that the effective size is half the number of samples; then samples are
    resampled and moved by Metropolis steps. Proposals use differences between nearby
    samples (ter Braak 2006), sorted along each principal axis in turn. Steps are made
    in the origins, before the window, so that a proposal off the attractor returns to
    it. The prior density is assumed constant over one proposal step.

    Parameters
    ----------
    weigh : callable
    start : Population
        Samples of the prior.
    exponent : (n,)
        First exponents, at which the population holds all of the weight.
    seed : int
    """
    n = len(exponent)
    last, distinct = np.empty((n, _SAMPLES, 3)), np.empty(n)
    open_, now, reached, stage = np.arange(n), start, exponent.copy(), 0
    share = shares(now.square, reached)
    while len(open_):
        draws = _Draws.of(seed, stage)
        now = now.taken(_resampled(share, draws.offset))
        for sweep, uniforms in enumerate(draws.sweeps):
            # Two sweeps per axis: first one half of the samples moves, then the other.
            if sweep % 2 == 0:
                now = _sorted(now, -1 - sweep // 2 % 3)
            now = _moved(weigh, now, open_, reached, uniforms, sweep % 2)
        # With the exponent 1 the samples are those of the posterior.
        done = reached >= 1.0
        last[open_[done]] = now.last[done]
        distinct[open_[done]] = [len(np.unique(s[:, 0])) for s in now.last[done]]
        now = Population(*(values[~done] for values in now))
        open_, reached, stage = open_[~done], reached[~done], stage + 1
        # After resampling all weights are equal, so the change of the exponent gives
        # them.
        further = largest_exponent(now.square, _KEPT * _SAMPLES, 1.0 - reached)
        share, reached = shares(now.square, further), reached + further
    return last, distinct


class _Draws(NamedTuple):
    """The random numbers of a stage, the same for all windows."""

    offset: float
    sweeps: np.ndarray

    @classmethod
    def of(cls, seed: int, stage: int) -> _Draws:
        shape = (2 * _SWEEPS, _SAMPLES // 2, 4)
        n = int(np.prod(shape))
        uniforms = _random.uniforms(seed, "scheme", "none", 1, (n + 1,), draw=stage)[0]
        return cls(float(uniforms[n]), uniforms[:n].reshape(shape))


def _resampled(share: np.ndarray, offset: float) -> np.ndarray:
    """Return indices (n, k) by systematic resampling, in proportion to the shares."""
    heights = (np.arange(_SAMPLES) + offset) / _SAMPLES
    sums = share.cumsum(axis=1)
    sums /= sums[:, -1:]
    return np.stack([np.searchsorted(row, heights) for row in sums])


def _sorted(population: Population, axis: int) -> Population:
    """Return samples of each window, sorted along a principal axis of the origins."""
    about = population.origins - population.origins.mean(axis=1, keepdims=True)
    axes = np.linalg.eigh(np.einsum("nki,nkj->nij", about, about))[1]
    along = np.einsum("nki,ni->nk", about, axes[:, :, axis])
    return population.taken(np.argsort(along, axis=1, kind="stable"))


def _moved(
    weigh: Weigh,
    now: Population,
    windows: np.ndarray,
    exponent: np.ndarray,
    uniforms: np.ndarray,
    half: int,
) -> Population:
    """Return the population after a Metropolis step of every other sample.

    A sample moves by a multiple of the difference of two samples of the other half.
    That half does not move meanwhile, so the proposal is symmetric and the acceptance
    probability is the ratio of the tempered likelihoods.
    """
    movers, others = slice(half, None, 2), slice(1 - half, None, 2)
    moving, others_origins = now.origins[:, movers], now.origins[:, others]
    k = moving.shape[1]
    one, other, length, chance = uniforms.T
    # Both samples of a difference are of the mover's block, so they are near to it.
    block = np.arange(k) // _BLOCK * _BLOCK
    a, b = (block + (u * _BLOCK).astype(np.intp) for u in (one, other))
    step = _LENGTHS[(length * len(_LENGTHS)).astype(np.intp)]
    proposed = moving + step[:, None] * (others_origins[:, a] - others_origins[:, b])
    square, last = weigh(proposed, windows)
    worse = square - now.square[:, movers]
    # Metropolis: accepted with probability min(1, exp(-exponent * worse / 2)).
    accepted = np.log(chance) < -0.5 * exponent[:, None] * worse
    moved = Population(*(values.copy() for values in now))
    moved.origins[:, movers] = np.where(accepted[..., None], proposed, moving)
    moved.square[:, movers] = np.where(accepted, square, now.square[:, movers])
    moved.last[:, movers] = np.where(accepted[..., None], last, now.last[:, movers])
    return moved
