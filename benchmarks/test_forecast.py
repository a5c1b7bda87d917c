"""Forecast: the final state of an ensemble, nothing stored in between."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from benchmarks.integration_peers import (
    COMPILED,
    STEPPERS,
    forecast_by,
    scipy_solution,
)
from benchmarks.levels import levels
from l63fast.lorenz63 import forecast

N_STEPS: Final = 100
DT: Final = 0.01
UNIT: Final = "steps"
N_FEW: Final = 10  # members that scipy integrates, one by one

pytestmark = pytest.mark.benchmark(
    group=f"forecast, 50,000 members x {N_STEPS} steps, float64, one core"
)


@pytest.fixture(scope="module")
def amount(states):
    return len(states) * N_STEPS


@pytest.fixture(scope="module")
def reference(states):
    return forecast(states, N_STEPS, dt=DT, backend="numba")


@pytest.mark.parametrize("level", levels())
def test_cpp(measure, instruction_set, states, amount, reference, level):
    instruction_set(level)
    final = measure(
        f"l63fast, C++ {level}",
        lambda: forecast(states, N_STEPS, dt=DT, n_threads=1, backend="cpp"),
        amount=amount,
        unit=UNIT,
    )
    assert final.tobytes() == reference.tobytes()


def test_numba(measure, states, amount, reference):
    final = measure(
        "l63fast, Numba",
        lambda: forecast(states, N_STEPS, dt=DT, n_threads=1, backend="numba"),
        amount=amount,
        unit=UNIT,
    )
    assert final.tobytes() == reference.tobytes()


@pytest.mark.parametrize("name", STEPPERS)
def test_peer(measure, states, amount, reference, name):
    final = measure(
        name, lambda: forecast_by(name, states, N_STEPS, DT), amount=amount, unit=UNIT
    )
    np.testing.assert_allclose(final, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_peer(measure, states, amount, reference, name):
    run = COMPILED[name](N_STEPS, DT)
    final = measure(name, lambda: run(states), amount=amount, unit=UNIT)
    np.testing.assert_allclose(final, reference, rtol=0, atol=1e-9)


def test_scipy(measure, states, reference):
    pytest.importorskip("scipy")
    final = measure(
        f"scipy solve_ivp, {N_FEW} members one by one, RK45 to 1e-6",
        lambda: np.stack(
            [scipy_solution(state, N_STEPS, DT)[-1] for state in states[:N_FEW]]
        ),
        amount=N_FEW * N_STEPS,
        unit=UNIT,
    )
    np.testing.assert_allclose(final, reference[:N_FEW], rtol=0, atol=1e-2)
