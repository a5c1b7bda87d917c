"""The optimum of single windows: means over states of the climate that fit them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from l63fast import _checks, _random
from l63fast.assimilation.window_evidence import STEPS_BEFORE, Climate, Evidence
from l63fast.lorenz63 import mirror

__all__ = ["WindowPosterior", "window_posterior"]

_SMALLEST: Final = 2**13
_GROWTH: Final = 4
_NEIGHBOURS: Final = 1024
_ENOUGH: Final = 256.0  # effective size from which a larger library changes nothing
_LEFT_OUT: Final = 1e-3  # weight of what is no neighbour, relative to the largest
_DIRECTIONS: Final = 4  # of a window's values that the search tells apart
_THIN: Final = 100.0  # effective size below which neighbours are multiplied
_PARENTS: Final = 256  # neighbours that are
_COPIES: Final = 64  # so often
_SCATTER: Final = 0.5  # of a neighbour's copies, relative to that of the neighbours
_ROUNDS: Final = 4
_CHUNK: Final = 64  # windows whose neighbours are carried at once


@dataclass(frozen=True, eq=False)
class WindowPosterior:
    """The distribution of the state at the end of each window, as far as it is known.

    Attributes
    ----------
    mean : (n, 3)
        The estimate of least squared error.
    folded : (n, 3)
        The mean over the nearer of each state and its mirror to one side of the
        principal axis of (x, y): best where the mirror image counts as well.
    variance : (n,)
        Mean variance over the components, about the mean; where the evidence knows no
        sign, of the folded states about theirs.
    effective_size : (n,)
        Of the weights; the mean's own error adds a share of 1 / effective_size to the
        squared error.
    library : (n,) int
        States that were searched.
    """

    mean: np.ndarray
    folded: np.ndarray
    variance: np.ndarray
    effective_size: np.ndarray
    library: np.ndarray


class _Found(NamedTuple):
    mean: np.ndarray
    folded: np.ndarray
    variance: np.ndarray
    effective_size: np.ndarray


def window_posterior(
    evidence: Evidence, climate: Climate, *, max_library: int
) -> WindowPosterior:
    """Return means over the climate's states, weighted by the likelihood of a window.

    Importance sampling with the climate as prior: of a library of states, those whose
    windows are nearest carry the weight. The library grows, window by window, until the
    effective size is large enough or the neighbours no longer hold all the weight.

    Parameters
    ----------
    evidence : Evidence
        Of n windows.
    climate : Climate
    max_library : int
        States at most.
    """
    max_library = _checks.count("max_library", max_library, minimum=_SMALLEST)
    n = len(evidence.observations)
    result = WindowPosterior(
        np.empty((n, 3)),
        np.empty((n, 3)),
        np.empty(n),
        np.empty(n),
        np.zeros(n, dtype=np.int64),
    )
    seen, size, open_ = evidence.seen(), _SMALLEST, np.arange(n)
    while size <= max_library and len(open_):
        covered = np.zeros(len(open_), dtype=bool)
        for part, whole, found in _searched(seen[open_], evidence, climate, size):
            better = whole | (size == _SMALLEST)
            chosen = open_[part][better]
            _put(result, chosen, _Found(*(values[better] for values in found)))
            result.library[chosen] = size
            covered[part] = whole & (found.effective_size < _ENOUGH)
        open_, size = open_[covered], size * _GROWTH
    # Those left open had too few states of the largest library, not too many.
    thin = open_[result.effective_size[open_] < _THIN]
    if len(thin):
        for part, found in _multiplied(seen[thin], evidence, climate, size // _GROWTH):
            _put(result, thin[part], found)
    return result


def _put(result: WindowPosterior, windows: np.ndarray, found: _Found) -> None:
    for field, values in found._asdict().items():
        getattr(result, field)[windows] = values


class _Library:
    """States of the climate, to be found by what their windows would show."""

    def __init__(self, evidence: Evidence, climate: Climate, size: int):
        from scipy.spatial import cKDTree  # imported here: it takes longer than a call

        self.evidence = evidence
        self.climate = climate
        self.states, self.ancestors = climate.states(size)
        self.directions = self._principal()
        rows = 2**16
        parts = (self.states[i : i + rows] for i in range(0, size, rows))
        shown = [self.shown(states)[0] @ self.directions for states in parts]
        self._tree = cKDTree(np.concatenate(shown))

    def shown(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the evidence of states (n, 3) without error, and their last states."""
        how = self.evidence
        path = self.climate.carried(states, how.n_cycles, how.n_steps)
        return how.of(path), path[:, -1]

    def _principal(self) -> np.ndarray:
        """Return the directions (D, q) in which windows of the climate differ most."""
        some = self.states[:: max(len(self.states) // _SMALLEST, 1)]
        covariance = np.cov(self.shown(some)[0], rowvar=False)
        _, vectors = np.linalg.eigh(np.atleast_2d(covariance))
        return vectors[:, ::-1][:, :_DIRECTIONS]

    def nearest(self, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and indices (n, k) of the states nearest to windows."""
        distance, index = self._tree.query(seen @ self.directions, k=_NEIGHBOURS)
        return distance, index

    def weighed(
        self, states: np.ndarray, seen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared misfits (n, k) of states (n, k, 3), and their last."""
        shown, last = self.shown(states.reshape(-1, 3))
        misfit = shown.reshape(*states.shape[:2], -1) - seen[:, None]
        return np.einsum("nkd,nkd->nk", misfit, misfit), last.reshape(states.shape)


def _searched(
    seen: np.ndarray, evidence: Evidence, climate: Climate, size: int
) -> Iterator[tuple[slice, np.ndarray, _Found]]:
    """Yield parts of the windows, whether neighbours held the weight, and the means."""
    library = _Library(evidence, climate, size)
    for start in range(0, len(seen), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(seen)))
        distance, index = library.nearest(seen[part])
        square, last = library.weighed(library.states[index], seen[part])
        # What lies beyond the last neighbour is at least as far in full as projected.
        beyond = distance[:, -1] ** 2 + (square - distance**2).min(axis=1)
        whole = np.exp(-0.5 * (beyond - square.min(axis=1))) < _LEFT_OUT
        yield part, whole, _means(last, square, evidence)


def _multiplied(
    seen: np.ndarray, evidence: Evidence, climate: Climate, size: int
) -> Iterator[tuple[slice, _Found]]:
    """Yield parts of the windows, and the means over copies of their neighbours.

    A state's copies are scattered about where it was some time before; carried on from
    there they fall back onto the attractor, and fill it between the neighbours. The
    nearest of them are the neighbours of the next round.
    """
    library = _Library(evidence, climate, size)
    shape = (_PARENTS, _COPIES, 3)
    normals = _random.standard_normals(climate.seed, "scheme", "none", 1, shape)[0]
    chunk = max(_CHUNK * _NEIGHBOURS // (_PARENTS * _COPIES), 1)
    for start in range(0, len(seen), chunk):
        part = slice(start, min(start + chunk, len(seen)))
        index = library.nearest(seen[part])[1][:, :_PARENTS]
        origins = library.ancestors[index]
        if evidence.knows_no_sign:
            side = _side(library.states[index], np.ones(index.shape))
            origins = np.where(side[..., None], mirror(origins), origins)
        found = _of_copies(library, origins, normals, seen[part])
        yield part, found


def _of_copies(
    library: _Library, origins: np.ndarray, normals: np.ndarray, seen: np.ndarray
) -> _Found:
    """Return means over copies that start near the origins (n, k, 3)."""
    best: _Found | None = None
    for _ in range(_ROUNDS):
        scattered = _scattered(origins, normals)
        copies = library.climate.carried(scattered.reshape(-1, 3), 1, STEPS_BEFORE)[
            :, -1
        ].reshape(scattered.shape)
        square, last = library.weighed(copies, seen)
        found = _means(last, square, library.evidence)
        if best is None:
            best = found
        thin = best.effective_size < _THIN
        for kept, new in zip(best, found, strict=True):
            kept[thin] = new[thin]
        if not (best.effective_size < _THIN).any():
            break
        nearest = np.argpartition(square, _PARENTS, axis=1)[:, :_PARENTS]
        origins = np.take_along_axis(scattered, nearest[..., None], axis=1)
    assert best is not None
    return best


def _scattered(origins: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return copies (n, k c, 3) of origins (n, k, 3), as spread out as these are."""
    about = origins - origins.mean(axis=1, keepdims=True)
    covariance = np.einsum("nki,nkj->nij", about, about) / origins.shape[1]
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    steps = _SCATTER * np.einsum("nij,kcj->nkci", root, normals)
    scattered = origins[:, :, None] + steps
    return np.asarray(scattered.reshape(len(origins), -1, 3))


def _means(states: np.ndarray, square: np.ndarray, evidence: Evidence) -> _Found:
    """Return means over states (n, k, 3) of squared misfits (n, k)."""
    weights = np.exp(-0.5 * (square - square.min(axis=1, keepdims=True)))
    share = weights / weights.sum(axis=1, keepdims=True)

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("nk,nk...->n...", share, values))

    mean = average(states)
    one_sided = np.where(_side(states, share)[..., None], mirror(states), states)
    folded = average(one_sided)
    about, centre = (states, mean)
    if evidence.knows_no_sign:
        mean = folded * (0.0, 0.0, 1.0)
        about, centre = one_sided, folded
    variance = average(((about - centre[:, None]) ** 2).mean(axis=2))
    return _Found(mean, folded, variance, 1.0 / (share**2).sum(axis=1))


def _side(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which states (n, k, 3) are on the far side of their principal axis."""
    planar = states[..., :2]
    second = np.einsum("nk,nki,nkj->nij", weights, planar, planar)
    axis = np.linalg.eigh(second)[1][:, :, -1]
    return np.asarray(np.einsum("nkc,nc->nk", planar, axis) < 0.0)
