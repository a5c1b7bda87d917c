"""1x1, 2x2 and 3x3 algebra in closed form; the order is that of small_matrix.hpp."""

from __future__ import annotations

from typing import Any

import numpy as np

from l63fast._kernels.numba_kernels.compile import (
    fma,
    jit,
    one_over_power,
    power_of_two,
)


@jit
def divide_rows(a: Any, b: Any, m: int, scale: Any, one: Any) -> None:
    """Divide row i of a w = b by the largest power of two not above 1 + |a_ii|."""
    for i in range(m):
        scale[i] = power_of_two(abs(a[i, i]) + one)
        factor = one_over_power(scale[i])
        for j in range(m):
            a[i, j] = a[i, j] * factor
        b[i] = b[i] * factor


@jit
def solve(a: Any, b: Any, m: int, scale: Any, w: Any, one: Any) -> tuple[bool, bool]:
    """Solve a w = b by the adjugate; the rows of a were divided by `scale`.

    Returns whether every eigenvalue of the undivided a is positive, and whether the
    determinant is finite. The undivided a is similar to a symmetric matrix, so its
    eigenvalues are real, and all are positive where the trace, the sum of the principal
    minors and the determinant are positive.
    """
    if m == 1:
        w[0] = b[0] / a[0, 0]
        return a[0, 0] > 0, np.isfinite(a[0, 0])
    trace = fma(scale[1], a[1, 1], scale[0] * a[0, 0])
    if m == 2:
        det = fma(a[0, 0], a[1, 1], -(a[0, 1] * a[1, 0]))
        inv = one / det
        w[0] = fma(a[1, 1], b[0], -(a[0, 1] * b[1])) * inv
        w[1] = fma(a[0, 0], b[1], -(a[1, 0] * b[0])) * inv
        return det > 0 and trace > 0, np.isfinite(det)
    m00 = fma(a[1, 1], a[2, 2], -(a[1, 2] * a[2, 1]))
    m01 = fma(a[0, 2], a[2, 1], -(a[0, 1] * a[2, 2]))
    m02 = fma(a[0, 1], a[1, 2], -(a[0, 2] * a[1, 1]))
    m10 = fma(a[1, 2], a[2, 0], -(a[1, 0] * a[2, 2]))
    m11 = fma(a[0, 0], a[2, 2], -(a[0, 2] * a[2, 0]))
    m12 = fma(a[0, 2], a[1, 0], -(a[0, 0] * a[1, 2]))
    m20 = fma(a[1, 0], a[2, 1], -(a[1, 1] * a[2, 0]))
    m21 = fma(a[0, 1], a[2, 0], -(a[0, 0] * a[2, 1]))
    m22 = fma(a[0, 0], a[1, 1], -(a[0, 1] * a[1, 0]))
    det = fma(a[0, 2], m20, fma(a[0, 1], m10, a[0, 0] * m00))
    inv = one / det
    w[0] = fma(m02, b[2], fma(m01, b[1], m00 * b[0])) * inv
    w[1] = fma(m12, b[2], fma(m11, b[1], m10 * b[0])) * inv
    w[2] = fma(m22, b[2], fma(m21, b[1], m20 * b[0])) * inv
    trace = fma(scale[2], a[2, 2], trace)
    minors = one_over_power(scale[0]) * m00
    minors = fma(one_over_power(scale[1]), m11, minors)
    minors = fma(one_over_power(scale[2]), m22, minors)
    return det > 0 and trace > 0 and minors > 0, np.isfinite(det)


@jit
def inverse(r: Any, m: int, q: Any, one: Any) -> None:
    """Write the inverse of the symmetric matrix r into q, by L D L^T."""
    q[0, 0] = pivot = one / r[0, 0]
    if m == 1:
        return
    l1 = r[0, 1] * pivot
    s11 = fma(-l1, r[0, 1], r[1, 1])
    t11 = one / s11
    if m == 2:
        v1 = t11 * l1
        q[0, 0] = fma(l1, v1, pivot)
        q[0, 1] = q[1, 0] = -v1
        q[1, 1] = t11
        return
    l2 = r[0, 2] * pivot
    s12 = fma(-l1, r[0, 2], r[1, 2])
    s22 = fma(-l2, r[0, 2], r[2, 2])
    k = s12 * t11
    t22 = one / fma(-k, s12, s22)
    v = t22 * k
    t12, t11 = -v, fma(k, v, t11)
    v1 = fma(t12, l2, t11 * l1)
    v2 = fma(t22, l2, t12 * l1)
    q[0, 0] = fma(l2, v2, fma(l1, v1, pivot))
    q[0, 1] = q[1, 0] = -v1
    q[0, 2] = q[2, 0] = -v2
    q[1, 1], q[2, 2] = t11, t22
    q[1, 2] = q[2, 1] = t12


@jit
def symmetric_times(a: Any, v: Any, m: int, out: Any) -> None:
    for i in range(m):
        s = a[i, 0] * v[0]
        for j in range(1, m):
            s = fma(a[i, j], v[j], s)
        out[i] = s
