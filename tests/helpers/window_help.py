"""Windows of observations of a true trajectory, and costs computed the long way."""

from __future__ import annotations

import numpy as np

from filter_help import B, error_covariance
from l63fast.assimilation.four_d_var import FourDVar, WindowState
from l63fast.lorenz63 import adjoint, forecast, spin_up
from l63fast.observation import ObservationOperator

STEPS = (7, 12, 3)


def scheme_of(name: str, window: int, **settings) -> FourDVar:
    R = error_covariance(ObservationOperator(name))
    return FourDVar(name, B, R, window=window, n_threads=1, **settings)


def begun(background, steps=()) -> WindowState:
    """Return the state whose window begins with this background."""
    starts = [background]
    for n_steps in steps:
        starts.append(forecast(starts[-1], n_steps))
    return WindowState(starts[-1], np.stack(starts, axis=1)[:, :-1], tuple(steps))


def observed_window(
    name: str, steps, *, n: int = 60, noise: float = 1.0, seed: int = 0
):
    """Return backgrounds (n, 3) with errors of B, truths and observations (n, L, .)."""
    rng, operator = np.random.default_rng(seed), ObservationOperator(name)
    truth = [spin_up(n, seed=seed)]
    for n_steps in steps:
        truth.append(forecast(truth[-1], n_steps))
    states = np.stack(truth, axis=1)
    root = np.linalg.cholesky(error_covariance(operator))
    exact = operator(states)
    y = exact + noise * rng.normal(size=exact.shape) @ root.T
    background = truth[0] + noise * rng.normal(size=(n, 3)) @ np.linalg.cholesky(B).T
    return background, states, y


def long_cost(start, background, y, steps, name: str):
    """Return J (n,) of starts x_0 (n, 3) by `forecast`, its gradient by `adjoint`."""
    operator = ObservationOperator(name)
    R = error_covariance(operator)
    gradient = (start - background) @ np.linalg.inv(B)
    cost = 0.5 * np.sum(gradient * (start - background), axis=1)
    for i in range(y.shape[1]):
        n_steps = sum(steps[:i])
        later = forecast(start, n_steps)
        residual = y[:, i] - operator(later)
        weighted = residual @ np.linalg.inv(R)
        cost += 0.5 * np.sum(residual * weighted, axis=1)
        slope = np.einsum("nmk,nm->nk", operator.jacobian(later), weighted)
        gradient -= adjoint(start, slope, n_steps)
    return cost, gradient
