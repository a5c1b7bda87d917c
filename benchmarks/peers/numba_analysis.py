"""3D-Var of squares by Gauss-Newton in Numba: closed gains, blocks that fit the cache.

The weights of the observed columns of B are carried, as in the other closed forms. The
bare form returns the state alone, the whole one what `three_d_var` returns: state,
status, iterations, cost and residual, without a safeguard for any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np

from l63fast.assimilation.scheme import Analysis
from l63fast.experiments.speed import AnalysisProblem

TOLERANCE: Final = 1e-300  # as the problem is given to three_d_var: no early end


@cache
def _iterations(watched: bool) -> dict[int, Any]:
    """Return one iteration over a block for 1, 2 and 3 squares: w is updated.

    B and R are tuples: numbers need no check against overlapping arrays, which would
    keep LLVM from vectorising. Where watched, `watch` is the limits of a small step
    (the tolerance, and what it allows each component at least), u before the last step,
    and how many steps of each sample were larger.
    """
    from numba import njit

    jit = njit(fastmath=True, error_model="numpy")

    @njit(inline="always")
    def moved(u: Any, c: int, i: int, watch: Any) -> Any:
        limits, u_old, _ = watch
        step = abs(u - u_old[c, i])
        u_old[c, i] = u
        return step > limits[0] * abs(u) + limits[1 + c]

    @jit
    def one(u_b: Any, y: Any, w: Any, B: Any, R: Any, watch: Any) -> None:
        for i in range(w.shape[1]):
            move = B[0][0] * w[0, i]
            u = u_b[0, i] + move
            if watched:
                watch[2][i] += moved(u, 0, i, watch)
            d = 2.0 * u
            w[0, i] = d * (y[0, i] - u * u + d * move) / (d * d * B[0][0] + R[0][0])

    @jit
    def two(u_b: Any, y: Any, w: Any, B: Any, R: Any, watch: Any) -> None:
        for i in range(w.shape[1]):
            m0 = B[0][0] * w[0, i] + B[0][1] * w[1, i]
            m1 = B[0][1] * w[0, i] + B[1][1] * w[1, i]
            u0, u1 = u_b[0, i] + m0, u_b[1, i] + m1
            if watched:
                watch[2][i] += moved(u0, 0, i, watch) | moved(u1, 1, i, watch)
            d0, d1 = 2.0 * u0, 2.0 * u1
            r0 = y[0, i] - u0 * u0 + d0 * m0
            r1 = y[1, i] - u1 * u1 + d1 * m1
            s00 = d0 * d0 * B[0][0] + R[0][0]
            s01 = d0 * d1 * B[0][1] + R[0][1]
            s11 = d1 * d1 * B[1][1] + R[1][1]
            scale = 1.0 / (s00 * s11 - s01 * s01)
            w[0, i] = d0 * scale * (s11 * r0 - s01 * r1)
            w[1, i] = d1 * scale * (s00 * r1 - s01 * r0)

    @jit
    def three(u_b: Any, y: Any, w: Any, B: Any, R: Any, watch: Any) -> None:
        for i in range(w.shape[1]):
            m0 = B[0][0] * w[0, i] + B[0][1] * w[1, i] + B[0][2] * w[2, i]
            m1 = B[0][1] * w[0, i] + B[1][1] * w[1, i] + B[1][2] * w[2, i]
            m2 = B[0][2] * w[0, i] + B[1][2] * w[1, i] + B[2][2] * w[2, i]
            u0, u1, u2 = u_b[0, i] + m0, u_b[1, i] + m1, u_b[2, i] + m2
            if watched:
                large = moved(u0, 0, i, watch) | moved(u1, 1, i, watch)
                watch[2][i] += large | moved(u2, 2, i, watch)
            d0, d1, d2 = 2.0 * u0, 2.0 * u1, 2.0 * u2
            r0 = y[0, i] - u0 * u0 + d0 * m0
            r1 = y[1, i] - u1 * u1 + d1 * m1
            r2 = y[2, i] - u2 * u2 + d2 * m2
            s00 = d0 * d0 * B[0][0] + R[0][0]
            s01 = d0 * d1 * B[0][1] + R[0][1]
            s02 = d0 * d2 * B[0][2] + R[0][2]
            s11 = d1 * d1 * B[1][1] + R[1][1]
            s12 = d1 * d2 * B[1][2] + R[1][2]
            s22 = d2 * d2 * B[2][2] + R[2][2]
            a, b, c = (
                s11 * s22 - s12 * s12,
                s02 * s12 - s01 * s22,
                s01 * s12 - s02 * s11,
            )
            d, e, f = (
                s00 * s22 - s02 * s02,
                s01 * s02 - s00 * s12,
                s00 * s11 - s01 * s01,
            )
            scale = 1.0 / (s00 * a + s01 * b + s02 * c)
            w[0, i] = d0 * scale * (a * r0 + b * r1 + c * r2)
            w[1, i] = d1 * scale * (b * r0 + d * r1 + e * r2)
            w[2, i] = d2 * scale * (c * r0 + e * r1 + f * r2)

    return {1: one, 2: two, 3: three}


@cache
def _bare_driver(m: int) -> Any:
    from numba import njit

    iterate = _iterations(False)[m]

    @njit(fastmath=True)
    def solve(x_b: Any, y: Any, B: Any, columns: Any, R: Any, n: int, out: Any) -> None:
        m, block = y.shape[1], 512
        for i in range(0, len(x_b), block):
            count = min(block, len(x_b) - i)
            u_b = x_b[i : i + count, :m].T.copy()
            y_block = y[i : i + count].T.copy()
            w = np.zeros((m, count))
            for _ in range(n):
                iterate(u_b, y_block, w, B, R, None)
            for k in range(count):
                for c in range(3):
                    move = 0.0
                    for j in range(m):
                        move += columns[c][j] * w[j, k]
                    out[i + k, c] = x_b[i + k, c] + move

    return solve


@cache
def _whole_driver(m: int) -> Any:
    from numba import njit

    iterate, block = _iterations(True)[m], 512

    @njit(fastmath=True)
    def end(
        u_b: Any, y: Any, w: Any, B: Any, inverse_R: Any, watch: Any, n: int,
        cost: Any, residual: Any, n_iter: Any, status: Any,
    ) -> None:  # fmt: skip
        limits, u_old, n_moves = watch
        for i in range(len(cost)):
            twice = 0.0
            large = False
            for c in range(m):
                move = 0.0
                for j in range(m):
                    move += B[c][j] * w[j, i]
                u = u_b[c, i] + move
                large |= abs(u - u_old[c, i]) > limits[0] * abs(u) + limits[1 + c]
                residual[i, c] = y[c, i] - u * u
                twice += move * w[c, i]
            for c in range(m):
                for j in range(m):
                    twice += residual[i, c] * inverse_R[c][j] * residual[i, j]
            cost[i] = 0.5 * twice
            n_iter[i] = n if large else min(n_moves[i] + 1, n)
            status[i] = large

    @njit(fastmath=True)
    def solve(
        x_b: Any, y: Any, B: Any, columns: Any, R: Any, inverse_R: Any, limits: Any,
        n: int, out: Any,
    ) -> None:  # fmt: skip
        state, cost, residual, n_iter, status = out
        for i in range(0, len(x_b), block):
            count = min(block, len(x_b) - i)
            rows = slice(i, i + count)
            u_b = x_b[rows, :m].T.copy()
            y_block = y[rows].T.copy()
            w = np.zeros((m, count))
            watch = limits, u_b.copy(), np.zeros(count, np.int32)
            for _ in range(n):
                iterate(u_b, y_block, w, B, R, watch)
            for k in range(count):
                for c in range(3):
                    move = 0.0
                    for j in range(m):
                        move += columns[c][j] * w[j, k]
                    state[i + k, c] = x_b[i + k, c] + move
            end(
                u_b, y_block, w, B, inverse_R, watch, n,
                cost[rows], residual[rows], n_iter[rows], status[rows],
            )  # fmt: skip

    return solve


def _as_numbers(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())


def _constants(problem: AnalysisProblem) -> tuple[Any, ...]:
    """Return B of the observed components, their columns of B, and R."""
    m = problem.operator.obs_dim
    if problem.operator.components != tuple(range(m)):
        raise ValueError("operator: expected the first components in their order")
    if set(problem.operator.powers) != {2}:
        raise ValueError("operator: expected squares")
    B, columns = problem.B[:m, :m], problem.B[:, :m]
    return _as_numbers(B), _as_numbers(columns), _as_numbers(problem.R)


def numba_bare(problem: AnalysisProblem) -> Callable[[], np.ndarray]:
    """Return the solution of a problem that observes the first components, squared."""
    solve, constants = _bare_driver(problem.operator.obs_dim), _constants(problem)

    def run() -> np.ndarray:
        out = np.empty_like(problem.background)
        solve(problem.background, problem.observation, *constants, problem.n_iter, out)
        return out

    return run


def numba_whole(problem: AnalysisProblem) -> Callable[[], Analysis]:
    """Return the same solution with all that `three_d_var` returns."""
    n, m = problem.observation.shape
    solve, constants = _whole_driver(m), _constants(problem)
    limits = tuple(TOLERANCE * np.append(1.0, np.sqrt(np.diag(problem.B)[:m])))
    inverse_R = _as_numbers(np.linalg.inv(problem.R))

    def run() -> Analysis:
        # One block, as ours: five would go back to the system after every call.
        values = np.empty(n * (4 + m + 1))
        whole = values[n * (4 + m) :].view(np.int32)
        state = values[: 3 * n].reshape(n, 3)
        cost = values[3 * n : 4 * n]
        residual = values[4 * n : n * (4 + m)].reshape(n, m)
        n_iter, status = whole[:n], whole[n:].view(np.int8)[:n]
        solve(
            problem.background, problem.observation, *constants, inverse_R, limits,
            problem.n_iter, (state, cost, residual, n_iter, status),
        )  # fmt: skip
        return Analysis(state, status, n_iter, cost, residual)

    return run
