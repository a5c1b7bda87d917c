"""3D-Var over the whole range of its numbers, against 150-digit arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
import pytest

import golden
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.observation import ObservationOperator

OPERATORS = ("x", "xy", "xyz", "x2", "x2z", "x2y2", "x2y2z2", "x3", "xy3z2", "y4z")
BACKGROUND = np.array([1.0, 2.0, 20.0])
TRUTH = np.array([1.5, 2.5, 21.0])
B_SHAPE = np.array([[2.0, 1.5, 0.25], [1.5, 3.0, 0.5], [0.25, 0.5, 2.5]])
# Powers of ten of B and R: ratios from 1e-30 to 1e30.
SCALES = (
    *((-30, 0), (-15, 15), (0, 30), (-12, 0), (0, 12), (0, 0), (12, 0), (0, -12)),
    *((15, -15), (30, 0), (0, -30)),
)


@dataclass(frozen=True)
class Exact:
    """The stationary point next to a state, its cost, and how well it is determined."""

    state: np.ndarray
    cost: float
    condition: float  # of G, R and the Hessian, each scaled to a unit diagonal


def exact_analysis(
    start: np.ndarray,
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator,
    B: np.ndarray,
    R: np.ndarray,
) -> Exact:
    """Return the minimum that Newton's method leads to from the state `start`."""
    with mpmath.workdps(150):
        c, powers = list(operator.components), operator.powers
        x_b, y = (
            mpmath.matrix(v.astype(float).tolist()) for v in (background, observation)
        )
        columns = mpmath.matrix(B[:, c].astype(float).tolist())
        G = mpmath.matrix(B[np.ix_(c, c)].astype(float).tolist())
        P, Q = G**-1, mpmath.matrix(R.astype(float).tolist()) ** -1
        u_b = mpmath.matrix([x_b[i] for i in c])
        u = mpmath.matrix([mpmath.mpf(float(start[i])) for i in c])
        for _ in range(200):
            r = mpmath.matrix([y[i] - u[i] ** p for i, p in enumerate(powers)])
            D = mpmath.diag([p * u[i] ** (p - 1) for i, p in enumerate(powers)])
            pull = Q * r
            bend = [
                p * (p - 1) * u[i] ** (p - 2) * pull[i] if p > 1 else mpmath.mpf(0)
                for i, p in enumerate(powers)
            ]
            H = P + D * Q * D - mpmath.diag(bend)
            step = mpmath.lu_solve(H, P * (u - u_b) - D * pull)
            u = u - step
            if mpmath.norm(step) <= mpmath.mpf(10) ** -100 * mpmath.norm(u):
                break
        w = P * (u - u_b)
        state = x_b + columns * w
        cost = ((w.T * (u - u_b))[0] + (r.T * (Q * r))[0]) / 2
        condition = max(map(scaled_condition, (G, Q, H)))
        return Exact(np.array([float(v) for v in state]), float(cost), condition)


def scaled_condition(matrix: mpmath.matrix) -> float:
    n = matrix.rows
    s = [1 / mpmath.sqrt(abs(matrix[i, i])) for i in range(n)]
    scaled = mpmath.matrix(n, n)
    for i in range(n):
        for j in range(n):
            scaled[i, j] = matrix[i, j] * s[i] * s[j]
    return float(mpmath.mnorm(scaled) * mpmath.mnorm(scaled**-1))


def analysed(
    background: np.ndarray,
    observation: np.ndarray,
    name: str,
    B: np.ndarray,
    R: np.ndarray,
    backend: str,
    dtype: type,
) -> tuple[Analysis, Exact]:
    """Return the analysis in this dtype and the exact one of the rounded problem."""
    arrays = [np.asarray(v, dtype) for v in (background, observation, B, R)]
    x_b, y, b, r = arrays
    operator = ObservationOperator(name)
    analysis = three_d_var(x_b, y, name, B=b, R=r, backend=backend, max_iter=100)
    assert analysis.status == Status.CONVERGED
    return analysis, exact_analysis(analysis.state, x_b, y, operator, b, r)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_analysis_is_exact_for_any_ratio_of_b_to_r(backend, name, dtype) -> None:
    operator = ObservationOperator(name)
    R_shape = np.eye(operator.obs_dim) / 2 + 0.125
    y = operator(TRUTH) + 0.01
    eps = float(np.finfo(dtype).eps)
    for b, r in SCALES:
        arrays = B_SHAPE * 10.0**b, R_shape * 10.0**r
        analysis, exact = analysed(BACKGROUND, y, name, *arrays, backend, dtype)
        error = np.abs(analysis.state - exact.state).max()
        assert error <= 4 * eps * exact.condition * 21, (b, r)
        assert np.array_equal(np.sign(exact.state), [1, 1, 1]), (b, r)
        if operator.is_linear:
            cost = float(analysis.cost)
            assert abs(cost - exact.cost) <= 8 * eps * exact.condition * exact.cost


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["x2", "x2y2", "x3", "x4z", "x2y2z2"])
def test_a_small_step_is_small_however_large_b_is(backend, name, dtype) -> None:
    # The start is far away: steps of a thousandth of sqrt(B) would end it at once.
    operator = ObservationOperator(name)
    far = np.array([20.0, 25.0, 30.0])
    for b in (4, 10, 20, 30):
        B, R = B_SHAPE * 10.0**b, np.eye(operator.obs_dim)
        analysis, exact = analysed(far, operator(TRUTH), name, B, R, backend, dtype)
        tol = 1e-9 if dtype is np.float64 else 1e-5
        error = np.abs(analysis.state - exact.state).max()
        assert error <= tol * np.abs(far).max(), b


@pytest.mark.parametrize(
    ("dtype", "name", "observation", "b", "r", "expected", "cost"),
    [
        (np.float32, "xyz", [1.5, 2.5, 21], 1e13, 1.0, [1.5, 2.5, 21], 7.5e-14),
        (np.float32, "x2z", [2.25, 21], 1e10, 1e-10, [1.5, 2, 21], 6.25e-11),
        (np.float32, "xyz", [1.5, 2.5, 21], 1.0, 1e-13, [1.5, 2.5, 21], 0.75),
        (np.float64, "xyz", [1.5, 2.5, 21], 1.0, 1e-108, [1.5, 2.5, 21], 0.75),
    ],
)
def test_determinants_beyond_the_range_harm_nothing(
    backend, dtype, name, observation, b, r, expected, cost
) -> None:
    y = np.array(observation, dtype)
    analysis = three_d_var(
        BACKGROUND.astype(dtype), y, name, B=b * np.eye(3), R=r * np.eye(len(y)),
        backend=backend,
    )  # fmt: skip
    assert analysis.status == Status.CONVERGED
    np.testing.assert_allclose(analysis.state, expected, rtol=1e-6)
    np.testing.assert_allclose(analysis.cost, cost, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_nearly_singular_is_right_or_says_so(backend, dtype) -> None:
    eps = float(np.finfo(dtype).eps)
    left = 1e-6 if dtype is np.float64 else 1e-3
    B = np.full((3, 3), 1 - left) + left * np.eye(3)
    for name in OPERATORS:
        operator = ObservationOperator(name)
        R, y = np.eye(operator.obs_dim), operator(TRUTH).astype(dtype)
        for b in (0, 6, 12, 30):
            x_b, b_matrix = BACKGROUND.astype(dtype), (B * 10.0**b).astype(dtype)
            analysis = three_d_var(x_b, y, name, B=b_matrix, R=R, backend=backend)
            assert not operator.is_linear or analysis.status == Status.CONVERGED
            if analysis.status == Status.CONVERGED:
                exact = exact_analysis(
                    analysis.state, x_b, y, operator, b_matrix, R.astype(dtype)
                )
                error = np.abs(analysis.state - exact.state).max()
                assert error <= 4 * eps * exact.condition * 21, (name, b)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", OPERATORS)
def test_far_out_too_every_kernel_gives_the_same_bits(name, dtype) -> None:
    # One batch of all scales: a lane that overflows must not touch its neighbours.
    cpp = pytest.importorskip("l63fast._kernels.cpp")
    operator = ObservationOperator(name)
    R_shape = np.eye(operator.obs_dim) / 2 + 0.125
    n = len(SCALES)
    arrays = [
        np.tile(BACKGROUND, (n, 1)),
        np.tile(operator(TRUTH) + 0.01, (n, 1)),
        np.stack([B_SHAPE * 10.0**b for b, _ in SCALES]),
        np.stack([R_shape * 10.0**r for _, r in SCALES]),
    ]
    x_b, y, B, R = (np.ascontiguousarray(array, dtype) for array in arrays)
    whole = three_d_var(x_b, y, name, B=B, R=R, backend="numba")
    for level in cpp.levels():
        kernels = cpp.kernels(level)
        for samples in (slice(0, n), *(slice(k, k + 1) for k in range(n))):
            problem = x_b[samples], y[samples], B[samples], R[samples]
            got = golden.analysed(kernels, name, problem)
            expected = whole.state, whole.status, whole.n_iter, whole.cost
            for ours, theirs in zip(got, expected, strict=False):
                assert ours.tobytes() == theirs[samples].tobytes(), level


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_row_of_the_identity_leaves_the_others_bits(missing) -> None:
    small_matrix = pytest.importorskip("l63fast._kernels.numba_kernels.small_matrix")
    kept = [i for i in range(3) if i != missing]
    masked = B_SHAPE.copy()
    masked[missing], masked[:, missing] = np.eye(3)[missing], np.eye(3)[missing]
    whole, part = np.empty((3, 3)), np.empty((2, 2))
    small_matrix.inverse(masked, 3, whole, 1.0)
    small_matrix.inverse(B_SHAPE[np.ix_(kept, kept)].copy(), 2, part, 1.0)
    np.testing.assert_array_equal(whole[np.ix_(kept, kept)], part)
    np.testing.assert_array_equal(whole[missing], np.eye(3)[missing])
