"""Final Newton step and convergence certificate for squared observations.

Certified are the samples whose Hessian was positive at every point, whose last step is
below the tolerance and whose cost is not above that of the background. The order of
operations is that of squares.hpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.newton import CONVERGED, MAX_ITER
from l63fast._kernels.numba_kernels.squares import fast_newton


@jit
def _linearise(work: Any, n: int, m: int, k: Any, c: Any) -> None:
    """Write rows 9 v, 12 right side, 15 to 23 I + A G, 24 twice the cost of x_b."""
    for s in range(n):
        work[24, s] = c[0]
    for i in range(m):
        q, twice = k[6, i], k[7, i]
        u, y, ub = work[6 + i], work[3 + i], work[i]
        v, right, a = work[9 + i], work[12 + i], work[25]
        for s in range(n):
            v[s] = u[s] - ub[s]
            r = fma(-u[s], u[s], y[s])
            d = u[s] + u[s]
            dq = d * q
            a[s] = fma(d, dq, -(twice * r))
            right[s] = fma(a[s], v[s], dq * r)
            innovation = fma(-ub[s], ub[s], y[s])
            work[24, s] = fma(q * innovation, innovation, work[24, s])
        for j in range(m):
            g, inner = k[i, j], work[15 + 3 * i + j]
            if i == j:
                for s in range(n):
                    inner[s] = fma(a[s], g, c[1])
            else:
                for s in range(n):
                    inner[s] = a[s] * g


@jit
def _solve(work: Any, good: Any, n: int, m: int, one: Any) -> None:
    """Write row 26, w; `good`: I + A G has positive eigenvalues, no overflow."""
    a, b, w = work[15:24], work[12:15], work[26:29]
    if m == 1:
        for s in range(n):
            w[0, s] = b[0, s] / a[0, s]
            good[s] = (a[0, s] > 0) & np.isfinite(a[0, s])
    elif m == 2:
        for s in range(n):
            a00, a01, a10, a11 = a[0, s], a[1, s], a[3, s], a[4, s]
            det = fma(a00, a11, -(a01 * a10))
            inv = one / det
            w[0, s] = fma(a11, b[0, s], -(a01 * b[1, s])) * inv
            w[1, s] = fma(a00, b[1, s], -(a10 * b[0, s])) * inv
            good[s] = (det > 0) & np.isfinite(det) & (a00 + a11 > 0)
    else:
        for s in range(n):
            a00, a01, a02 = a[0, s], a[1, s], a[2, s]
            a10, a11, a12 = a[3, s], a[4, s], a[5, s]
            a20, a21, a22 = a[6, s], a[7, s], a[8, s]
            b0, b1, b2 = b[0, s], b[1, s], b[2, s]
            m00 = fma(a11, a22, -(a12 * a21))
            m01 = fma(a02, a21, -(a01 * a22))
            m02 = fma(a01, a12, -(a02 * a11))
            m10 = fma(a12, a20, -(a10 * a22))
            m11 = fma(a00, a22, -(a02 * a20))
            m12 = fma(a02, a10, -(a00 * a12))
            m20 = fma(a10, a21, -(a11 * a20))
            m21 = fma(a01, a20, -(a00 * a21))
            m22 = fma(a00, a11, -(a01 * a10))
            det = fma(a02, m20, fma(a01, m10, a00 * m00))
            inv = one / det
            w[0, s] = fma(m02, b2, fma(m01, b1, m00 * b0)) * inv
            w[1, s] = fma(m12, b2, fma(m11, b1, m10 * b0)) * inv
            w[2, s] = fma(m22, b2, fma(m21, b1, m20 * b0)) * inv
            trace = (a00 + a11) + a22
            good[s] = (det > 0) & np.isfinite(det) & (trace > 0)
            good[s] &= (m00 + m11) + m22 > 0


@jit
def certify(
    work: Any, active: Any, unsound: Any, good: Any, converged: Any, n: int, m: int,
    several: bool, k: Any, c: Any,
) -> None:  # fmt: skip
    """Make the last step in w, and find the samples whose result is certified.

    Rows written: 26 w, 32 residual, 35 cost.
    """
    half, rounding = c[5], c[16]
    _linearise(work, n, m, k, c)
    _solve(work, good, n, m, c[1])
    w, v_new, residual, cost = work[26:29], work[29:32], work[32:35], work[35]
    for i in range(m):
        for s in range(n):
            v_new[i, s] = k[i, 0] * w[0, s]
        for j in range(1, m):
            for s in range(n):
                v_new[i, s] = fma(k[i, j], w[j, s], v_new[i, s])
    close = np.ones(n, np.bool_)
    for s in range(n):
        good[s] = good[s] & (not unsound[s])
        converged[s] = good[s]
        cost[s] = w[0, s] * v_new[0, s]
    for i in range(1, m):
        for s in range(n):
            cost[s] = fma(w[i, s], v_new[i, s], cost[s])
    for i in range(m):
        q, tol, scale = k[6, i], k[15, 0], work[36 + i]
        ub, y, v, r = work[i], work[3 + i], work[9 + i], residual[i]
        for s in range(n):
            u = ub[s] + v_new[i, s]
            step, size = abs(v_new[i, s] - v[s]), abs(u)
            converged[s] &= step < fma(tol, size, tol * scale[s])
            close[s] &= step < rounding * (size + scale[s])
            r[s] = fma(-u, u, y[s])
            cost[s] = fma(r[s], q * r[s], cost[s])
    for s in range(n):
        cost[s] = half * cost[s]
        # An analysis must not be worse than the background.
        good[s] &= cost[s] <= half * work[24, s]
        good[s] &= converged[s] | (close[s] & active[s])
    if several:
        for i in range(m):
            ub, bound = work[i], k[12, i]
            for s in range(n):
                # Lower than the cost of crossing zero: no other basin can be better.
                good[s] &= cost[s] < (ub[s] * ub[s]) * bound


@jit
def analyse_squares(
    background: Any,
    observation: Any,
    b_matrix: Any,
    components: Any,
    several: bool,
    max_iter: int,
    c: Any,
    k: Any,
    work: Any,
    done: Any,
    state: Any,
    status: Any,
    n_iter: Any,
    cost: Any,
    residual: Any,
) -> None:
    """Analyse a block of samples; `done` marks those whose result is certified."""
    n, m = observation.shape
    active, unsound = np.empty(n, np.bool_), np.empty(n, np.bool_)
    converged, steps = np.empty(n, np.bool_), np.empty(n, np.int32)
    for i in range(m):
        for t in range(n):
            work[i, t] = background[t, components[i]]
            work[3 + i, t] = observation[t, i]
    fast_newton(work, active, unsound, steps, n, m, max_iter, k, c)
    certify(work, active, unsound, done, converged, n, m, several, k, c)
    for j in range(3):
        for t in range(n):
            moved = b_matrix[j, components[0]] * work[26, t]
            for i in range(1, m):
                moved = fma(b_matrix[j, components[i]], work[26 + i, t], moved)
            state[t, j] = background[t, j] + moved
    for t in range(n):
        for j in range(3):
            done[t] &= np.isfinite(state[t, j])
        for i in range(m):
            residual[t, i] = work[32 + i, t]
        cost[t] = work[35, t]
        status[t] = CONVERGED if converged[t] else MAX_ITER
        n_iter[t] = max_iter if active[t] else steps[t] + 1
