"""Closed-form 1x1, 2x2 and 3x3 algebra; the order is that of small_matrix.hpp."""

from __future__ import annotations

from typing import Any

from l63fast._kernels.numba_kernels.compile import fma, jit


@jit
def solve(a: Any, b: Any, m: int, w: Any, one: Any) -> bool:
    """Solve a w = b by the adjugate; return whether every eigenvalue is positive.

    a is similar to a symmetric matrix, so its eigenvalues are real, and they are all
    positive where the trace, the sum of the principal minors and the determinant are.
    """
    if m == 1:
        w[0] = b[0] / a[0, 0]
        return bool(a[0, 0] > 0)
    if m == 2:
        det = fma(a[0, 0], a[1, 1], -(a[0, 1] * a[1, 0]))
        inv = one / det
        w[0] = fma(a[1, 1], b[0], -(a[0, 1] * b[1])) * inv
        w[1] = fma(a[0, 0], b[1], -(a[1, 0] * b[0])) * inv
        return bool(det > 0 and a[0, 0] + a[1, 1] > 0)
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
    trace = (a[0, 0] + a[1, 1]) + a[2, 2]
    return bool(det > 0 and trace > 0 and (m00 + m11) + m22 > 0)


@jit
def inverse(r: Any, m: int, q: Any, one: Any) -> None:
    """Write the inverse of the symmetric matrix r into q, by the adjugate."""
    if m == 1:
        q[0, 0] = one / r[0, 0]
    elif m == 2:
        inv = one / fma(r[0, 0], r[1, 1], -(r[0, 1] * r[0, 1]))
        q[0, 0] = r[1, 1] * inv
        q[0, 1] = q[1, 0] = -(r[0, 1] * inv)
        q[1, 1] = r[0, 0] * inv
    else:
        m00 = fma(r[1, 1], r[2, 2], -(r[1, 2] * r[1, 2]))
        m01 = fma(r[0, 2], r[1, 2], -(r[0, 1] * r[2, 2]))
        m02 = fma(r[0, 1], r[1, 2], -(r[0, 2] * r[1, 1]))
        m11 = fma(r[0, 0], r[2, 2], -(r[0, 2] * r[0, 2]))
        m12 = fma(r[0, 2], r[0, 1], -(r[0, 0] * r[1, 2]))
        m22 = fma(r[0, 0], r[1, 1], -(r[0, 1] * r[0, 1]))
        inv = one / fma(r[0, 2], m02, fma(r[0, 1], m01, r[0, 0] * m00))
        q[0, 0] = m00 * inv
        q[0, 1] = q[1, 0] = m01 * inv
        q[0, 2] = q[2, 0] = m02 * inv
        q[1, 1] = m11 * inv
        q[1, 2] = q[2, 1] = m12 * inv
        q[2, 2] = m22 * inv


@jit
def symmetric_times(a: Any, v: Any, m: int, out: Any) -> None:
    for i in range(m):
        s = a[i, 0] * v[0]
        for j in range(1, m):
            s = fma(a[i, j], v[j], s)
        out[i] = s
