"""The optimum for single windows: means over climatological states that fit them.

The posterior mean is computed by importance sampling. (1) A library of states of the
attractor is the prior; a k-d tree finds the states whose windows are nearest to the
observed one. (2) If these hold nearly all of the weight and their effective size is
large enough, the posterior mean is their weighted mean. (3) If most of the library has
weight, all of a thinned library is used. (4) If too few states have weight, the sampler
of `window_sampling` starts from the nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast.assimilation.scheme import present_whitening
from l63fast.assimilation.window_sampling import (
    Population,
    largest_exponent,
    sampled,
    shares,
)
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import (
    Lorenz63,
    forecast,
    mirror,
    second_moment,
    simulate,
    spin_up,
)
from l63fast.observation import ObservationOperator

_SNAPSHOT_STEPS: Final = 25
_SNAPSHOTS: Final = 64
_ANCESTOR: Final = 2  # snapshots from a state back to its origin
STEPS_BEFORE: Final = _ANCESTOR * _SNAPSHOT_STEPS


@dataclass(frozen=True)
class ClimatologicalPrior:
    """The prior: states on the attractor of a model, each with its mirror image.

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
        """Return n states (n, 3), n even, and them `STEPS_BEFORE` steps earlier."""
        n_members = -(-n // (2 * _SNAPSHOTS))
        start = spin_up(
            n_members, seed=self.seed, dt=self.dt, parameters=self.parameters
        )
        n_snapshots = _SNAPSHOTS + _ANCESTOR
        path = self.carried(start, (_SNAPSHOT_STEPS,) * (n_snapshots - 1))
        halves = (
            part.reshape(-1, 3)[: n // 2]
            for part in (path[:, _ANCESTOR:], path[:, :-_ANCESTOR])
        )
        # The attractor is symmetric under the mirror; a finite sample becomes so by
        # this.
        later, earlier = (np.concatenate([half, mirror(half)]) for half in halves)
        return later, earlier

    def carried(self, states: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
        """Return states (n, 3) and those after each interval, (n, 1 + k, 3)."""
        model: dict[str, Any] = {"dt": self.dt, "parameters": self.parameters}
        if len(set(steps)) == 1:
            return simulate(states, sum(steps), save_every=steps[0], **model)
        path = [states]
        for n_steps in steps:
            path.append(forecast(path[-1], n_steps, **model))
        return np.stack(path, axis=1)


@dataclass(frozen=True, eq=False)
class WindowObservations:
    """The observations of windows, and their errors.

    Attributes
    ----------
    observations : (n, L, m)
        One per cycle, the last at analysis time; NaN is a missing value.
    operator : ObservationOperator
    R : (m, m)
        Covariance of the observation error.
    steps : int or (n_cycles,)
        Model steps of each cycle, the last one to the analysis time; one number for
        all.
    earlier : (n, 3), optional
        Estimates of the states `lag` cycles before the last observation, with errors
        that are independent of those of the observations.
    P : (3, 3), optional
        Covariance of the errors of `earlier`.
    lag : int
        In cycles.
    """

    observations: np.ndarray
    operator: ObservationOperator
    R: np.ndarray
    steps: int | tuple[int, ...]
    earlier: np.ndarray | None = None
    P: np.ndarray | None = None
    lag: int = 1

    @property
    def n_cycles(self) -> int:
        """Number of cycles from the first observed or estimated state on."""
        lag = 0 if self.earlier is None else self.lag
        return max(int(self.observations.shape[1]) - 1, lag)

    @property
    def steps_of_cycles(self) -> tuple[int, ...]:
        """Model steps of each of the `n_cycles` cycles."""
        steps = self.steps
        steps = (steps,) * self.n_cycles if isinstance(steps, int) else tuple(steps)
        if len(steps) != self.n_cycles:
            raise ArgumentValueError(
                f"steps: expected one per cycle, {self.n_cycles}, got {len(steps)}"
            )
        return steps

    @property
    def sign_is_unknown(self) -> bool:
        """Whether a state and its mirror image fit equally well."""
        return self.operator.is_mirror_blind and self.earlier is None

    def whitened(self) -> np.ndarray:
        """Return all observed values (n, D), in units of their errors.

        Where values are missing, zeros; the errors are those of the present values.
        """
        seen = self._whitened(self.observations, self.earlier)
        gaps = np.isnan(self.observations)
        W = present_whitening(self.R, ~gaps)
        known = (W @ np.where(gaps, 0.0, self.observations)[..., None])[..., 0]
        some = gaps.any(axis=(1, 2))
        seen[some, : known[0].size] = known.reshape(len(known), -1)[some]
        return seen

    def of_present(self) -> np.ndarray:
        """Return matrices (n, L, m, m) that take `whitened_path` to `whitened`.

        They have zeros in the rows of missing values.
        """
        present = ~np.isnan(self.observations)
        return present_whitening(self.R, present) @ np.linalg.cholesky(self.R)

    def whitened_path(self, path: np.ndarray) -> np.ndarray:
        """Return the error-free values of trajectories (n, 1 + n_cycles, 3)."""
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


_SMALLEST_LIBRARY: Final = 2**13
_COARSE: Final = 2**17  # size of the thinned library
_NEIGHBOURS: Final = 4096
_ENOUGH: Final = 256.0  # effective size; its sampling error is 0.4 % of the variance
_NEGLECTED: Final = 1e-3  # largest relative weight of a state that may be neglected
_DIRECTIONS: Final = 4  # principal components of a window that the search uses
_CHUNK: Final = 32  # windows that are processed together


@dataclass(frozen=True, eq=False)
class WindowPosterior:
    """The posterior of the state at the end of each window: its moments.

    Attributes
    ----------
    mean : (n, 3)
        The estimate with the least squared error.
    folded : (n, 3)
        The mean after each state was replaced by that one of itself and its mirror
        image on one side of the principal axis of (x, y); the best estimate where the
        mirror image counts as well.
    variance : (n,)
        Mean variance over the components about the mean; where the operator cannot tell
        a state from its mirror image, of the replaced states.
    effective_size : (n,)
        Effective size of the weights, or the number of distinct samples: the error of
        the mean adds a share of 1 / effective_size to the squared error.
    """

    mean: np.ndarray
    folded: np.ndarray
    variance: np.ndarray
    effective_size: np.ndarray


def window_posterior(
    evidence: WindowObservations,
    climate: ClimatologicalPrior,
    *,
    library: int,
    known: WindowPosterior | None = None,
    report: Callable[[WindowPosterior], None] | None = None,
) -> WindowPosterior:
    """Return posterior means of windows, over climatological states as the prior.

    See the module's docstring for the method.

    Parameters
    ----------
    evidence : WindowObservations
        Of n windows.
    climate : ClimatologicalPrior
    library : int
        Number of states in the library.
    known : WindowPosterior, optional
        Result for the first windows, as reported by a stopped run; not computed again.
    report : callable, optional
        Is called now and then with the result for the first windows.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the library is not a large enough number.
    """
    library = _checks.count("library", library, minimum=_SMALLEST_LIBRARY)
    states, seen = _Library(evidence, climate, library), evidence.whitened()
    n, gaps = len(seen), np.isnan(evidence.observations).any(axis=(1, 2))
    present = evidence.of_present() if gaps.any() else None
    estimates = _Estimates.empty(n)
    done = 0 if known is None else len(known.mean) // _CHUNK * _CHUNK
    if known is not None:
        for values, before in zip(estimates, vars(known).values(), strict=True):
            values[:done] = before[:done]
    for start in range(done, n, _CHUNK):
        part = np.arange(start, min(start + _CHUNK, n))
        complete, other = part[~gaps[part]], part[gaps[part]]
        states.weigh_windows(_Seen(seen[complete], None), complete, estimates)
        if present is not None:
            states.weigh_windows(_Seen(seen[other], present[other]), other, estimates)
        if report is not None:
            report(WindowPosterior(*(values[: start + _CHUNK] for values in estimates)))
    return WindowPosterior(*estimates)


class _Estimates(NamedTuple):
    mean: np.ndarray
    folded: np.ndarray
    variance: np.ndarray
    effective_size: np.ndarray

    @classmethod
    def empty(cls, n: int) -> _Estimates:
        """Return estimates of n windows, to be filled."""
        return cls(np.empty((n, 3)), np.empty((n, 3)), np.empty(n), np.empty(n))

    def put(self, windows: np.ndarray, new: _Estimates) -> None:
        for values, estimate in zip(self, new, strict=True):
            values[windows] = estimate


class _Seen(NamedTuple):
    """Values (n, D) of windows; where some are missing, the matrices `of_present`."""

    values: np.ndarray
    present: np.ndarray | None

    def of(self, windows: np.ndarray) -> _Seen:
        """Return some of the windows."""
        part = None if self.present is None else self.present[windows]
        return _Seen(self.values[windows], part)

    def misfits(self, shown: np.ndarray) -> np.ndarray:
        """Return squared misfits (n, k) of the values (n, k, D) of trajectories."""
        misfit = shown - self.values[:, None]
        if self.present is not None:
            n, k = misfit.shape[:2]
            _, L, m, _ = self.present.shape
            h = shown[..., : L * m].reshape(n, k, L, m, 1)
            known = (self.present[:, None] @ h).reshape(n, k, L * m)
            misfit[..., : L * m] = known - self.values[:, None, : L * m]
        return np.asarray(np.einsum("nkd,nkd->nk", misfit, misfit))


class _Library:
    """States of the prior, which can be searched by the values of their windows."""

    def __init__(
        self, evidence: WindowObservations, climate: ClimatologicalPrior, size: int
    ):
        from scipy.spatial import cKDTree  # imported here: it takes longer than a call

        self.evidence = evidence
        self.climate = climate
        self.states, self.ancestors = climate.states(size)
        self.directions = self._principal()
        rows = 2**16
        parts = (self.states[i : i + rows] for i in range(0, size, rows))
        shown = [self.observed(states)[0] @ self.directions for states in parts]
        self._tree = cKDTree(np.concatenate(shown))

    def observed(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the error-free values of states (n, 3), and their last states."""
        evidence = self.evidence
        path = self.climate.carried(states, evidence.steps_of_cycles)
        return evidence.whitened_path(path), path[:, -1]

    def _principal(self) -> np.ndarray:
        """Return the principal directions (D, q) of the window values of the prior."""
        some = self.states[:: max(len(self.states) // _SMALLEST_LIBRARY, 1)]
        values = self.observed(some)[0]
        _, vectors = np.linalg.eigh(second_moment(values - values.mean(axis=0)))
        return vectors[:, ::-1][:, :_DIRECTIONS]

    def weigh_windows(
        self, seen: _Seen, windows: np.ndarray, estimates: _Estimates
    ) -> None:
        """Write the moments of the last states of `windows` to `estimates`."""
        if not len(windows):
            return
        near, beyond = self._nearest(seen)
        excess = np.maximum(beyond - near.square.min(axis=1), 1e-9)
        # The neighbours hold all of the weight for exponents from `holding` on, and
        # have a large enough effective size for exponents up to `enough`. Both must
        # include 1, the exponent of the posterior.
        holding = -2.0 * np.log(_NEGLECTED) / excess
        enough = largest_exponent(near.square, _ENOUGH, np.ones(len(seen.values)))
        broad = holding > 1.0
        thin = ~broad & (enough < 1.0)
        rest = ~broad & ~thin
        if broad.any():
            estimates.put(windows[broad], self._of_all(seen.of(broad)))
        if rest.any():
            estimates.put(
                windows[rest], self._weighed(near.last[rest], near.square[rest])
            )
        if thin.any():
            start = Population(*(values[thin] for values in near))
            exponent = np.maximum(enough, holding)[thin]
            estimates.put(windows[thin], self._sampled(seen.of(thin), start, exponent))

    def _nearest(self, seen: _Seen) -> tuple[Population, np.ndarray]:
        """Return neighbours of windows, and an estimate of all other misfits."""
        k = min(_NEIGHBOURS, len(self.states) // 2)
        if seen.present is None:
            distance, index = self._tree.query(seen.values @ self.directions, k=k)
            square, last = self._misfits(self.states[index], seen)
            # Squared misfits that all other states exceed: their projected part is at
            # least that of the last neighbour, and the rest is taken to be at least the
            # smallest rest of the neighbours.
            beyond = distance[:, -1] ** 2 + (square - distance**2).min(axis=1)
        else:
            # The tree does not know which values are missing: all of the thinned
            # library is searched.
            every = self._coarse_squares(seen)
            k = min(k, every.shape[1] // 2)
            index = np.argpartition(every, k, axis=1)[:, : k + 1]
            square = np.take_along_axis(every, index, axis=1)
            beyond, index = square[:, k], index[:, :k] * self._thinning
            square, last = self._misfits(self.states[index], seen)
        origins = self.ancestors[index]
        if self.evidence.sign_is_unknown:
            side = _side(self.states[index], np.ones(index.shape))
            origins = np.where(side[..., None], mirror(origins), origins)
            last = np.where(side[..., None], mirror(last), last)
        return Population(origins, square, last), beyond

    def _misfits(
        self, states: np.ndarray, seen: _Seen
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return squared misfits (n, k) of states (n, k, 3), and the last states."""
        shown, last = self.observed(states.reshape(-1, 3))
        square = seen.misfits(shown.reshape(*states.shape[:2], -1))
        return square, last.reshape(states.shape)

    def _weighed(self, last: np.ndarray, square: np.ndarray) -> _Estimates:
        share = shares(square, np.ones(len(square)))
        size = 1.0 / (share**2).sum(axis=1)
        return _Estimates(*_means(last, share, self.evidence), size)

    @property
    def _thinning(self) -> int:
        return max(len(self.states) // _COARSE, 1)

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray]:
        return self.observed(self.states[:: self._thinning])

    def _coarse_squares(self, seen: _Seen) -> np.ndarray:
        """Return squared misfits (n, k) of the states of the thinned library."""
        (shown, _), values = self._coarse, seen.values
        # |a - b|^2 = |a|^2 - 2 a.b + |b|^2 needs no array of all differences.
        if seen.present is None:
            square = (shown**2).sum(axis=1) - 2.0 * values @ shown.T
        else:
            # With a = T u for each observation: u.(T^T T) u - 2 (T^T b).u.
            T = seen.present
            n, L, m, _ = T.shape
            transposed, b = np.swapaxes(T, -1, -2), values[:, : L * m]
            square = (transposed @ T).reshape(n, -1) @ self._coarse_products.T
            at_b = values.copy()
            at_b[:, : L * m] = (transposed @ b.reshape(n, L, m, 1)).reshape(n, -1)
            square += (shown[:, L * m :] ** 2).sum(axis=1) - 2.0 * at_b @ shown.T
        square += (values**2).sum(axis=1, keepdims=True)
        return np.asarray(square)

    @cached_property
    def _coarse_products(self) -> np.ndarray:
        """Products of the values of each observation, (k, L m^2)."""
        shown, (_, L, m) = self._coarse[0], self.evidence.observations.shape
        u = shown[:, : L * m].reshape(-1, L, m)
        return np.asarray((u[..., None] * u[..., None, :]).reshape(len(u), -1))

    def _of_all(self, seen: _Seen) -> _Estimates:
        """Return moments over the thinned library, where most states have weight."""
        last, square = self._coarse[1], self._coarse_squares(seen)
        return self._weighed(np.broadcast_to(last, (len(square), *last.shape)), square)

    def _sampled(
        self, seen: _Seen, start: Population, exponent: np.ndarray
    ) -> _Estimates:
        def weigh(
            origins: np.ndarray, windows: np.ndarray
        ) -> tuple[np.ndarray, np.ndarray]:
            flat = origins.reshape(-1, 3)
            # Proposals are made in the origins, which the model carries to the window.
            states = self.climate.carried(flat, (STEPS_BEFORE,))[:, -1]
            return self._misfits(states.reshape(origins.shape), seen.of(windows))

        last, distinct = sampled(weigh, start, exponent, self.climate.seed)
        share = np.full(last.shape[:2], 1.0 / last.shape[1])
        return _Estimates(*_means(last, share, self.evidence), distinct)


def _means(
    states: np.ndarray, share: np.ndarray, evidence: WindowObservations
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, mean of mirrored states, and variance of states (n, k, 3)."""

    def average(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("nk,nk...->n...", share, values))

    mean = average(states)
    one_sided = np.where(_side(states, share)[..., None], mirror(states), states)
    folded = average(one_sided)
    blind = evidence.operator.is_mirror_blind
    about, centre = (one_sided, folded) if blind else (states, mean)
    variance = average(((about - centre[:, None]) ** 2).mean(axis=2))
    if evidence.sign_is_unknown:
        # By symmetry the means of x and y are exactly zero.
        mean = folded * (0.0, 0.0, 1.0)
    return mean, folded, variance


def _side(states: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which states (n, k, 3) are on the negative side of the principal axis."""
    planar = states[..., :2]
    second = np.einsum("nk,nki,nkj->nij", weights, planar, planar)
    axis = np.linalg.eigh(second)[1][:, :, -1]
    return np.asarray(np.einsum("nkc,nc->nk", planar, axis) < 0.0)
