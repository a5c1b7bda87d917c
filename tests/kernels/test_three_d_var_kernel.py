"""The compiled 3D-Var against its oracles, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.assimilation.scheme import Status
from l63fast.assimilation.three_d_var import three_d_var, variational_cost
from l63fast.observation import ObservationOperator
from oracles import cubic_analysis, linear_analysis

N = 10_000
CLIMATE = np.array([[62.8, 62.8, 0.0], [62.8, 81.2, 0.0], [0.0, 0.0, 74.3]])


def covariances(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Return n random covariances over four decades of scale."""
    root = rng.standard_normal((n, size, size))
    scale = 10.0 ** rng.uniform(-2, 2, (n, 1, 1))
    return scale * (root @ root.swapaxes(-1, -2) + 0.05 * np.eye(size))


def cases(name: str, n: int = N, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return backgrounds, observations, B and R of n random problems."""
    rng = np.random.default_rng(seed)
    operator = ObservationOperator(name)
    background = rng.standard_normal((n, 3)) * [8, 9, 8.6] + [0, 0, 23.5]
    background[: n // 100] = 0.0
    B = covariances(rng, n, 3)
    R = covariances(rng, n, operator.obs_dim)
    step = np.linalg.cholesky(B) @ rng.standard_normal((n, 3, 1))
    noise = np.linalg.cholesky(R) @ rng.standard_normal((n, operator.obs_dim, 1))
    observation = operator(background + step[..., 0]) + noise[..., 0]
    return background, observation, B, R


def distance_to_stationary(x: np.ndarray, background, observation, operator, B, R):
    """Return |Hessian^-1 gradient| of J at x, with the Gauss-Newton Hessian."""
    H = operator.jacobian(x)
    residual = observation - operator(x)
    pull = H.swapaxes(-1, -2) @ np.linalg.solve(R, residual[..., None])
    slope = np.linalg.solve(B, (x - background)[..., None]) - pull
    hessian = np.linalg.inv(B) + H.swapaxes(-1, -2) @ np.linalg.solve(R, H)
    return np.abs(np.linalg.solve(hessian, slope)[..., 0])


@pytest.mark.parametrize("name", ["x", "y", "xy", "xz", "xyz"])
@pytest.mark.promise("N5", "1e-12 of the closed form")
def test_linear_h_is_the_kalman_update_to_1e_12(backend: str, name: str) -> None:
    background, observation, B, R = cases(name)
    operator = ObservationOperator(name)
    analysis = three_d_var(background, observation, name, B=B, R=R, backend=backend)
    expected = linear_analysis(background, observation, operator, B, R)
    scale = np.maximum(np.abs(expected - background).max(axis=-1, keepdims=True), 1.0)
    condition = np.linalg.cond(operator_covariance(operator, B) + R)[:, None]
    assert np.all(np.abs(analysis.state - expected) < 1e-12 * scale * condition**0.5)
    ordinary = condition[:, 0] < 100
    assert ordinary.mean() > 0.9
    assert np.all((np.abs(analysis.state - expected) / scale)[ordinary] < 1e-12)
    assert np.all(analysis.status == Status.CONVERGED)
    assert np.all(analysis.n_iter == 1)


def operator_covariance(operator: ObservationOperator, B: np.ndarray) -> np.ndarray:
    index = list(operator.components)
    return B[..., index, :][..., :, index]


@pytest.mark.parametrize("name", ["x2", "y2", "z2"])
@pytest.mark.promise("N5", "the root of the cubic, x_b = 0 among them")
def test_a_square_is_the_root_of_its_cubic(backend: str, name: str) -> None:
    background, observation, B, R = cases(name)
    operator = ObservationOperator(name)
    analysis = three_d_var(background, observation, name, B=B, R=R, backend=backend)
    assert np.all(analysis.status == Status.CONVERGED)
    expected = cubic_analysis(background, observation, operator, B, R)
    args = (background, observation, operator)
    best = variational_cost(expected, *args, B=B, R=R)
    mine = variational_cost(analysis.state, *args, B=B, R=R)
    assert np.all(mine - best < 1e-10 * np.maximum(best, 1.0))
    assert np.allclose(mine, analysis.cost, rtol=1e-8, atol=1e-10)
    assert np.abs(analysis.state - expected).max() < 1e-6
    assert np.allclose(analysis.residual, observation - operator(analysis.state))


@pytest.mark.parametrize(
    "name",
    [
        *("x3", "x4", "x2y"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("x2z", "x2y2", "x2y2z2", "xy3z2")
        ),
    ],
)
def test_other_powers_reach_a_minimum_that_no_random_start_beats(name: str) -> None:
    n, n_starts = 60, 1000
    background, observation, B, R = cases(name, n, seed=1)
    operator = ObservationOperator(name)
    args = (background, observation, operator)
    analysis = three_d_var(*args, B=B, R=R, max_iter=100)
    done = analysis.status == Status.CONVERGED
    assert done.mean() > 0.95
    left = distance_to_stationary(analysis.state, *args, B, R)[done]
    assert np.all(left < 1e-6 * (1 + np.abs(analysis.state[done])))
    found = random_starts(*args, B, R, n_starts)
    mine = variational_cost(analysis.state, *args, B=B, R=R)
    assert np.all(mine[done] <= found[done] + 1e-9 * np.maximum(found[done], 1.0))


def random_starts(background, observation, operator, B, R, n_starts) -> np.ndarray:
    """Return the least cost that damped Gauss-Newton finds from random starts."""
    rng = np.random.default_rng(2)
    B_inverse, R_inverse = np.linalg.inv(B), np.linalg.inv(R)

    def cost_at(x: np.ndarray) -> np.ndarray:
        d, r = x - background, observation - operator(x)
        return 0.5 * (
            np.einsum("sni,nij,snj->sn", d, B_inverse, d)
            + np.einsum("sni,nij,snj->sn", r, R_inverse, r)
        )

    size = 1 + np.linalg.norm(background, axis=-1)[:, None]
    x = background + size * rng.standard_normal((n_starts, *background.shape))
    cost = cost_at(x)
    damping = np.ones(cost.shape)
    for _ in range(40):
        H = operator.jacobian(x)
        innovation = (
            observation - operator(x) + (H @ (x - background)[..., None])[..., 0]
        )
        gain = B @ H.swapaxes(-1, -2)
        weights = np.linalg.solve(H @ gain + R, innovation[..., None])
        trial = x + damping[..., None] * (background + (gain @ weights)[..., 0] - x)
        trial_cost = cost_at(trial)
        better = trial_cost <= cost
        x = np.where(better[..., None], trial, x)
        cost = np.where(better, trial_cost, cost)
        damping = np.where(better, np.minimum(1.0, 2 * damping), damping / 2)
    return cost.min(axis=0)


@pytest.mark.promise("N5", "0 false reports")
def test_nothing_unconverged_is_reported_as_converged(backend: str) -> None:
    background, observation, B, R = cases("x2")
    for max_iter in (1, 2, 3):
        analysis = three_d_var(
            background, observation, "x2", B=B, R=R, max_iter=max_iter, backend=backend
        )
        says = analysis.status == Status.CONVERGED
        expected = cubic_analysis(
            background, observation, ObservationOperator("x2"), B, R
        )
        assert np.all(np.abs(analysis.state - expected)[says] < 1e-6)
        assert not says.all()
        assert np.all(analysis.n_iter <= max_iter)


def test_zero_iterations_give_the_background_and_say_so(backend: str) -> None:
    background, observation, B, R = cases("x2", 50)
    for name, y in (("x2", observation), ("x", observation)):
        analysis = three_d_var(
            background, y, name, B=B, R=R, max_iter=0, backend=backend
        )
        assert np.array_equal(analysis.state, background)
        assert np.all(analysis.status == Status.MAX_ITER)
        assert np.all(analysis.n_iter == 0)


def test_a_tolerance_out_of_reach_ends_with_max_iter(backend: str) -> None:
    background, observation, B, R = cases("x2", 200)
    analysis = three_d_var(
        background, observation, "x2", B=B, R=R, tol=1e-300, backend=backend
    )
    assert np.all(analysis.status == Status.MAX_ITER)
    assert np.all(analysis.n_iter == 20)
    expected = cubic_analysis(background, observation, ObservationOperator("x2"), B, R)
    assert np.abs(analysis.state - expected).max() < 1e-6


def test_a_tie_of_two_minima_takes_the_positive(backend: str) -> None:
    background = np.array([[0.0, 0.0, 20.0], [-0.0, 0.0, 20.0]])
    analysis = three_d_var(
        background, np.full((2, 1), 9.0), "x2", B=CLIMATE, R=np.eye(1), backend=backend
    )
    assert np.all(analysis.state[:, 0] > 2.9)
    negative = three_d_var(
        background, np.full((2, 1), -4.0), "x2", B=CLIMATE, R=np.eye(1), backend=backend
    )
    assert np.array_equal(negative.state, background)
    assert np.all(negative.status == Status.CONVERGED)


@pytest.mark.parametrize("outlier", [1e150, 1e300])
@pytest.mark.parametrize("name", ["x", "x2"])
def test_an_outlier_spoils_its_own_sample_only(backend, name, outlier) -> None:
    background, observation, B, R = cases(name, 40)
    alone = three_d_var(background, observation, name, B=B, R=R, backend=backend)
    observation = observation.copy()
    observation[13] = outlier
    spoiled = three_d_var(background, observation, name, B=B, R=R, backend=backend)
    others = np.arange(40) != 13
    assert spoiled.state[others].tobytes() == alone.state[others].tobytes()
    bad = spoiled.status[13] == Status.NON_FINITE
    assert bad == np.isnan(spoiled.state[13]).all()
    assert bad or np.isfinite(spoiled.cost[13])
    assert bad or outlier == 1e150


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_shapes_dtypes_and_the_empty_batch(backend: str, dtype) -> None:
    background = np.ones((2, 5, 3), dtype)
    analysis = three_d_var(
        background, np.ones((2, 5, 2), dtype), "xy", B=np.eye(3), R=np.eye(2),
        backend=backend,
    )  # fmt: skip
    assert analysis.state.shape == (2, 5, 3)
    assert analysis.residual.shape == (2, 5, 2)
    assert analysis.cost.shape == analysis.status.shape == (2, 5)
    assert analysis.state.dtype == analysis.cost.dtype == dtype
    empty = three_d_var(
        np.empty((0, 3)), np.empty((0, 1)), "x2", B=CLIMATE, R=np.eye(1),
        backend=backend,
    )  # fmt: skip
    assert empty.state.shape == (0, 3)
    one = three_d_var(
        np.ones(3), np.ones(1), "x2", B=CLIMATE, R=np.eye(1), backend=backend
    )
    assert one.state.shape == (3,)
    assert one.status.shape == ()
