"""Simulate: every state of an ensemble, stored in an array that is used again."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from benchmarks.integration_peers import STEPPERS, scipy_solution, simulate_by
from benchmarks.levels import levels
from l63fast.lorenz63 import simulate

N_STEPS: Final = 400
N_MEMBERS: Final = 5_000
DT: Final = 0.01
UNIT: Final = "steps"
N_FEW: Final = 5  # members that scipy integrates, one by one
MEMBER_FIRST: Final = (0, 1, 2)
TIME_FIRST: Final = (1, 0, 2)

pytestmark = pytest.mark.benchmark(
    group=f"simulate, {N_MEMBERS:,} members x {N_STEPS} steps, every state stored, "
    "float64, one core"
)


@pytest.fixture(scope="module")
def members(states):
    return np.ascontiguousarray(states[:N_MEMBERS])


@pytest.fixture(scope="module")
def reference(members):
    return simulate(members, N_STEPS, dt=DT, backend="numba")


def run(measure, name, members, backend, order):
    """Measure a backend that writes into an array whose memory has this order."""
    shape = np.array([N_MEMBERS, N_STEPS + 1, 3])[list(order)]
    out = np.zeros(shape).transpose(np.argsort(order))
    return measure(
        name,
        lambda: simulate(
            members, N_STEPS, dt=DT, out=out, n_threads=1, backend=backend
        ),
        amount=N_MEMBERS * N_STEPS,
        unit=UNIT,
    )


@pytest.mark.parametrize("order", [MEMBER_FIRST, TIME_FIRST], ids=["member", "time"])
@pytest.mark.parametrize("level", levels())
def test_cpp(measure, instruction_set, members, reference, level, order):
    instruction_set(level)
    name = f"l63fast, C++ {level}{', time first' if order == TIME_FIRST else ''}"
    trajectory = run(measure, name, members, "cpp", order)
    assert trajectory.tobytes() == reference.tobytes()


def test_numba(measure, members, reference):
    trajectory = run(measure, "l63fast, Numba", members, "numba", MEMBER_FIRST)
    assert trajectory.tobytes() == reference.tobytes()


@pytest.mark.parametrize("name", STEPPERS)
def test_peer(measure, members, reference, name):
    out = np.zeros((N_STEPS + 1, 3, N_MEMBERS))
    measure(
        f"{name}, time first",
        lambda: simulate_by(name, members, N_STEPS, DT, out),
        amount=N_MEMBERS * N_STEPS,
        unit=UNIT,
    )
    # Four time units multiply a rounding error by about 40, at worst by 10,000.
    np.testing.assert_allclose(out.transpose(2, 0, 1), reference, rtol=0, atol=1e-7)


def test_scipy(measure, members, reference):
    pytest.importorskip("scipy")
    trajectory = measure(
        f"scipy solve_ivp, {N_FEW} members one by one, RK45 to 1e-6",
        lambda: np.stack(
            [scipy_solution(state, N_STEPS, DT) for state in members[:N_FEW]]
        ),
        amount=N_FEW * N_STEPS,
        unit=UNIT,
    )
    short = slice(0, 101)
    np.testing.assert_allclose(
        trajectory[:, short], reference[:N_FEW, short], rtol=0, atol=1e-2
    )
