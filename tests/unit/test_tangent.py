"""Tangent-linear and adjoint: the exact derivative of the forecast, and its facts."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from l63fast.lorenz63 import (
    Lorenz63,
    adjoint,
    forecast,
    propagator,
    simulate,
    spin_up,
    tangent_linear,
)


def random_vectors(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def exact_forecast(state, n_steps: int, dt: float):
    """Return the forecast in the arithmetic of mpmath: written as in any textbook."""
    sigma, rho, beta = map(mpmath.mpf, Lorenz63().as_tuple())
    dt = mpmath.mpf(dt)

    def tendency(x, y, z):
        return sigma * (y - x), x * (rho - z) - y, x * y - beta * z

    def moved(s, h, k):
        return [a + h * b for a, b in zip(s, k, strict=True)]

    for _ in range(n_steps):
        k1 = tendency(*state)
        k2 = tendency(*moved(state, dt / 2, k1))
        k3 = tendency(*moved(state, dt / 2, k2))
        k4 = tendency(*moved(state, dt, k3))
        mean = [(a + 2 * b + 2 * c + d) / 6
                for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]  # fmt: skip
        state = moved(state, dt, mean)
    return state


def exact_propagator(state: np.ndarray, n_steps: int, dt: float) -> np.ndarray:
    """Return the derivative by central differences with 80 digits: good to 1e-30."""
    with mpmath.workdps(80):
        step = mpmath.mpf(10) ** -25
        start = [mpmath.mpf(float(v)) for v in state]
        columns = []
        for j in range(3):
            ends = []
            for sign in (1, -1):
                there = list(start)
                there[j] += sign * step
                ends.append(exact_forecast(there, n_steps, dt))
            columns.append([float((a - b) / (2 * step)) for a, b in zip(*ends,
                           strict=True)])  # fmt: skip
    return np.array(columns).T


@pytest.mark.parametrize(
    ("n_steps", "dt"), [(1, 0.01), (1, 0.05), (2, 0.05), (25, 0.01), (100, 0.01)]
)
def test_both_are_the_derivative_of_the_discrete_forecast(backend, n_steps, dt) -> None:
    for state in spin_up(3, seed=1):
        exact = exact_propagator(state, n_steps, dt)
        scale = np.abs(exact).max() * (1 + n_steps)
        final, matrix = propagator(state, n_steps, dt=dt, backend=backend)
        assert np.abs(matrix - exact).max() < 2e-15 * scale
        assert np.array_equal(final, forecast(state, n_steps, dt=dt))
        rows = adjoint(state, np.eye(3), n_steps, dt=dt, backend=backend)
        assert np.abs(rows - exact).max() < 2e-15 * scale


def test_float32_and_other_parameters_too(backend) -> None:
    model = Lorenz63(sigma=7.0, rho=40.0, beta=2.0)
    state = spin_up(50, seed=2)
    u, e = random_vectors(state.shape, 3), 1e-6
    ahead, behind = (forecast(state + s * e * u, 20, parameters=model) for s in (1, -1))
    _, wide = tangent_linear(state, u, 20, parameters=model, backend=backend)
    assert np.allclose(wide, (ahead - behind) / (2 * e), rtol=0, atol=1e-6)
    narrow_state, narrow_u = state.astype(np.float32), u.astype(np.float32)
    final, narrow = tangent_linear(
        narrow_state, narrow_u, 20, parameters=model, backend=backend
    )
    assert final.dtype == narrow.dtype == np.float32
    expected = forecast(narrow_state, 20, parameters=model)
    assert final.tobytes() == expected.tobytes()
    assert np.allclose(narrow, wide, rtol=0, atol=1e-3)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 10, 25, 100, 250])
def test_dot_products_agree(backend, n_steps: int) -> None:
    # <M u, v> = <u, M^T v>, up to the rounding of n_steps steps.
    state = spin_up(500, seed=n_steps)
    u, v = random_vectors((2, *state.shape), n_steps)
    _, forward = tangent_linear(state, u, n_steps, backend=backend)
    back = adjoint(state, v, n_steps, backend=backend)
    norms = np.linalg.norm(forward, axis=-1) * np.linalg.norm(v, axis=-1)
    norms = np.maximum(
        norms, np.linalg.norm(back, axis=-1) * np.linalg.norm(u, axis=-1)
    )
    gap = np.sum(forward * v, axis=-1) - np.sum(u * back, axis=-1)
    relative = np.abs(gap) / norms
    assert np.median(relative) < 1e-15 * (1 + n_steps / 50)
    assert relative.max() < 1e-14 * (1 + n_steps / 10)


def test_steps_compose_bit_for_bit(backend) -> None:
    state, u = spin_up(40, seed=4), random_vectors((40, 3), 5)
    middle, halfway = tangent_linear(state, u, 13, backend=backend)
    final, at_end = tangent_linear(middle, halfway, 29, backend=backend)
    whole, at_once = tangent_linear(state, u, 42, backend=backend)
    assert final.tobytes() == whole.tobytes()
    assert at_end.tobytes() == at_once.tobytes()
    back = adjoint(state, adjoint(middle, u, 29, backend=backend), 13, backend=backend)
    assert back.tobytes() == adjoint(state, u, 42, backend=backend).tobytes()


@pytest.mark.parametrize("n_steps", [511, 512, 513, 1024, 1300])
def test_checkpoints_change_no_bit(backend, n_steps: int) -> None:
    state, v = spin_up(9, seed=6), random_vectors((9, 3), 7)
    path = simulate(state, n_steps)
    expected = v
    for done in range((n_steps - 1) // 100 * 100, -1, -100):
        steps = min(100, n_steps - done)
        expected = adjoint(path[:, done], expected, steps, backend=backend)
    assert adjoint(state, v, n_steps, backend=backend).tobytes() == expected.tobytes()


def test_three_levels_of_checkpoints_change_no_bit() -> None:
    n_steps, dt = 512 * 512 + 700, 1e-5
    state, v = spin_up(1, seed=6), random_vectors((1, 3), 7)
    middle = forecast(state, 200_000, dt=dt)
    expected = adjoint(middle, v, n_steps - 200_000, dt=dt)
    for start in (100_000, 0):
        expected = adjoint(forecast(state, start, dt=dt), expected, 100_000, dt=dt)
    assert adjoint(state, v, n_steps, dt=dt).tobytes() == expected.tobytes()


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
def test_k_vectors_are_k_calls(backend, k: int) -> None:
    state, u = spin_up(45, seed=8), random_vectors((45, k, 3), 9)
    final, together = tangent_linear(state, u, 30, backend=backend)
    back = adjoint(state, u, 30, backend=backend)
    assert final.tobytes() == forecast(state, 30).tobytes()
    for j in range(k):
        _, alone = tangent_linear(state, u[:, j], 30, backend=backend)
        assert together[:, j].tobytes() == alone.tobytes()
        alone = adjoint(state, u[:, j], 30, backend=backend)
        assert back[:, j].tobytes() == alone.tobytes()


def test_both_are_linear(backend) -> None:
    state, (u, v) = spin_up(20, seed=10), random_vectors((2, 20, 3), 11)
    for apply in (
        lambda d: tangent_linear(state, d, 40, backend=backend)[1],
        lambda d: adjoint(state, d, 40, backend=backend),
    ):
        assert np.array_equal(apply(1024 * u), 1024 * apply(u))  # a power of 2: exactly
        assert np.array_equal(apply(-u), -apply(u))
        assert np.array_equal(apply(0 * u), 0 * u)
        assert np.allclose(apply(u + 3 * v), apply(u) + 3 * apply(v), atol=1e-12)


def test_shapes_and_edges(backend) -> None:
    options = {"backend": backend}
    one, grid = np.array([1.0, 2.0, 20.0]), spin_up(6, seed=1).reshape(2, 3, 3)
    for state, vectors in [
        (one, one),
        (one, np.ones((4, 3))),
        (grid, grid),
        (grid, np.ones((2, 3, 2, 3))),
        (grid, np.ones((2, 3, 0, 3))),
        (np.empty((0, 3)), np.empty((0, 3))),
        (np.empty((0, 3)), np.empty((0, 2, 3))),
    ]:
        for n_steps in (0, 5):
            final, carried = tangent_linear(state, vectors, n_steps, **options)
            assert np.array_equal(final, forecast(state, n_steps))
            assert carried.shape == vectors.shape
            back = adjoint(state, vectors, n_steps, **options)
            assert back.shape == vectors.shape
            for result in (carried, back):
                assert not np.shares_memory(result, vectors)
                if not n_steps:
                    assert np.array_equal(result, vectors)
    assert propagator(grid, 5, **options)[1].shape == (2, 3, 3, 3)
    assert np.array_equal(propagator(one, 0, **options)[1], np.eye(3))
