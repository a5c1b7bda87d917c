"""The shortest periodic orbit of Lorenz-63, by shooting with the propagator."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.lorenz63 import Lorenz63, propagator

# Orbit AB, one turn around each fixed point: Viswanath (2003), Symbolic dynamics and
# periodic orbits of the Lorenz attractor, Nonlinearity 16, 1035-1056.
PERIOD = 1.558652210716
MULTIPLIERS = (4.71294727, 1.0, 1.19e-10)
N_STEPS = 4000  # per period: RK4's own error is then below 1e-9


def tendency(state: np.ndarray) -> np.ndarray:
    sigma, rho, beta = Lorenz63().as_tuple()
    x, y, z = state
    return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z])


def periodic_orbit(backend: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Return state on the plane z = rho - 1, period, and the derivative over it."""
    state, period = np.array([-13.7, -19.5, 27.0]), 1.56
    for _ in range(8):
        final, matrix = propagator(state, N_STEPS, dt=period / N_STEPS, backend=backend)
        # final(x, y, period) = (x, y, 27): three equations, three unknowns.
        jacobian = matrix - np.eye(3)
        jacobian[:, 2] = tendency(final)
        dx, dy, dt = np.linalg.solve(jacobian, state - final)
        state, period = state + np.array([dx, dy, 0.0]), period + dt
    assert np.abs(final - state).max() < 1e-11
    return state, period, matrix


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_floquet_multipliers_of_the_orbit_ab(backend: str) -> None:
    state, period, matrix = periodic_orbit(backend)
    assert period == pytest.approx(PERIOD, abs=1e-9)
    multipliers, directions = np.linalg.eig(matrix)
    order = np.argsort(-np.abs(multipliers))
    unstable, neutral, stable = multipliers[order]
    assert unstable == pytest.approx(MULTIPLIERS[0], abs=2e-8)
    assert neutral == pytest.approx(MULTIPLIERS[1], abs=1e-8)
    assert stable == pytest.approx(MULTIPLIERS[2], rel=0.01)
    # The neutral direction is that of the flow.
    flow = tendency(state) / np.linalg.norm(tendency(state))
    assert abs(flow @ directions[:, order[1]]) == pytest.approx(1.0, abs=1e-9)
    # Volume shrinks at the constant rate sigma + 1 + beta.
    sigma, _, beta = Lorenz63().as_tuple()
    shrunk = unstable * neutral * stable
    assert shrunk == pytest.approx(np.exp(-(sigma + 1 + beta) * period), rel=0.01)
