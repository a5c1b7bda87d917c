"""The derivative of the forecast: tangent-linear, adjoint, Lyapunov exponents."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast._kernels import TangentJob
from l63fast.lorenz63.model import DEFAULT_PARAMETERS, Integration, Lorenz63

# Initial directions in no invariant line or plane of the model, so that the exponents
# come out in order.
_START: Final = ((3.0, 2.0, 1.0), (1.0, 3.0, 2.0), (2.0, 1.0, 3.0))


def tangent_linear(
    state: Any,
    perturbation: Any,
    n_steps: int,
    *,
    dt: float = 0.01,
    parameters: Lorenz63 = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    backend: str = "auto",
    on_divergence: str = "raise",
    allow_large_dt: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the forecast and M times a perturbation, where M is its exact derivative.

    M is the derivative of the discrete steps, not of the continuous equations. The
    forecast equals that of `forecast` to the last bit. The other arguments and the
    errors are those of `forecast`.

    Parameters
    ----------
    state : (..., 3) float64 or float32
        States at the start.
    perturbation : (..., 3) or (..., k, 3)
        One or k perturbations of each state, of any size, since M is linear.
    n_steps : int
        Number of steps.

    Returns
    -------
    (..., 3) and an array shaped like `perturbation`

    Raises
    ------
    DivergenceError
        If a state or a perturbation left the floating-point range.
    """
    call = Integration(
        state, "state", n_steps, dt, parameters, None, n_threads,
        backend, on_divergence, allow_large_dt,
    )  # fmt: skip
    perturbation = _checks.vectors_of("perturbation", perturbation, call.states)
    if not call.n_steps or not perturbation.size:
        return _forecast(call, call.n_steps), perturbation.copy()

    def carry(n: int, members: Any) -> tuple[np.ndarray, np.ndarray, int]:
        job = _job(call, call.states, perturbation, n, members)
        return call.kernels.tangent(job, call.n_threads)

    final, carried, n_diverged = carry(call.n_steps, slice(None))
    if n_diverged and call.policy == "raise":
        _forecast(call, call.n_steps)  # raises if a state became non-finite
        members = _non_finite(carried)
        step = _first(lambda n: carry(n, members)[2] > 0, call.n_steps)
        raise call.divergence("perturbation: ", members, step)
    return final.reshape(call.states.shape), carried.reshape(perturbation.shape)


def adjoint(
    state: Any,
    gradient: Any,
    n_steps: int,
    *,
    dt: float = 0.01,
    parameters: Lorenz63 = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    backend: str = "auto",
    on_divergence: str = "raise",
    allow_large_dt: bool = False,
) -> np.ndarray:
    """Return M^T times a gradient: the gradient of J(forecast(state)).

    M is the derivative in `tangent_linear`. The trajectory is computed again, and once
    more for each factor of 512 in the number of steps, so that the memory needed does
    not grow with it. The other arguments are those of `forecast`.

    Parameters
    ----------
    state : (..., 3) float64 or float32
        States at the start.
    gradient : (..., 3) or (..., k, 3)
        One or k gradients with respect to the state after `n_steps`.
    n_steps : int
        Number of steps.

    Returns
    -------
    An array shaped like `gradient`

    Raises
    ------
    DivergenceError
        If a state or a gradient left the floating-point range.
    """
    call = Integration(
        state, "state", n_steps, dt, parameters, None, n_threads,
        backend, on_divergence, allow_large_dt,
    )  # fmt: skip
    gradient = _checks.vectors_of("gradient", gradient, call.states)
    if not call.n_steps or not gradient.size:
        return np.array(gradient)

    def carry_back(n: int, members: Any) -> tuple[np.ndarray, int]:
        start = _forecast(call, call.n_steps - n)
        job = _job(call, start, gradient, n, members)
        return call.kernels.adjoint(job, call.n_threads)

    carried, n_diverged = carry_back(call.n_steps, slice(None))
    if n_diverged and call.policy == "raise":
        _forecast(call, call.n_steps)  # raises if a state became non-finite
        members = _non_finite(carried)
        n_back = _first(lambda n: carry_back(n, members)[1] > 0, call.n_steps)
        raise call.divergence("gradient: ", members, call.n_steps - n_back + 1)
    return carried.reshape(gradient.shape)


def propagator(
    state: Any,
    n_steps: int,
    *,
    dt: float = 0.01,
    parameters: Lorenz63 = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    backend: str = "auto",
    on_divergence: str = "raise",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the forecast (..., 3) and its derivative M (..., 3, 3), the propagator.

    M[..., i, j] is the derivative of component i after `n_steps` with respect to
    component j at the start. Arguments and errors are those of `tangent_linear`.
    """
    states = _checks.states("state", state)
    identity = np.eye(3, dtype=states.dtype)
    basis = np.broadcast_to(identity, (*states.shape, 3))
    final, columns = tangent_linear(
        states, basis, n_steps, dt=dt, parameters=parameters,
        n_threads=n_threads, backend=backend, on_divergence=on_divergence,
    )  # fmt: skip
    return final, np.ascontiguousarray(np.swapaxes(columns, -1, -2))


@ieee_arithmetic()
def lyapunov_exponents(
    state: Any,
    n_steps: int,
    *,
    n_transient: int = 1000,
    steps_per_basis: int = 50,
    dt: float = 0.01,
    parameters: Lorenz63 = DEFAULT_PARAMETERS,
    n_threads: int | None = None,
    backend: str = "auto",
) -> np.ndarray:
    """Return the Lyapunov exponents of each trajectory, (..., 3), largest first.

    Source: Benettin, Galgani, Giorgilli & Strelcyn (1980), Meccanica 15, 9-30.

    Parameters
    ----------
    state : (..., 3) float64 or float32
        States on the attractor.
    n_steps : int
        Steps that the exponents are averaged over, at least 1.
    n_transient : int
        Steps before these, in which the basis turns to its final directions.
    steps_per_basis : int
        Steps between two orthonormalisations; in 50 steps of 0.01 the basis flattens
        by a factor of about 2,000.

    Returns
    -------
    (..., 3), per time unit: the average over n_steps * dt along each trajectory

    Raises
    ------
    ArgumentValueError, ArgumentTypeError, DivergenceError
        As `tangent_linear`.
    """
    states = _checks.states("state", state)
    n_steps = _checks.count("n_steps", n_steps, minimum=1)
    n_transient = _checks.count("n_transient", n_transient)
    steps_per_basis = _checks.count("steps_per_basis", steps_per_basis, minimum=1)
    start, _ = _orthonormal(np.array(_START, dtype=states.dtype))
    basis = np.broadcast_to(start, (*states.shape, 3))
    growth = np.zeros(states.shape)
    # Each exponent is the mean logarithm of the growth of one Gram-Schmidt direction.
    for counted, total in ((False, n_transient), (True, n_steps)):
        for done in range(0, total, steps_per_basis):
            states, basis = tangent_linear(
                states, basis, min(steps_per_basis, total - done), dt=dt,
                parameters=parameters, n_threads=n_threads, backend=backend,
            )  # fmt: skip
            basis, lengths = _orthonormal(basis)
            if counted:
                growth += np.log(lengths)
    return growth / (n_steps * dt)


def _forecast(call: Integration, n_steps: int) -> np.ndarray:
    final = call.states.copy()
    if n_steps:
        call.run(final.reshape(-1, 1, 3), n_steps)
    return final


def _job(
    call: Integration, states: np.ndarray, vectors: np.ndarray, n_steps: int, some: Any
) -> TangentJob:
    """Return the job of some members; the arrays are views."""
    k = vectors.shape[-2] if vectors.ndim > states.ndim else 1
    states, vectors = states.reshape(-1, 3), vectors.reshape(states.size // 3, k, 3)
    parameters = call.parameters
    assert isinstance(parameters, tuple)
    return TangentJob(states[some], vectors[some], n_steps, call.dt, parameters)


def _non_finite(vectors: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~np.isfinite(vectors).all(axis=(1, 2)))


def _first(bad: Callable[[int], bool], n_steps: int) -> int:
    """Return the smallest bad number of steps; NaN and infinity never go away."""
    return 1 + bisect_left(range(1, n_steps + 1), True, key=bad)


def _orthonormal(basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an orthonormal basis (..., k, 3) and the lengths (..., k) before scaling.

    Gram-Schmidt over all members at once; NumPy's QR would loop over the members.
    """
    directions: list[np.ndarray] = []
    lengths = []
    for k in range(basis.shape[-2]):
        vector = basis[..., k, :]
        for direction in directions:
            along = np.sum(vector * direction, axis=-1, keepdims=True)
            vector = vector - along * direction
        length = np.sqrt(np.sum(vector * vector, axis=-1, keepdims=True))
        directions.append(vector / length)
        lengths.append(length[..., 0])
    return np.stack(directions, axis=-2), np.stack(lengths, axis=-1)
