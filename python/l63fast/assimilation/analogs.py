"""The optimum of single windows: means over states of the climate that fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast.assimilation.window_sampling import Population, coldest, sampled, shares
from l63fast.lorenz63 import Lorenz63, mirror, simulate, spin_up
from l63fast.observation import ObservationOperator

_SNAPSHOT_STEPS: Final = 25
_SNAPSHOTS: Final = 64
_ANCESTOR: Final = 2  # snapshots from a state to where it was before
STEPS_BEFORE: Final = _ANCESTOR * _SNAPSHOT_STEPS


@dataclass(frozen=True)
class Climate:
    """Where states come from: the attractor of a model, every state with its mirror.

    Attributes
    ----------
    dt : float
        Time step (time units).
    parameters : Lorenz63
    seed : int
    """

    dt: float
    parameters: Lorenz63
    seed: int

    def states(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return n states (n, 3), n even, and each `STEPS_BEFORE` steps earlier."""
        n_members = -(-n // (2 * _SNAPSHOTS))
        start = spin_up(
            n_members, seed=self.seed, dt=self.dt, parameters=self.parameters
        )
        n_snapshots = _SNAPSHOTS + _ANCESTOR
        path = self.carried(start, n_snapshots - 1, _SNAPSHOT_STEPS)
        halves = (
            part.reshape(-1, 3)[: n // 2]
            for part in (path[:, _ANCESTOR:], path[:, :-_ANCESTOR])
        )
        later, earlier = (np.concatenate([half, mirror(half)]) for half in halves)
        return later, earlier

    def carried(self, states: np.ndarray, n_cycles: int, n_steps: int) -> np.ndarray:
        """Return states (n, 3) and where they are after each cycle, (n, 1 + c, 3)."""
        return simulate(
            states,
            n_cycles * n_steps,
            save_every=n_steps,
            dt=self.dt,
            parameters=self.parameters,
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of windows, and how exactly.

    Attributes
    ----------
    observations : (n, L, m)
        One each cycle, the last at analysis time.
    operator : ObservationOperator
    R : (m, m)
    n_steps : int
        Model steps of a cycle.
    earlier : (n, 3), optional
        Estimates of the states `lag` cycles before the last observation, with errors
        that have nothing to do with the observations'.
    P : (3, 3), optional
        Covariance of their errors.
    lag : int
    """

    observations: np.ndarray
    operator: ObservationOperator
    R: np.ndarray
    n_steps: int
    earlier: np.ndarray | None = None
    P: np.ndarray | None = None
    lag: int = 1

    @property
    def n_cycles(self) -> int:
        """Cycles from the first state that matters to the analysis."""
        lag = 0 if self.earlier is None else self.lag
        return max(int(self.observations.shape[1]) - 1, lag)

    @property
    def knows_no_sign(self) -> bool:
        """Whether a state and its mirror image fit equally well."""
        return self.operator.is_mirror_blind and self.earlier is None

    def seen(self) -> np.ndarray:
        """Return the evidence (n, D), each value in units of its error."""
        return self._whitened(self.observations, self.earlier)

    def of(self, path: np.ndarray) -> np.ndarray:
        """Return what it would be without error for paths (n, 1 + n_cycles, 3)."""
        h = self.operator(path[:, -self.observations.shape[1] :])
        at = path[:, path.shape[1] - 1 - self.lag]
        return self._whitened(h, None if self.earlier is None else at)

    def _whitened(self, h: np.ndarray, earlier: np.ndarray | None) -> np.ndarray:
        parts = [_scaled(h, self.R).reshape(len(h), -1)]
        if earlier is not None and self.P is not None:
            parts.append(_scaled(earlier, self.P))
        return np.concatenate(parts, axis=1)


def _scaled(values: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return values @ np.linalg.inv(np.linalg.cholesky(covariance)).T


_SMALLEST: Final = 2**13
_COARSE: Final = 2**17  # states of which all are weighed where most of them matter
_NEIGHBOURS: Final = 4096
_ENOUGH: Final = 256.0  # effective size that adds 0.4 % to the squared error
_LEFT_OUT: Final = 1e-3  # weight of what is no neighbour, relative to the largest
_DIRECTIONS: Final = 4  # of a window's values that the search tells apart
_CHUNK: Final = 32  # windows that are carried at once


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
        Mean variance over the components, about the mean; where the operator is blind
        to the sign, of the folded states about theirs.
    effective_size : (n,)
        Of the weights, or the number of samples that differ: the mean's own error adds
        a share of 1 / effective_size to the squared error.
    """

    mean: np.ndarray
    folded: np.ndarray
    variance: np.ndarray
    effective_size: np.ndarray


def window_posterior(
    evidence: Evidence,
    climate: Climate,
    *,
    library: int,
    known: WindowPosterior | None = None,
    report: Callable[[WindowPosterior], None] | None = None,
) -> WindowPosterior:
    """Return means over the climate's states, weighted by the likelihood of a window.

    Importance sampling with the climate as prior: of a library of states, those whose
    windows are nearest carry the weight. Where they are too few, samples of the
    posterior are drawn that start from them.

    Parameters
    ----------
    evidence : Evidence
        Of n windows.
    climate : Climate
    library : int
        States in the library.
    known : WindowPosterior, optional
        Of the first windows, as a stopped run has reported it: not computed again.
    report : callable, optional
        Is given what is known of the first windows, from time to time.
    """
    library = _checks.count("library", library, minimum=_SMALLEST)
    states, seen = _Library(evidence, climate, library), evidence.seen()
    n = len(seen)
    found = _Found(np.empty((n, 3)), np.empty((n, 3)), np.empty(n), np.empty(n))
    done = 0 if known is None else len(known.mean) // _CHUNK * _CHUNK
    if known is not None:
        for values, before in zip(found, vars(known).values(), strict=True):
            values[:done] = before[:done]
    for start in range(done, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        states.weigh_windows(seen[part], _Found(*(values[part] for values in found)))
        if report is not None:
            report(WindowPosterior(*(values[: start + _CHUNK] for values in found)))
    return WindowPosterior(*found)


class _Found(NamedTuple):
    mean: np.ndarray
    folded: np.ndarray
    variance: np.ndarray
    effective_size: np.ndarray

    def put(self, windows: np.ndarray, those: _Found) -> None:
        for values, new in zip(self, those, strict=True):
            values[windows] = new


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

    def weigh_windows(self, seen: np.ndarray, found: _Found) -> None:
        """Put what is known of the states at the end of windows (n, D) into `found`."""
        near, beyond = self._nearest(seen)
        excess = np.maximum(beyond - near.square.min(axis=1), 1e-9)
        # Neighbours hold all the weight if it is this cold, and are enough if not
        # colder than that.
        holding = -2.0 * np.log(_LEFT_OUT) / excess
        enough = coldest(near.square, _ENOUGH, np.ones(len(seen)))
        broad = holding > 1.0
        thin = ~broad & (enough < 1.0)
        rest = ~broad & ~thin
        if broad.any():
            found.put(broad, self._of_all(seen[broad]))
        if rest.any():
            found.put(rest, self._weighed(near.last[rest], near.square[rest]))
        if thin.any():
            start = Population(*(values[thin] for values in near))
            coldness = np.maximum(enough, holding)[thin]
            found.put(thin, self._sampled(seen[thin], start, coldness))

    def _nearest(self, seen: np.ndarray) -> tuple[Population, np.ndarray]:
        """Return the neighbours of windows, and what squares all others exceed."""
        k = min(_NEIGHBOURS, len(self.states) // 2)
        distance, index = self._tree.query(seen @ self.directions, k=k)
        square, last = self._misfits(self.states[index], seen)
        origins = self.ancestors[index]
        if self.evidence.knows_no_sign:
            side = _side(self.states[index], np.ones(index.shape))
            origins = np.where(side[..., None], mirror(origins), origins)
            last = np.where(side[..., None], mirror(last), last)
        # What lies beyond the last neighbour is at least as far in full as projected.
        beyond = distance[:, -1] ** 2 + (square - distance**2).min(axis=1)
        return Population(origins, square, last), beyond

    def _misfits(
        self, states: np.ndarray, seen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared misfits (n, k) of states (n, k, 3), and their last."""
        shown, last = self.shown(states.reshape(-1, 3))
        misfit = shown.reshape(*states.shape[:2], -1) - seen[:, None]
        return np.einsum("nkd,nkd->nk", misfit, misfit), last.reshape(states.shape)

    def _weighed(self, last: np.ndarray, square: np.ndarray) -> _Found:
        share = shares(square, np.ones(len(square)))
        size = 1.0 / (share**2).sum(axis=1)
        return _Found(*_means(last, share, self.evidence), size)

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray]:
        return self.shown(self.states[:: max(len(self.states) // _COARSE, 1)])

    def _of_all(self, seen: np.ndarray) -> _Found:
        """Return means over the library, thinned out: most of its states matter."""
        shown, last = self._coarse
        # |a - b|^2 without an array of all differences.
        square = (shown**2).sum(axis=1) - 2.0 * seen @ shown.T
        square += (seen**2).sum(axis=1, keepdims=True)
        return self._weighed(np.broadcast_to(last, (len(seen), *last.shape)), square)

    def _sampled(
        self, seen: np.ndarray, start: Population, coldness: np.ndarray
    ) -> _Found:
        def weigh(
            origins: np.ndarray, windows: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            flat = origins.reshape(-1, 3)
            states = self.climate.carried(flat, 1, STEPS_BEFORE)[:, -1]
            return self._misfits(states.reshape(origins.shape), seen[windows])

        last, distinct = sampled(weigh, start, coldness, self.climate.seed)
        share = np.full(last.shape[:2], 1.0 / last.shape[1])
        return _Found(*_means(last, share, self.evidence), distinct)


def _means(
    states: np.ndarray, share: np.ndarray, evidence: Evidence
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, folded mean and variance of states (n, k, 3) of weights (n, k)."""

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("nk,nk...->n...", share, values))

    mean = average(states)
    one_sided = np.where(_side(states, share)[..., None], mirror(states), states)
    folded = average(one_sided)
    blind = evidence.operator.is_mirror_blind
    about, centre = (one_sided, folded) if blind else (states, mean)
    variance = average(((about - centre[:, None]) ** 2).mean(axis=2))
    if evidence.knows_no_sign:
        mean = folded * (0.0, 0.0, 1.0)
    return mean, folded, variance


def _side(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which states (n, k, 3) are on the far side of their principal axis."""
    planar = states[..., :2]
    second = np.einsum("nk,nki,nkj->nij", weights, planar, planar)
    axis = np.linalg.eigh(second)[1][:, :, -1]
    return np.asarray(np.einsum("nkc,nc->nk", planar, axis) < 0.0)
