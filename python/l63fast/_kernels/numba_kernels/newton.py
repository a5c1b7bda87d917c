"""The safeguarded Newton iteration of 3D-Var, for one sample.

Method and order of operations are those of three_d_var.hpp.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.small_matrix import (
    divide_rows,
    solve,
    symmetric_times,
)

CONVERGED: Final = 0
MAX_ITER: Final = 1
NON_FINITE: Final = 3


@jit
def _power(u: Any, p: int, one: Any) -> Any:
    """Return u^p by repeated multiplication."""
    value = one
    if p >= 1:
        value = u
    for _ in range(1, p):
        value = value * u
    return value


@jit
def residual_of(
    u: Any, y: Any, powers: Any, m: int, q: Any, r: Any, qr: Any, one: Any
) -> None:
    """Write r = y - h(u) and R^-1 r."""
    for i in range(m):
        r[i] = fma(-_power(u[i], powers[i] - 1, one), u[i], y[i])
    symmetric_times(q, r, m, qr)


@jit
def cost_of(w: Any, v: Any, r: Any, qr: Any, m: int, half: Any) -> Any:
    """Return J = 1/2 w.v + 1/2 r.(R^-1 r), with v = G w the increment of u."""
    s = w[0] * v[0]
    for i in range(1, m):
        s = fma(w[i], v[i], s)
    for i in range(m):
        s = fma(r[i], qr[i], s)
    return half * s


@jit
def highest_acceptable(cost: Any, y: Any, r: Any, qr: Any, m: int, eps: Any) -> Any:
    """Return the largest cost that differs from this one by rounding errors only."""
    terms = cost
    for i in range(m):
        terms = fma(abs(qr[i]), abs(y[i]) + abs(r[i]), terms)
    return fma(eps, terms, cost)


@jit
def smaller_spread(g: Any, r: Any, p: int) -> Any:
    """Return the smaller of two spreads of a component; see three_d_var.hpp."""
    spread = np.sqrt(r)
    if p > 1:
        spread = np.sqrt(spread)
    if p > 2:
        spread = np.sqrt(spread)
    background = np.sqrt(g)
    return background if background < spread else spread


@jit
def _start(ub: Any, y: Any, p: int, second: bool, c: Any) -> Any:
    """Return the starting point of one component.

    It is the background for linear h, else the value that the observation suggests.
    From there the derivative of the cost of one x^2 component is convex, and
    Newton's method falls monotonically. `second` chooses the other basin: the mirror
    image for an even power, the background for an odd power.
    """
    zero, two, third = c[0], c[2], c[8]
    if p == 1:
        return ub
    magnitude = abs(ub)
    if p == 3:
        if second:
            return ub
        a = abs(y)
        t = np.sqrt(np.sqrt(a))
        for _ in range(8):
            t = third * fma(two, t, a / (t * t))
        if not a > zero:
            t = zero
        if y < zero:
            t = -t
        return ub if (magnitude > abs(t) and ub * t >= zero) else t
    root = np.sqrt(y if y > zero else zero)
    if p == 4:
        root = np.sqrt(root)
    if second:
        return root if ub < zero else -root
    larger = magnitude if magnitude > root else root
    return -larger if ub < zero else larger


@jit
def iterate(
    ub: Any,
    y: Any,
    powers: Any,
    m: int,
    basin: int,
    max_iter: int,
    g: Any,
    q: Any,
    c: Any,
    s: Any,
) -> Any:
    """Iterate from one starting point; return status, number of iterations and cost.

    Rows of the scratch s: 0 w, 1 v, 2 u, 3 r, 4 R^-1 r, 5 to 9 their trial values,
    10 d, 11 right-hand side, 12 to 14 A, 15 to 17 I + A G, 18 what |u| is increased by
    to scale the step, 28 the divisors of the rows of I + A G.
    """
    zero, one, half, quarter, tol = c[0], c[1], c[5], c[6], c[10]
    w, v, u, r, qr = s[0], s[1], s[2], s[3], s[4]
    wt, vt, ut, rt, qrt = s[5], s[6], s[7], s[8], s[9]
    d, b, a, n_matrix, scale = s[10], s[11], s[12:15], s[15:18], s[28]
    bit = 1
    for i in range(m):
        second = (basin & bit) != 0
        if powers[i] > 1:
            bit = bit << 1
        else:
            second = False
        w[i] = zero
        v[i] = _start(ub[i], y[i], powers[i], second, c) - ub[i]
        u[i] = ub[i] + v[i]
    residual_of(u, y, powers, m, q, r, qr, one)
    cost = c[11]
    alpha = one
    newton = True
    for n in range(1, max_iter + 1):
        for i in range(m):
            p = powers[i]
            d[i] = c[p] * _power(u[i], p - 1, one)
        for i in range(m):
            for j in range(m):
                a[i, j] = (d[i] * q[i, j]) * d[j]
            p = powers[i]
            if p > 1:
                curvature = (c[11 + p] * _power(u[i], p - 2, one)) * qr[i]
                # Newton subtracts E in full; the safeguard only the part that
                # stabilises.
                if newton or curvature < zero:
                    a[i, i] = a[i, i] - curvature
        for i in range(m):
            for j in range(m):
                t = a[i, 0] * g[0, j]
                for k in range(1, m):
                    t = fma(a[i, k], g[k, j], t)
                n_matrix[i, j] = one + t if i == j else t
            t = d[i] * qr[i]
            for k in range(m):
                t = fma(a[i, k], v[k], t)
            b[i] = t
        scale[:] = one
        positive, small, trial = True, False, cost
        # A step that overflows is made a second time, with divided rows.
        for _ in range(2):
            positive, inside = solve(n_matrix, b, m, scale, wt, one)
            for i in range(m):
                wt[i] = fma(alpha - one, wt[i] - w[i], wt[i])
            symmetric_times(g, wt, m, vt)
            small = alpha == one
            for i in range(m):
                ut[i] = ub[i] + vt[i]
                size = abs(ut[i]) + s[18, i]
                small = small and abs(vt[i] - v[i]) < tol * size
            residual_of(ut, y, powers, m, q, rt, qrt, one)
            trial = cost_of(wt, vt, rt, qrt, m, half)
            if m == 1 or (inside and np.isfinite(trial)):
                break
            divide_rows(n_matrix, b, m, scale, one)
        if not positive:
            if not newton:
                return NON_FINITE, n, cost
            newton = False
            continue
        if not np.isfinite(trial):
            if not np.isfinite(cost):
                return NON_FINITE, n, cost
            small = False
        highest = highest_acceptable(cost, y, r, qr, m, c[9])
        if trial <= highest and np.isfinite(trial):
            for i in range(m):
                w[i], v[i], u[i] = wt[i], vt[i], ut[i]
                r[i], qr[i] = rt[i], qrt[i]
            cost = trial
            alpha = one
            newton = True
        elif not small:
            alpha = alpha * quarter
        if small:
            return CONVERGED, n, cost
    return MAX_ITER, max_iter, cost
