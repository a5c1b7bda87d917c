"""How the cost of a unit of work changes with the number of members and of steps."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
import pytest

from benchmarks.levels import levels
from benchmarks.peers.stepwise import forecast_by, numpy_steps
from benchmarks.rows import Growth
from l63fast._timing import in_turns
from l63fast.experiments.speed import DT, analysis_problem
from l63fast.lorenz63 import forecast, simulate, spin_up

MEMBERS: Final = (1, 10, 100, 1_000, 10_000, 100_000)
STEPS: Final = (1, 10, 100, 1_000, 10_000)
N_STEPS: Final = 100  # where the members grow
N_MEMBERS: Final = 1_000  # where the steps grow
SECONDS: Final = 0.15


def functions(states: np.ndarray, n_steps: int) -> dict[str, Any]:
    """Return a call of every function for these states and steps."""
    calls: dict[str, Any] = {}
    for backend in ("cpp", "numba") if levels() else ("numba",):
        calls[f"forecast, {backend}"] = partial(
            forecast, states, n_steps, dt=DT, n_threads=1, backend=backend
        )
    calls["simulate"] = partial(simulate, states, n_steps, dt=DT, n_threads=1)
    if len(states) * n_steps <= 1_000_000:
        whole_arrays = forecast_by(numpy_steps, 2**62, n_steps, DT)
        calls["NumPy, final state"] = partial(whole_arrays, states)
    return calls


def grown(benchmark, record, axis, size, calls, amount):
    """Time calls in turns and record what a unit of each costs."""
    seconds = benchmark.pedantic(
        in_turns, args=(calls,), kwargs={"seconds": SECONDS * len(calls)}
    )
    for name, time in seconds.items():
        record(Growth(name, axis, size, time / amount))


@pytest.mark.parametrize("n", MEMBERS)
def test_members(benchmark, record, states, n):
    calls = functions(states[:n], N_STEPS)
    grown(benchmark, record, "members", n, calls, n * N_STEPS)
    final = forecast(states[:n], N_STEPS)
    assert calls["simulate"]()[:, -1].tobytes() == final.tobytes()


@pytest.mark.parametrize("n_steps", STEPS)
def test_steps(benchmark, record, n_steps):
    states = spin_up(N_MEMBERS, seed=0, time=5.0)
    calls = functions(states, n_steps)
    grown(benchmark, record, "steps", n_steps, calls, N_MEMBERS * n_steps)
    assert calls["simulate"]()[:, -1].tobytes() == forecast(states, n_steps).tobytes()


@pytest.mark.parametrize("n", MEMBERS)
def test_analyses(benchmark, record, n):
    problem = analysis_problem(n, "x2")
    calls = {"3D-Var of x², 10 iterations": problem.solve}
    grown(benchmark, record, "analyses", n, calls, n)
    assert problem.solve().tobytes() == problem.solve(backend="numba").tobytes()
