"""torch.compile and the solvers of ODEs: heyoka, torchdiffeq, torchode, scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.peers import Peer
from benchmarks.peers.rk4 import rk4, tendency

FUSED: Final = 10  # steps that torch.compile makes one kernel of
BLOCK: Final = 1024  # members that heyoka's function is given at once


def torch_compile(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """Fuse steps by the compiler that torch.compile calls at run time."""
    import torch

    def steps(x: Any, y: Any, z: Any) -> Any:
        for _ in range(FUSED):
            x, y, z = rk4(x, y, z, dt)
        return x, y, z

    compiled = torch.compile(steps, dynamic=False)

    def forecast(states: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            s = torch.from_numpy(states.T.copy()).unbind()
            for _ in range(n_steps // FUSED):
                s = compiled(*s)
            return torch.stack(s, -1).numpy()

    try:
        forecast(np.ones((64, 3)))
    except Exception as error:  # whatever its compiler raises
        pytest.skip(f"torch.compile fails here: {str(error).splitlines()[0]}")
    return forecast


def heyoka_step(dt: float) -> Any:
    """Return heyoka's compiled function of one RK4 step."""
    import heyoka

    variables = heyoka.make_vars("x", "y", "z")
    return heyoka.cfunc(list(rk4(*variables, dt)), vars=variables)


def heyoka_final(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    step = heyoka_step(dt)

    def forecast(states: np.ndarray) -> np.ndarray:
        final = np.empty_like(states)
        for i in range(0, len(states), BLOCK):
            s = np.ascontiguousarray(states[i : i + BLOCK].T)
            other = np.empty_like(s)
            for _ in range(n_steps):
                step(inputs=s, outputs=other)
                s, other = other, s
            final[i : i + BLOCK] = s.T
        return final

    return forecast


def heyoka_stored(n_steps: int, dt: float) -> Callable[..., np.ndarray]:
    step = heyoka_step(dt)

    def simulate(states: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[0] = states.T
        for k in range(n_steps):
            step(inputs=out[k], outputs=out[k + 1])
        return out

    return simulate


def torchdiffeq(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """Its method "rk4" is the 3/8 rule: of the same order, not the same numbers."""
    import torch
    from torchdiffeq import odeint

    times = torch.tensor([0.0, n_steps * dt], dtype=torch.float64)

    def field(_: Any, s: Any) -> Any:
        return torch.stack(tendency(*s))

    def forecast(states: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            s = torch.from_numpy(states.T.copy())
            options = {"step_size": dt}
            return odeint(field, s, times, method="rk4", options=options)[-1].T.numpy()

    return forecast


def torchode(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """Dopri5 with fixed steps, the nearest it has: six stages a step, not four."""
    import torch
    import torchode as to

    def field(_: Any, s: Any) -> Any:
        return torch.stack(tendency(*s.unbind(-1)), -1)

    term = to.ODETerm(field)
    solver = to.AutoDiffAdjoint(to.Dopri5(term=term), to.FixedStepController())

    def forecast(states: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            n = len(states)
            ends = torch.tensor([[0.0, n_steps * dt]], dtype=torch.float64)
            problem = to.InitialValueProblem(
                y0=torch.from_numpy(states), t_eval=ends.repeat(n, 1)
            )
            steps = torch.full((n,), dt, dtype=torch.float64)
            return solver.solve(problem, dt0=steps).ys[:, -1].numpy()

    return forecast


def scipy_stored(n_steps: int, dt: float) -> Callable[..., np.ndarray]:
    """Adaptive RK45 to 1e-6, member by member, as solve_ivp is used."""
    from scipy.integrate import solve_ivp

    times = np.arange(n_steps + 1) * dt

    def simulate(states: np.ndarray, out: np.ndarray) -> np.ndarray:
        for i, state in enumerate(states):
            out[:, :, i] = solve_ivp(
                lambda _, s: tendency(*s), (0.0, times[-1]), state, "RK45", times,
                rtol=1e-6, atol=1e-6,
            ).y.T  # fmt: skip
        return out

    return simulate


def scipy_final(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    simulate = scipy_stored(n_steps, dt)
    return lambda states: (
        simulate(states, np.empty((n_steps + 1, 3, len(states))))[-1].T
    )


FORECAST: Final = [
    Peer(f"torch.compile, {FUSED} fused steps", torch_compile, ("torch",)),
    Peer("heyoka, compiled RK4 step", heyoka_final, ("heyoka",)),
    Peer("torchdiffeq, 3/8 rule", torchdiffeq, ("torchdiffeq",), 10_000, 1e-2),
    Peer("torchode, Dopri5 fixed steps", torchode, ("torchode",), 10_000, 5e-2),
    Peer("scipy solve_ivp, RK45 to 1e-6", scipy_final, ("scipy",), 10, 1e-2),
]
SIMULATE: Final = [
    Peer("heyoka, compiled RK4 step", heyoka_stored, ("heyoka",)),
    Peer("scipy solve_ivp, RK45 to 1e-6", scipy_stored, ("scipy",), 3, 1e-2),
]
