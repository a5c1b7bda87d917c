"""Damped Gauss-Newton minimisation of variational costs, many samples at once."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol, Self

import numpy as np

from l63fast.assimilation.scheme import Status

_ROUNDING: Final = 1e-12  # relative change of the cost that counts as rounding
_FIRST_DAMPING: Final = 1e-3
_IDENTITY: Final = np.eye(3)


class Expansion(NamedTuple):
    """The cost near a control v, to second order in the Gauss-Newton approximation.

    Attributes
    ----------
    cost : (n,)
        Infinite where the model leaves the floating-point range; the other values are
        NaN there.
    gradient : (n, 3)
        With respect to v.
    hessian : (n, 3, 3)
        I + G^T G, without the second derivatives of h and of the model; its eigenvalues
        are at least 1.
    state : (n, 3)
        State at the end of the window.
    tangent : (n, 3, 3)
        Derivative of `state` with respect to v.
    """

    cost: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    state: np.ndarray
    tangent: np.ndarray


def expansion(
    control: np.ndarray,
    residual: np.ndarray,
    G: np.ndarray,
    state: np.ndarray,
    tangent: np.ndarray,
) -> Expansion:
    """Return the cost |v|^2 / 2 + |r|^2 / 2 with its derivatives.

    Parameters
    ----------
    control : (n, 3)
        v, in units of the background's standard deviations.
    residual : (n, k)
        r, the observations minus their values for v, in units of their errors.
    G : (n, k, 3)
        Derivative of these values with respect to v.
    state, tangent
        As in `Expansion`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        transposed = np.swapaxes(G, 1, 2)
        # The residual decreases with v by G, hence the minus sign.
        gradient = control - (transposed @ residual[..., None])[..., 0]
        hessian = _IDENTITY + transposed @ G
        cost = 0.5 * (np.sum(control**2, axis=1) + np.sum(residual**2, axis=1))
    at = Expansion(cost, gradient, hessian, state, tangent)
    lost = ~(np.isfinite(cost) & np.isfinite(hessian).all(axis=(1, 2)))
    for values in at:
        values[lost] = np.nan
    cost[lost] = np.inf
    return at


class Cost(Protocol):
    """A cost function that `minimise` can minimise."""

    def of(self, samples: np.ndarray) -> Self:
        """Return the cost function of some of the samples."""

    def expanded(self, control: np.ndarray) -> Expansion:
        """Return the cost at v (n, 3), its gradient and its Gauss-Newton Hessian."""


class Minimum(NamedTuple):
    """The end of each sample's iteration: v (n, 3), `Status`, number of iterations."""

    control: np.ndarray
    status: np.ndarray
    n_iter: np.ndarray
    at: Expansion


def minimise(cost: Cost, control: np.ndarray, *, max_iter: int, tol: float) -> Minimum:
    """Return the minimum reached from v (n, 3) by damped Gauss-Newton steps.

    Source: Levenberg (1944) and Marquardt (1963). The diagonal of the Hessian is
    increased until the step does not raise the cost. A sample has converged when its
    undamped step is at most `tol` times 1 + |v|. Its status is DIVERGED if the cost at
    its start is not finite.
    """
    v, now = control.copy(), cost.expanded(control)
    damping, n_iter = np.zeros(len(v)), np.zeros(len(v), dtype=np.int32)
    status = np.where(np.isfinite(now.cost), Status.MAX_ITER, Status.DIVERGED)
    for iteration in range(max_iter + 1):
        going = np.flatnonzero(status == Status.MAX_ITER)
        # Convergence is judged by the undamped step, since damping makes every step
        # short.
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
    return Minimum(v, status.astype(np.int8), n_iter, now)


def _step(at: Expansion, samples: np.ndarray, damping: np.ndarray) -> np.ndarray:
    # Only the diagonal is multiplied by 1 + damping (Marquardt's scaling).
    raised = at.hessian[samples] * (1.0 + damping[:, None, None] * _IDENTITY)
    return np.asarray(-np.linalg.solve(raised, at.gradient[samples, :, None])[..., 0])


def _damping(damping: np.ndarray, better: np.ndarray) -> np.ndarray:
    # Less damping after a successful step, more after a failed one.
    return np.where(better, 0.1 * damping, np.maximum(10.0 * damping, _FIRST_DAMPING))
