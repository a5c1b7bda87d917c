"""3D-Var of squares by Gauss-Newton in Numba: closed gains, blocks that fit the cache.

The weights of the observed columns of B are carried, as in the other closed forms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from l63fast.experiments.speed_cases import AnalysisProblem


@cache
def _iterations() -> dict[int, Any]:
    """Return one iteration over a block for 1, 2 and 3 squares: w is updated."""
    from numba import njit

    jit = njit(fastmath=True, error_model="numpy")

    @jit
    def one(u_b: Any, y: Any, w: Any, B: Any, R: Any) -> None:
        for i in range(w.shape[1]):
            move = B[0, 0] * w[0, i]
            u = u_b[0, i] + move
            d = 2.0 * u
            w[0, i] = d * (y[0, i] - u * u + d * move) / (d * d * B[0, 0] + R[0, 0])

    @jit
    def two(u_b: Any, y: Any, w: Any, B: Any, R: Any) -> None:
        for i in range(w.shape[1]):
            m0 = B[0, 0] * w[0, i] + B[0, 1] * w[1, i]
            m1 = B[0, 1] * w[0, i] + B[1, 1] * w[1, i]
            u0, u1 = u_b[0, i] + m0, u_b[1, i] + m1
            d0, d1 = 2.0 * u0, 2.0 * u1
            r0 = y[0, i] - u0 * u0 + d0 * m0
            r1 = y[1, i] - u1 * u1 + d1 * m1
            s00 = d0 * d0 * B[0, 0] + R[0, 0]
            s01 = d0 * d1 * B[0, 1] + R[0, 1]
            s11 = d1 * d1 * B[1, 1] + R[1, 1]
            scale = 1.0 / (s00 * s11 - s01 * s01)
            w[0, i] = d0 * scale * (s11 * r0 - s01 * r1)
            w[1, i] = d1 * scale * (s00 * r1 - s01 * r0)

    @jit
    def three(u_b: Any, y: Any, w: Any, B: Any, R: Any) -> None:
        for i in range(w.shape[1]):
            m0 = B[0, 0] * w[0, i] + B[0, 1] * w[1, i] + B[0, 2] * w[2, i]
            m1 = B[0, 1] * w[0, i] + B[1, 1] * w[1, i] + B[1, 2] * w[2, i]
            m2 = B[0, 2] * w[0, i] + B[1, 2] * w[1, i] + B[2, 2] * w[2, i]
            u0, u1, u2 = u_b[0, i] + m0, u_b[1, i] + m1, u_b[2, i] + m2
            d0, d1, d2 = 2.0 * u0, 2.0 * u1, 2.0 * u2
            r0 = y[0, i] - u0 * u0 + d0 * m0
            r1 = y[1, i] - u1 * u1 + d1 * m1
            r2 = y[2, i] - u2 * u2 + d2 * m2
            s00 = d0 * d0 * B[0, 0] + R[0, 0]
            s01 = d0 * d1 * B[0, 1] + R[0, 1]
            s02 = d0 * d2 * B[0, 2] + R[0, 2]
            s11 = d1 * d1 * B[1, 1] + R[1, 1]
            s12 = d1 * d2 * B[1, 2] + R[1, 2]
            s22 = d2 * d2 * B[2, 2] + R[2, 2]
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
def _driver(obs_dim: int) -> Any:
    from numba import njit

    iterate = _iterations()[obs_dim]

    @njit(fastmath=True)
    def solve(x_b: Any, y: Any, B: Any, columns: Any, R: Any, n: int, out: Any) -> None:
        m, block = y.shape[1], 512
        for i in range(0, len(x_b), block):
            count = min(block, len(x_b) - i)
            u_b = x_b[i : i + count, :m].T.copy()
            y_block = y[i : i + count].T.copy()
            w = np.zeros((m, count))
            for _ in range(n):
                iterate(u_b, y_block, w, B, R)
            for k in range(count):
                for c in range(3):
                    move = 0.0
                    for j in range(m):
                        move += columns[c, j] * w[j, k]
                    out[i + k, c] = x_b[i + k, c] + move

    return solve


def numba_closed_form(problem: AnalysisProblem) -> Callable[[], np.ndarray]:
    """Return the solution of a problem that observes the first components, squared."""
    m = problem.operator.obs_dim
    if problem.operator.components != tuple(range(m)):
        raise ValueError("operator: expected the first components in their order")
    if set(problem.operator.powers) != {2}:
        raise ValueError("operator: expected squares")
    solve = _driver(m)
    B, R = np.ascontiguousarray(problem.B[:m, :m]), problem.R
    columns = np.ascontiguousarray(problem.B[:, :m])

    def run() -> np.ndarray:
        out = np.empty_like(problem.background)
        solve(
            problem.background, problem.observation, B, columns, R, problem.n_iter, out
        )
        return out

    return run
