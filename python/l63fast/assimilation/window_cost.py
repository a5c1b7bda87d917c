"""The cost of a window of observations, and the safeguarded minimum of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast.assimilation.scheme import Status
from l63fast.lorenz63 import tangent_linear
from l63fast.observation import ObservationOperator

__all__ = ["Linearisation", "Minimum", "WindowCost", "minimise"]

_ROUNDING: Final = 1e-12  # of the cost: less than this is neither rise nor fall
_FIRST_DAMPING: Final = 1e-2
_LAST_DAMPING: Final = 1e8


class Linearisation(NamedTuple):
    """The cost of each sample, with what a Gauss-Newton step needs.

    Attributes
    ----------
    cost : (n,)
        Infinite where the model leaves the floating-point range.
    gradient : (n, 3)
        With respect to the control v.
    hessian : (n, 3, 3)
        Of Gauss-Newton, I + sum of G^T G: its eigenvalues are 1 or more.
    state : (n, 3)
        At the window's end.
    tangent : (n, 3, 3)
        M times the root of B: the derivative of `state` with respect to v.
    """

    cost: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    state: np.ndarray
    tangent: np.ndarray


@dataclass(frozen=True, eq=False)
class WindowCost:
    """J(v) = |v|^2 / 2 + sum over l of |y_l - h(M_l(x_b + U v))|^2 / 2, U U^T = B.

    The norm of the observations is that of R^-1. M_l is the model from the first
    observation of the window to observation l; M_0 changes nothing.

    Parameters
    ----------
    background : (n, 3)
        At the time of the first observation.
    observations : (n, L, obs_dim)
    operator : ObservationOperator
    root : (3, 3)
        The lower Cholesky factor U of B.
    R : (obs_dim, obs_dim)
    steps_per_cycle : int
        Model steps between two observations.
    model : dict
        What `tangent_linear` needs to know of the model.
    """

    background: np.ndarray
    observations: np.ndarray
    operator: ObservationOperator
    root: np.ndarray
    R: np.ndarray
    steps_per_cycle: int
    model: dict[str, Any]

    def state(self, control: np.ndarray) -> np.ndarray:
        """Return x_0 = x_b + U v, the states (n, 3) at the window's start."""
        return np.asarray(self.background + control @ self.root.T)

    def control(self, state: np.ndarray) -> np.ndarray:
        """Return v (n, 3) of states at the window's start."""
        return np.linalg.solve(self.root, (state - self.background).T).T

    def of(self, samples: np.ndarray) -> WindowCost:
        """Return the cost of some of the samples."""
        return replace(
            self,
            background=self.background[samples],
            observations=self.observations[samples],
        )

    def of_first(self, n_observations: int) -> WindowCost:
        """Return the cost of the window's first observations."""
        return replace(self, observations=self.observations[:, :n_observations])

    def linearised(self, control: np.ndarray) -> Linearisation:
        """Return the cost at v (n, 3), its gradient and its Gauss-Newton Hessian."""
        state = self.state(control)
        columns = np.tile(self.root.T, (len(state), 1, 1))  # one of M U a row
        lost = np.zeros(len(state), dtype=bool)
        cost = 0.5 * np.sum(control**2, axis=-1)
        gradient, hessian = control.copy(), np.tile(np.eye(3), (len(state), 1, 1))
        whitening = np.linalg.inv(np.linalg.cholesky(self.R))
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(self.observations.shape[1]):
                if i:
                    state, columns = self._advanced(state, columns, lost)
                residual = self.observations[:, i] - self.operator(state)
                residual = residual @ whitening.T
                slopes = self.operator.jacobian(state) @ np.swapaxes(columns, 1, 2)
                G = whitening @ slopes
                cost += 0.5 * np.sum(residual**2, axis=-1)
                gradient -= np.einsum("nmk,nm->nk", G, residual)
                hessian += np.swapaxes(G, 1, 2) @ G
        cost[lost | ~np.isfinite(cost)] = np.inf
        return Linearisation(cost, gradient, hessian, state, np.swapaxes(columns, 1, 2))

    def _advanced(
        self, state: np.ndarray, columns: np.ndarray, lost: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return states and columns one interval later; mark what is lost, set to 0.

        The model refuses what is not finite, and a try that goes too far is no error.
        """
        state, columns = tangent_linear(
            state, columns, self.steps_per_cycle, on_divergence="nan", **self.model
        )
        finite = np.isfinite(state).all(axis=-1) & np.isfinite(columns).all(axis=(1, 2))
        lost |= ~finite
        state[lost], columns[lost] = 0.0, 0.0
        return state, columns


class Minimum(NamedTuple):
    """Where each sample's iteration ended: v (n, 3), a `Status`, iterations taken."""

    control: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    at: Linearisation


def minimise(
    cost: WindowCost, control: np.ndarray, *, max_iter: int, tol: float
) -> Minimum:
    """Return the minimum found from v (n, 3) by damped Gauss-Newton steps.

    Levenberg (1944) and Marquardt (1963): the diagonal of the Hessian is raised until
    the step does not raise the cost. A sample has converged when its undamped step is
    no longer than `tol` times 1 + |v|; it has diverged when no damping helps.
    """
    v, n = control.copy(), len(control)
    now = cost.linearised(v)
    damping = np.zeros(n)
    status = np.where(np.isfinite(now.cost), Status.MAX_ITER, Status.DIVERGED)
    n_iter = np.zeros(n, dtype=np.int32)
    for _ in range(max_iter + 1):
        active = np.flatnonzero(status == Status.MAX_ITER)
        there = Linearisation(*(values[active] for values in now))
        full = np.linalg.norm(_step(there, np.zeros(len(active))), axis=-1)
        done = full <= tol * (1.0 + np.linalg.norm(v[active], axis=-1))
        status[active[done]] = Status.CONVERGED
        active = active[~done & (n_iter[active] < max_iter)]
        if not active.size:
            break
        there = Linearisation(*(values[active] for values in now))
        tried = v[active] + _step(there, damping[active])
        then = cost.of(active).linearised(tried)
        n_iter[active] += 1
        better = then.cost <= there.cost + _ROUNDING * (1.0 + there.cost)
        v[active[better]] = tried[better]
        for values, new in zip(now, then, strict=True):
            values[active[better]] = new[better]
        damping[active] = _damping(damping[active], better)
        status[active[damping[active] > _LAST_DAMPING]] = Status.DIVERGED
    return Minimum(v, status.astype(np.int8), n_iter, now)


def _step(there: Linearisation, damping: np.ndarray) -> np.ndarray:
    raised = there.hessian.copy()
    for i in range(3):
        raised[:, i, i] *= 1.0 + damping
    return np.asarray(-np.linalg.solve(raised, there.gradient[..., None])[..., 0])


def _damping(damping: np.ndarray, better: np.ndarray) -> np.ndarray:
    eased = np.where(damping > _FIRST_DAMPING, 0.1 * damping, 0.0)
    return np.where(better, eased, np.maximum(10.0 * damping, _FIRST_DAMPING))
