"""The cost of a window of observations, and the safeguarded minimum of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast.assimilation.scheme import Status
from l63fast.lorenz63 import tangent_linear
from l63fast.observation import ObservationOperator

__all__ = ["Expansion", "Minimum", "WindowCost", "minimise"]

_ROUNDING: Final = 1e-12  # of the cost: less than this is neither rise nor fall
_FIRST_DAMPING: Final = 1e-3
_LAST_DAMPING: Final = 1e8
_IDENTITY: Final = np.eye(3)


class Expansion(NamedTuple):
    """The cost near a control, to the second order of Gauss-Newton.

    Attributes
    ----------
    cost : (n,)
        Infinite where the model leaves the floating-point range.
    gradient : (n, 3)
        With respect to the control v.
    hessian : (n, 3, 3)
        I + G^T G, without the second derivatives of h and of the model: its
        eigenvalues are 1 or more.
    state : (n, 3)
        At the window's end; NaN where the cost is infinite.
    tangent : (n, 3, 3)
        The derivative of `state` with respect to v.
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
    observation of the window to observation l; M_0 changes nothing. Products are one
    per sample, so that no sample's bits depend on its neighbours.

    Parameters
    ----------
    background : (n, 3)
        At the time of the first observation.
    observations : (n, L, obs_dim)
    steps : tuple of L - 1 int
        Model steps from each observation to the next.
    operator : ObservationOperator
    root : (3, 3)
        The lower Cholesky factor U of B.
    whitening : (obs_dim, obs_dim)
        The inverse of the lower Cholesky factor of R.
    model : dict
        What `tangent_linear` needs to know of the model.
    """

    background: np.ndarray
    observations: np.ndarray
    steps: tuple[int, ...]
    operator: ObservationOperator
    root: np.ndarray
    whitening: np.ndarray
    model: dict[str, Any]

    def state(self, control: np.ndarray) -> np.ndarray:
        """Return x_0 = x_b + U v, the states (n, 3) at the window's start."""
        return np.asarray(self.background + (self.root @ control[..., None])[..., 0])

    def control(self, state: np.ndarray) -> np.ndarray:
        """Return v (n, 3) of states at the window's start."""
        return np.linalg.solve(self.root, (state - self.background)[..., None])[..., 0]

    def of(self, samples: np.ndarray) -> WindowCost:
        """Return the cost of some of the samples."""
        return replace(
            self,
            background=self.background[samples],
            observations=self.observations[samples],
        )

    def of_first(self, length: int) -> WindowCost:
        """Return the cost of the window's first observations."""
        return replace(
            self,
            observations=self.observations[:, :length],
            steps=self.steps[: length - 1],
        )

    def expanded(self, control: np.ndarray) -> Expansion:
        """Return the cost at v (n, 3), its gradient and its Gauss-Newton Hessian."""
        states, tangents, lost = self._trajectory(control)
        n, L, m = self.observations.shape
        with np.errstate(over="ignore", invalid="ignore"):
            residuals = (self.observations - self.operator(states)) @ self.whitening.T
            slopes = self.operator.jacobian_diagonal(states)[..., None]
            G = slopes * tangents[:, :, self.operator.components]
            G = (self.whitening @ G).reshape(n, L * m, 3)
            r = residuals.reshape(n, L * m, 1)
            transposed = np.swapaxes(G, 1, 2)
            gradient = control - (transposed @ r)[..., 0]
            hessian = _IDENTITY + transposed @ G
            cost = 0.5 * (np.sum(control**2, axis=1) + np.sum(r[..., 0] ** 2, axis=1))
        cost[lost | ~np.isfinite(cost)] = np.inf
        states[lost] = np.nan
        return Expansion(cost, gradient, hessian, states[:, -1], tangents[:, -1])

    def _trajectory(
        self, control: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return states (n, L, 3), their derivatives (n, L, 3, 3), and who is lost.

        The model refuses what is not finite, and a try that goes too far is no error:
        its samples go on from 0 and are marked as lost.
        """
        n, L, _ = self.observations.shape
        states, tangents = np.empty((n, L, 3)), np.empty((n, L, 3, 3))
        state = self.state(control)
        rows = np.array(np.broadcast_to(self.root.T, (n, 3, 3)))
        lost = np.zeros(n, dtype=bool)
        for i in range(L):
            if i:
                state, rows = tangent_linear(
                    state, rows, self.steps[i - 1], on_divergence="nan", **self.model
                )
            if not (np.isfinite(state).all() and np.isfinite(rows).all()):
                lost |= ~(np.isfinite(state) & np.isfinite(rows).all(axis=1)).all(
                    axis=1
                )
                state[lost], rows[lost] = 0.0, 0.0
            states[:, i], tangents[:, i] = state, np.swapaxes(rows, 1, 2)
        return states, tangents, lost


class Minimum(NamedTuple):
    """Where each sample's iteration ended: v (n, 3), a `Status`, iterations taken."""

    control: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    at: Expansion


def minimise(
    cost: WindowCost, control: np.ndarray, *, max_iter: int, tol: float
) -> Minimum:
    """Return the minimum found from v (n, 3) by damped Gauss-Newton steps.

    Levenberg (1944) and Marquardt (1963): the diagonal of the Hessian is raised until
    the step does not raise the cost. A sample has converged when its undamped step is
    no longer than `tol` times 1 + |v|; it has diverged when no damping helps.
    """
    v, now = control.copy(), cost.expanded(control)
    damping, n_iter = np.zeros(len(v)), np.zeros(len(v), dtype=np.int32)
    status = np.where(np.isfinite(now.cost), Status.MAX_ITER, Status.DIVERGED)
    for iteration in range(max_iter + 1):
        going = np.flatnonzero(status == Status.MAX_ITER)
        full = _step(now, going, np.zeros(len(going)))
        near = np.linalg.norm(full, axis=1) <= tol * (
            1.0 + np.linalg.norm(v[going], axis=1)
        )
        status[going[near]] = Status.CONVERGED
        going, full = going[~near], full[~near]
        if not going.size or iteration == max_iter:
            break
        undamped = not damping[going].any()
        tried = v[going] + (full if undamped else _step(now, going, damping[going]))
        then = cost.of(going).expanded(tried)
        n_iter[going] += 1
        before = now.cost[going]
        better = then.cost <= before + _ROUNDING * (1.0 + before)
        v[going[better]] = tried[better]
        for values, new in zip(now, then, strict=True):
            values[going[better]] = new[better]
        damping[going] = _damping(damping[going], better)
        status[going[damping[going] > _LAST_DAMPING]] = Status.DIVERGED
    return Minimum(v, status.astype(np.int8), n_iter, now)


def _step(at: Expansion, samples: np.ndarray, damping: np.ndarray) -> np.ndarray:
    raised = at.hessian[samples] * (1.0 + damping[:, None, None] * _IDENTITY)
    return np.asarray(-np.linalg.solve(raised, at.gradient[samples, :, None])[..., 0])


def _damping(damping: np.ndarray, better: np.ndarray) -> np.ndarray:
    return np.where(better, 0.1 * damping, np.maximum(10.0 * damping, _FIRST_DAMPING))
