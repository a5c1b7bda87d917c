"""Lorenz-63 by classical RK4 in other libraries, each in the form that suits it.

A stepper takes states (n, 3) and dt and yields the components (x, y, z) after one more
step, for ever. The peers that compile a whole loop have functions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import numpy as np
import pytest

Stepper = Callable[[Any, float], Iterator[Any]]

SIGMA: Final = 10.0
RHO: Final = 28.0
BETA: Final = 8.0 / 3.0


def tendency(x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
    return SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z


def rk4(x: Any, y: Any, z: Any, dt: float) -> tuple[Any, Any, Any]:
    """Return the state one step later, for anything that adds and multiplies."""
    a1, b1, c1 = tendency(x, y, z)
    h = 0.5 * dt
    a2, b2, c2 = tendency(x + h * a1, y + h * b1, z + h * c1)
    a3, b3, c3 = tendency(x + h * a2, y + h * b2, z + h * c2)
    a4, b4, c4 = tendency(x + dt * a3, y + dt * b3, z + dt * c3)
    return (
        x + dt / 6 * (a1 + 2 * (a2 + a3) + a4),
        y + dt / 6 * (b1 + 2 * (b2 + b3) + b4),
        z + dt / 6 * (c1 + 2 * (c2 + c3) + c4),
    )


def numpy_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    """Yield steps as one writes them: whole arrays, a component each."""
    x, y, z = np.ascontiguousarray(states.T)
    while True:
        x, y, z = rk4(x, y, z, dt)
        yield x, y, z


def numpy_lean_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    """Yield steps that make no temporary array: the fastest form found in NumPy."""
    s = np.array(states.T, order="C")
    k, p, total = np.empty_like(s), np.empty_like(s), np.empty_like(s)
    spare = np.empty_like(s[0])

    def tendency_into(k: np.ndarray, s: np.ndarray) -> None:
        (x, y, z), (a, b, c) = s, k
        np.subtract(y, x, out=a)
        np.multiply(a, SIGMA, out=a)
        np.subtract(RHO, z, out=b)
        np.multiply(b, x, out=b)
        np.subtract(b, y, out=b)
        np.multiply(x, y, out=c)
        np.multiply(z, BETA, out=spare)
        np.subtract(c, spare, out=c)

    while True:
        tendency_into(total, s)
        np.multiply(total, 0.5 * dt, out=p)
        for weight, repeats in ((0.5 * dt, 2), (dt, 2), (0.0, 1)):
            np.add(p, s, out=p)
            tendency_into(k, p)
            for _ in range(repeats):
                np.add(total, k, out=total)
            if weight:
                np.multiply(k, weight, out=p)
        np.multiply(total, dt / 6, out=total)
        np.add(s, total, out=s)
        yield s


def torch_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    torch = pytest.importorskip("torch")
    with torch.inference_mode():
        x, y, z = torch.from_numpy(np.ascontiguousarray(states.T))
        while True:
            x, y, z = rk4(x, y, z, dt)
            yield x, y, z


def dapper_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    lorenz63 = pytest.importorskip("dapper.mods.Lorenz63")
    state = states
    while True:
        state = lorenz63.step(state, 0.0, dt)
        yield state.T


# Name, stepper, members per block.
STEPPERS: Final[dict[str, tuple[Stepper, int]]] = {
    "NumPy": (numpy_steps, 2**62),
    "NumPy, in blocks without temporaries": (numpy_lean_steps, 8192),
    "torch, eager": (torch_steps, 2**62),
    "DAPPER": (dapper_steps, 2**62),
}


def forecast_by(name: str, states: np.ndarray, n_steps: int, dt: float) -> np.ndarray:
    """Return the states after n_steps, (n, 3)."""
    steps, block = STEPPERS[name]
    final = np.empty_like(states)
    for i in range(0, len(states), block):
        for components in islice(steps(states[i : i + block], dt), n_steps):
            last = components
        for c in range(3):
            final[i : i + block, c] = last[c]
    return final


def simulate_by(
    name: str, states: np.ndarray, n_steps: int, dt: float, out: np.ndarray
) -> None:
    """Fill out (n_steps + 1, 3, n), the layout in which these write fastest."""
    steps, block = STEPPERS[name]
    out[0] = states.T
    for i in range(0, len(states), block):
        members = states[i : i + block]
        for k, components in enumerate(islice(steps(members, dt), n_steps), 1):
            for c in range(3):
                out[k, c, i : i + block] = components[c]


def scipy_solution(state: np.ndarray, n_steps: int, dt: float) -> np.ndarray:
    """Return one member's trajectory (n_steps + 1, 3) by adaptive Runge-Kutta."""
    from scipy.integrate import solve_ivp

    times = np.arange(n_steps + 1) * dt
    span = (0.0, times[-1])
    solution = solve_ivp(
        lambda _, s: tendency(*s), span, state, "RK45", times, rtol=1e-6, atol=1e-6
    )
    return solution.y.T


def jax_forecast(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a compiled forecast, (n, 3) to (n, 3)."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)

    @jax.jit
    def forecast(states: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            return rk4(*s, dt)

        return jax.numpy.stack(jax.lax.fori_loop(0, n_steps, step, tuple(states.T)), -1)

    return lambda states: np.asarray(forecast(states))


def heyoka_forecast(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a forecast by a compiled function of one RK4 step, in blocks."""
    heyoka = pytest.importorskip("heyoka")
    variables = heyoka.make_vars("x", "y", "z")
    step = heyoka.cfunc(list(rk4(*variables, dt)), vars=variables)
    block = 1024

    def forecast(states: np.ndarray) -> np.ndarray:
        final = np.empty_like(states)
        for i in range(0, len(states), block):
            s = np.ascontiguousarray(states[i : i + block].T)
            other = np.empty_like(s)
            for _ in range(n_steps):
                step(inputs=s, outputs=other)
                s, other = other, s
            final[i : i + block] = s.T
        return final

    return forecast


COMPILED: Final = {
    "jax, compiled loop": jax_forecast,
    "heyoka, compiled step": heyoka_forecast,
}
