"""3D-Var: a batch of analyses, one B and one R for all, a fixed number of iterations.

The samples have observed components away from zero and good backgrounds, so that
plain Gauss-Newton, which is all that the peers do, finds the minimum too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from benchmarks.analysis_peers import PEERS, Problem
from benchmarks.levels import levels
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import spin_up
from l63fast.observation import ObservationOperator

N_SAMPLES: Final = 50_000
UNIT: Final = "analyses"
SPREAD: Final = 0.5  # standard deviation of the background error, each component
CORRELATION: Final = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, -0.1], [0.1, -0.1, 1.0]])
# Iterations of each operator: a linear h is solved by the first.
OPERATORS: Final = {"x": 1, "xy": 1, "xyz": 1, "x2": 10, "x2y2": 10, "x2y2z2": 10}


@pytest.fixture(scope="module")
def truth():
    """Return states on the attractor with |x| and |y| above 4, (n, 3)."""
    every = spin_up(3 * N_SAMPLES, seed=1, time=5.0)
    chosen = every[(np.abs(every[:, :2]) > 4.0).all(axis=1)]
    return chosen[:N_SAMPLES]


@pytest.fixture(scope="module", params=OPERATORS)
def problem(request, truth):
    operator, rng = ObservationOperator(request.param), np.random.default_rng(0)
    B = SPREAD**2 * CORRELATION
    R = np.eye(operator.obs_dim)
    background = truth + rng.normal(size=truth.shape) @ np.linalg.cholesky(B).T
    observation = operator(truth) + rng.normal(size=(len(truth), operator.obs_dim))
    return Problem(background, observation, operator, B, R, OPERATORS[request.param])


@pytest.fixture
def timed(benchmark, measure, problem):
    """Return a function that measures another in this problem's group."""
    n, times = problem.n_iter, "iteration" if problem.n_iter == 1 else "iterations"
    benchmark.group = (
        f"3D-Var of {problem.operator.name}, {N_SAMPLES:,} analyses, {n} {times}, "
        "float64, one core"
    )
    return lambda name, function: measure(name, function, amount=N_SAMPLES, unit=UNIT)


def analyse(problem: Problem, backend: str) -> np.ndarray:
    return three_d_var(
        problem.background,
        problem.observation,
        problem.operator,
        B=problem.B,
        R=problem.R,
        max_iter=problem.n_iter,
        tol=1e-300,
        multi_start=False,
        n_threads=1,
        backend=backend,
    ).state


@pytest.fixture(scope="module")
def reference(problem):
    return analyse(problem, "numba")


@pytest.mark.parametrize("level", levels())
def test_cpp(timed, instruction_set, problem, reference, level):
    instruction_set(level)
    state = timed(f"l63fast, C++ {level}", lambda: analyse(problem, "cpp"))
    assert state.tobytes() == reference.tobytes()


def test_numba(timed, problem, reference):
    state = timed("l63fast, Numba", lambda: analyse(problem, "numba"))
    assert state.tobytes() == reference.tobytes()


@pytest.mark.parametrize("name", PEERS)
def test_peer(timed, problem, reference, name):
    state = timed(name, lambda: PEERS[name](problem))
    np.testing.assert_allclose(state, reference, rtol=0, atol=1e-7)
