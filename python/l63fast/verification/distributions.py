"""Scores of probabilistic estimates: ensembles, weighted particles, normal mixtures.

All of them are scored by the same numbers at each time, so that a network that gives a
normal distribution can be compared with a particle filter. The CRPS and the energy
score of members are the fair ones, whose expectation does not depend on their number.
Weighted particles are scored as they stand: where one of them has nearly all the weight
a fair score would divide by nearly zero. Nothing is resampled for the CRPS, the PIT and
the coverage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast import _checks, _random
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentTypeError
from l63fast.verification.bootstrap import resample

# A component of a mixture of normals; its covariance is factor @ factor^T.
NORMAL: Final = np.dtype(
    [("weight", np.float64), ("mean", np.float64, 3), ("factor", np.float64, (3, 3))]
)
_TINY: Final = np.finfo(np.float64).tiny
_MOST_PAIRS: Final = 32  # members of which all pairs are taken; of more, 16 shifts
_DRAWS: Final = 16  # pairs for the energy score of a mixture
_WEIGHTED_PAIRS: Final = 64
_MOST_VALUES: Final = 2**18  # of members that are scored at once


class PointScores(NamedTuple):
    """Scores of the estimates of each time.

    Attributes
    ----------
    crps : (...)
        Mean over the components of the continuous ranked probability score.
    energy : (...)
        Energy score of the state; NaN where only the marginals are known.
    log_score : (...)
        Minus the logarithm of the density at the truth; NaN where there is no density.
    low, high : (..., 3)
        The probability integral transform (PIT) of the truth: the probability of values
        below it. Of n members it is between r / (n + 1) and (r + 1) / (n + 1), with r
        the rank; of weighted ones n is their effective number. Otherwise both are the
        same.
    """

    crps: np.ndarray
    energy: np.ndarray
    log_score: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def covered(self, share: float) -> np.ndarray:
        """Return the share of the components (...) within the central interval.

        Parameters
        ----------
        share : float
            Probability of the interval, which the mean of the result has if the
            estimated distributions are right.
        """
        below, above = (self._below(0.5 + end * share) for end in (-0.5, 0.5))
        return np.asarray((above - below).mean(axis=-1))

    def _below(self, level: float) -> np.ndarray:
        """Return the share (..., 3) of each PIT interval that is below a level."""
        width = np.maximum(self.high - self.low, _TINY)
        with np.errstate(over="ignore"):
            return np.asarray(np.clip((level - self.low) / width, 0.0, 1.0))

    def columns(self) -> dict[str, np.ndarray]:
        """Return the time means (n_trajectories,) by the names of their columns."""
        each = {
            "crps": self.crps,
            "energy": self.energy,
            "log_score": self.log_score,
            "covered_50": self.covered(0.5),
            "covered_90": self.covered(0.9),
        }
        return {name: values.mean(axis=1) for name, values in each.items()}


@dataclass(frozen=True, eq=False)
class PITHistogram:
    """How the probability integral transform of the truth is distributed.

    Attributes
    ----------
    shares, low, high : (3, n_bins)
        Share of each bin by component, with its bootstrap interval; 1 / n_bins if the
        estimated distributions are right.
    """

    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray


@ieee_arithmetic()
def pit_histogram(
    scores: PointScores,
    *,
    n_bins: int = 20,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> PITHistogram:
    """Return the histogram of the PIT of scores (n_trajectories, n_times).

    Source: Gneiting, Balabdaoui & Raftery (2007). If an estimate is not finite, all
    shares are NaN.
    """
    n_bins = _checks.count("n_bins", n_bins, minimum=1)
    levels = np.linspace(0.0, 1.0, n_bins + 1)
    below = np.stack([scores._below(level).mean(axis=1) for level in levels], axis=-1)
    shares = np.diff(below, axis=-1)
    n = len(shares)
    low, high = resample(shares.reshape(n, -1), n_bootstrap, seed).intervals()
    return PITHistogram(
        shares.mean(axis=0), low.reshape(3, n_bins), high.reshape(3, n_bins)
    )


@ieee_arithmetic()
def normal(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return normal distributions as mixtures (..., 1) of one component.

    Parameters
    ----------
    mean : (..., 3)
    covariance : (..., 3, 3)
        Positive definite; a non-finite one gives NaN.
    """
    components = np.empty((*np.shape(mean)[:-1], 1), NORMAL)
    components["weight"], components["mean"][..., 0, :] = 1.0, mean
    factor = np.full(np.shape(covariance), np.nan)
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    factor[finite] = np.linalg.cholesky(np.asarray(covariance)[finite])
    components["factor"][..., 0, :, :] = factor
    return components


def mixture_moments(components: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (..., 3) and covariance (..., 3, 3) of mixtures (..., k)."""
    w, m, A = (_components(components)[name] for name in ("weight", "mean", "factor"))
    mean = (w[..., None] * m).sum(axis=-2)
    apart = m - mean[..., None, :]
    each = A @ A.swapaxes(-1, -2) + apart[..., :, None] * apart[..., None, :]
    return mean, (w[..., None, None] * each).sum(axis=-3)


def draw_members(components: Any, n: int, seed: _checks.Seed) -> np.ndarray:
    """Return members (..., n, 3) drawn from mixtures of normals (..., k).

    Equal seeds give equal members. NaN components give NaN.
    """
    n = _checks.count("n", n, minimum=1)
    seed = _checks.seed("seed", seed)
    components = _components(components)
    flat = components.reshape(-1, components.shape[-1])
    normals = _random.standard_normals(seed, "scheme", "none", len(flat), (n, 3))
    chosen: Any = 0
    if flat.shape[1] > 1:
        edges = flat["weight"].cumsum(axis=1)[:, None, :-1]
        level = _random.uniforms(seed, "scheme", "none", len(flat), (n, 1), draw=0)
        chosen = (level >= edges).sum(axis=-1)
    row = np.arange(len(flat))[:, None]
    picked = flat[row, chosen] if flat.shape[1] > 1 else flat[:, :1]
    drawn = picked["mean"] + np.einsum("...ij,...j->...i", picked["factor"], normals)
    return np.asarray(drawn.reshape(*components.shape[:-1], n, 3))


@ieee_arithmetic()
def score_mixtures(
    components: np.ndarray, truth: np.ndarray, *, seed: _checks.Seed = 0
) -> PointScores:
    """Return the scores of mixtures of normals.

    CRPS and log score are exact (Grimit, Gneiting, Berrocal & Johnson 2006, equation 5;
    of one normal Gneiting & Raftery 2007, equation 21). The energy score is an unbiased
    estimate from 16 draws of each, as it has no closed form.

    Parameters
    ----------
    components : (..., k) of dtype `NORMAL`
    truth : (..., 3)
    seed : int, SeedSequence or Generator
        Of the draws for the energy score.
    """
    components = _components(components)
    w, m, A = (components[name] for name in NORMAL.names or ())
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        sigma = np.sqrt((A**2).sum(axis=-1))
        d = truth[..., None, :] - m
        w3 = w[..., None]
        crps = (w3 * _mean_distance(d, sigma)).sum(axis=-2)
        for i in range(w.shape[-1]):
            between = m - m[..., i : i + 1, :]
            both = np.hypot(sigma, sigma[..., i : i + 1, :])
            pairs = (w3 * w3[..., i : i + 1, :] * _mean_distance(between, both)).sum(-2)
            crps = crps - 0.5 * pairs
        place = (w3 * _cdf(d, sigma)).sum(axis=-2)
        log_score = -_log_density(w, d, A)
    x = draw_members(components, _DRAWS, seed)
    energy = _distance(x, truth[..., None, :]).mean(axis=-1)
    energy = energy - 0.5 * _distance(x, np.roll(x, 1, axis=-2)).mean(axis=-1)
    return PointScores(crps.mean(axis=-1), energy, log_score, place, place)


@ieee_arithmetic()
def score_marginals(
    mean: np.ndarray, spread: np.ndarray, truth: np.ndarray
) -> PointScores:
    """Return the scores of normal marginals (..., 3); energy and log score are NaN.

    A spread of 0 gives the absolute error as CRPS.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        d, unknown = truth - mean, np.full(truth.shape[:-1], np.nan)
        of_itself = spread / math.sqrt(math.pi)  # half the mean distance of two draws
        crps = (_mean_distance(d, spread) - of_itself).mean(axis=-1)
        place = _cdf(d, spread)
    return PointScores(crps, unknown, unknown, place, place)


@ieee_arithmetic()
def score_members(
    members: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    seed: _checks.Seed = 0,
) -> PointScores:
    """Return the scores of ensembles or weighted particles; their log score is NaN.

    Both scores are the mean distance from the truth, minus half the mean distance of
    two different members: the fair scores of Ferro (2014). With weights the latter is
    the weighted mean over all pairs, also those of a particle with itself.
    Of more than 32 members not all pairs are taken for the energy score: 16 pairs of
    each member, and 64 pairs drawn by weight.

    Parameters
    ----------
    members : (n, ..., n_members, 3)
        At least 2.
    truth : (n, ..., 3)
    weights : (n, ..., n_members), optional
        With the sum 1.
    seed : int, SeedSequence or Generator
        Of these pairs.
    """
    lead = truth.shape[:-1]
    found = PointScores(*(np.empty(lead) for _ in range(3)), *np.empty((2, *lead, 3)))
    rng = _random.generator(_checks.seed("seed", seed), "scheme")
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # Some at a time, to save memory.
        at_once = max(1, _MOST_VALUES // max(members[:1].size, 1))
        for i in range(0, len(truth), at_once):
            rows = slice(i, i + at_once)
            if weights is None:
                one = _ensemble(members[rows], truth[rows])
            else:
                one = _particles(members[rows], truth[rows], weights[rows], rng)
            for values, new in zip(found, one, strict=True):
                values[rows] = new
    return found


def _ensemble(x: np.ndarray, y: np.ndarray) -> PointScores:
    n = x.shape[-2]
    ordered = np.sort(np.ascontiguousarray(x.swapaxes(-1, -2)), axis=-1)
    crps = fair_crps(ordered, y).mean(axis=-1)
    shifts = range(1, n if n <= _MOST_PAIRS else 17)
    pairs: Any = sum(_distance(x, np.roll(x, s, axis=-2)).mean(-1) for s in shifts)
    energy = _distance(x, y[..., None, :]).mean(-1) - 0.5 * pairs / len(shifts)
    rank = (ordered < y[..., None]).sum(axis=-1)
    known = np.where(np.isfinite(ordered).all(axis=-1), 1.0, np.nan)
    low, high = known * rank / (n + 1.0), known * (rank + 1.0) / (n + 1.0)
    return PointScores(crps, energy, np.full(energy.shape, np.nan), low, high)


def fair_crps(ordered: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the fair CRPS (...) of sorted members (..., n_members) by their moments.

    Source: Zamo & Naveau (2018): mean |x - y| + b_0 - 2 b_1, where b are
    probability-weighted moments; this takes n log n operations.
    """
    n = ordered.shape[-1]
    moment_0 = ordered.sum(axis=-1) / n
    moment_1 = (ordered * np.arange(n)).sum(axis=-1) / (n * (n - 1.0))
    distance = np.abs(truth[..., None] - ordered).sum(axis=-1) / n
    return np.asarray(distance + moment_0 - 2.0 * moment_1)


def _particles(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, rng: np.random.Generator
) -> PointScores:
    crps, low = np.zeros(y.shape[:-1]), np.empty(y.shape)
    for c in range(3):
        order = np.argsort(x[..., c], axis=-1)
        values = np.take_along_axis(x[..., c], order, axis=-1)
        share = np.take_along_axis(w, order, axis=-1)
        distance = (share * np.abs(values - y[..., None, c])).sum(axis=-1)
        # Half the mean distance of two: sum over i of w_i x_i (2 sum_{j <= i} w_j
        # - w_i - 1), in which each pair is counted once.
        factor = 2.0 * share.cumsum(axis=-1) - share - 1.0
        half = (share * values * factor).sum(axis=-1)
        crps = crps + (distance - half) / 3.0
        low[..., c] = np.where(values < y[..., None, c], share, 0.0).sum(axis=-1)
    a, b = (_picked(x, w, rng) for _ in range(2))
    energy = (w * _distance(x, y[..., None, :])).sum(axis=-1)
    energy = energy - 0.5 * _distance(a, b).mean(axis=-1)
    n = 1.0 / (w**2).sum(axis=-1)[..., None]  # the effective number
    low = low * n / (n + 1.0)
    high = low + 1.0 / (n + 1.0)
    return PointScores(crps, energy, np.full(energy.shape, np.nan), low, high)


def _picked(x: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return states (..., 64, 3) drawn by weight, each independently."""
    edges = w.cumsum(axis=-1)
    flat = edges.reshape(-1, edges.shape[-1])
    level = rng.random((len(flat), _WEIGHTED_PAIRS)) * flat[:, -1:]
    chosen = [
        np.searchsorted(e, at, "right") for e, at in zip(flat, level, strict=True)
    ]
    places = np.minimum(np.reshape(chosen, (*w.shape[:-1], -1)), w.shape[-1] - 1)
    return np.take_along_axis(x, places[..., None], axis=-2)


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # The same bits as a sum over the short last axis, in a third of its time.
    dx, dy, dz = ((a[..., i] - b[..., i]) ** 2 for i in range(3))
    return np.asarray(np.sqrt(dx + dy + dz))


def _mean_distance(d: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return E |d + sigma Z| for a standard normal Z; |d| where sigma is 0."""
    sigma = np.maximum(sigma, _TINY)
    z = d / sigma
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return np.asarray(sigma * (z * (2.0 * _ndtr(z) - 1.0) + 2.0 * density))


def _cdf(d: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return _ndtr(d / np.maximum(sigma, _TINY))


def _ndtr(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr  # imported here, as in _random

    return np.asarray(ndtr(z))


def _log_density(w: np.ndarray, d: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Return log sum_k w_k N(d_k; 0, A_k A_k^T)."""
    # A^-1 d by Cramer's rule: unlike a solver it has no error for a singular matrix.
    a, b, c = (A[..., i] for i in range(3))
    det = (a * np.cross(b, c)).sum(axis=-1)
    cofactors = (np.cross(b, c), np.cross(c, a), np.cross(a, b))
    square = sum(((rows * d).sum(axis=-1) / det) ** 2 for rows in cofactors)
    each = np.log(w) - 0.5 * square - np.log(np.abs(det)) - 1.5 * math.log(2 * math.pi)
    return np.asarray(np.logaddexp.reduce(each, axis=-1))


def _components(components: Any) -> np.ndarray:
    if getattr(components, "dtype", None) != NORMAL:
        raise ArgumentTypeError(
            "components: expected an array of verification.NORMAL (weight, mean, "
            f"factor), got {getattr(components, 'dtype', type(components).__name__)}"
        )
    return np.asarray(components)
