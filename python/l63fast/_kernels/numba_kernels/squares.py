"""3D-Var for h = x^2 with independent errors, by blocks: the fast Newton iteration.

Method and order of operations are those of squares.hpp. Loops run over the samples of a
block, so that LLVM makes vector code of them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.newton import smaller_spread
from l63fast._kernels.numba_kernels.small_matrix import inverse

SQUARE_BLOCK: Final = 128  # samples per block: the rows below stay in L1
N_ROWS: Final = 39  # of the scratch of a block: named in `fast_newton` and `certify`


@jit
def is_independent(r_matrix: Any, m: int) -> bool:
    """Return whether R is diagonal."""
    for i in range(m):
        for j in range(m):
            if i != j and r_matrix[i, j] != 0:
                return False
    return True


@jit
def square_constants(
    b_matrix: Any, r_matrix: Any, components: Any, tol: Any, c: Any, k: Any
) -> None:
    """Write the constants that depend on B and R only; see SquareConstants.

    Rows of k: 0 to 2 G, 3 to 5 P, 6 to 9 q and 2, 4, 6 times q, 10 the smaller spread,
    12 bound, 13 squares and 14 products of P; 15 the tolerance.
    """
    m = len(components)
    for i in range(m):
        for j in range(m):
            k[i, j] = b_matrix[components[i], components[j]]
    inverse(k[0:3], m, k[3:6], c[1])
    k[15, 0] = tol
    for i in range(m):
        k[6, i] = c[1] / r_matrix[i, i]
        k[7, i] = k[6, i] + k[6, i]
        k[8, i] = k[7, i] + k[7, i]
        k[9, i] = k[8, i] + k[7, i]
        k[10, i] = smaller_spread(k[i, i], r_matrix[i, i], 2)
        k[12, i] = c[5] / k[i, i]
    if m == 2:
        k[13, 0] = k[3, 1] * k[3, 1]
    elif m == 3:
        for i in range(3):
            j, l = (i + 1) % 3, (i + 2) % 3  # noqa: E741
            k[13, i] = k[3 + j, l] * k[3 + j, l]
            k[14, i] = k[3 + i, j] * k[3 + i, l]


@jit
def _begin(
    ub: Any, y: Any, alpha: Any, cc: Any, u: Any, scale: Any, n: int, k: Any
) -> None:
    m = len(ub)
    for i in range(m):
        factor, diagonal, row = -k[7, i], k[3 + i, i], k[3 + i]
        zero = factor - factor
        for s in range(n):
            alpha[i, s] = fma(factor, y[i, s], diagonal)
            cc[i, s] = row[0] * ub[0, s]
            # The start sign(u_b) max(|u_b|, sqrt(max(y, 0))): from there Newton
            # converges.
            root = np.sqrt(y[i, s] if zero < y[i, s] else zero)
            size = abs(ub[i, s])
            larger = size if root < size else root
            u[i, s] = -larger if ub[i, s] < zero else larger
            scale[i, s] = size + k[10, i]
        for j in range(1, m):
            p = row[j]
            for s in range(n):
                cc[i, s] = fma(p, ub[j, s], cc[i, s])


@jit
def _step_1(next_u: Any, h: Any, r: Any, active: Any, unsound: Any, n: int) -> None:
    for s in range(n):
        next_u[0, s] = r[0, s] / h[0, s]
        unsound[s] |= active[s] & (not h[0, s] > 0)


@jit
def _step_2(
    next_u: Any, h: Any, r: Any, active: Any, unsound: Any, n: int, k: Any, one: Any
) -> None:
    p01, square = k[3, 1], k[13, 0]
    for s in range(n):
        h0, h1, r0, r1 = h[0, s], h[1, s], r[0, s], r[1, s]
        det = fma(h0, h1, -square)
        inv = one / det
        next_u[0, s] = fma(h1, r0, -(p01 * r1)) * inv
        next_u[1, s] = fma(h0, r1, -(p01 * r0)) * inv
        unsound[s] |= active[s] & ((not h0 > 0) | (not det > 0))


@jit
def _step_3(
    next_u: Any, h: Any, r: Any, active: Any, unsound: Any, n: int, k: Any, one: Any
) -> None:
    p01, p02, p12 = k[3, 1], k[3, 2], k[4, 2]
    s0, s1, s2 = k[13, 0], k[13, 1], k[13, 2]
    t0, t1, t2 = k[14, 0], k[14, 1], k[14, 2]
    for s in range(n):
        h0, h1, h2 = h[0, s], h[1, s], h[2, s]
        r0, r1, r2 = r[0, s], r[1, s], r[2, s]
        m00 = fma(h1, h2, -s0)
        m11 = fma(h0, h2, -s1)
        m22 = fma(h0, h1, -s2)
        m12 = fma(-p12, h0, t0)
        m02 = fma(-p02, h1, t1)
        m01 = fma(-p01, h2, t2)
        det = fma(p02, m02, fma(p01, m01, h0 * m00))
        inv = one / det
        next_u[0, s] = fma(m02, r2, fma(m01, r1, m00 * r0)) * inv
        next_u[1, s] = fma(m12, r2, fma(m11, r1, m01 * r0)) * inv
        next_u[2, s] = fma(m22, r2, fma(m12, r1, m02 * r0)) * inv
        unsound[s] |= active[s] & ((not h0 > 0) | (not m22 > 0) | (not det > 0))


@jit
def _accept(
    next_u: Any, u: Any, scale: Any, active: Any, large: Any, steps: Any, n: int,
    tol: Any,
) -> int:  # fmt: skip
    """Take the step of active samples; return how many stay active."""
    for s in range(n):
        large[s] = False
    for i in range(len(u)):
        for s in range(n):
            a, b = next_u[i, s], u[i, s]
            small = abs(a - b) < fma(tol, abs(a), tol * scale[i, s])
            large[s] |= active[s] & (not small)
            u[i, s] = a if active[s] else b
    left = 0
    for s in range(n):
        active[s] = large[s]
        steps[s] = steps[s] + 1 if large[s] else steps[s]
        left += 1 if large[s] else 0
    return left


@jit
def fast_newton(
    work: Any, active: Any, unsound: Any, steps: Any, n: int, m: int, max_iter: int,
    k: Any, c: Any,
) -> None:  # fmt: skip
    """Run Newton's method in u on the n samples of a block, at most max_iter - 1 steps.

    Rows of the scratch `work` that are read: 0 u_b, 3 y; that are written: 6 u, and 36
    what |u| is increased by to scale the step.
    """
    ub, y, u = work[0:m], work[3 : 3 + m], work[6 : 6 + m]
    alpha, cc = work[9 : 9 + m], work[12 : 12 + m]
    h, r, next_u = work[15 : 15 + m], work[18 : 18 + m], work[21 : 21 + m]
    one, large = c[1], np.empty(n, np.bool_)
    scale = work[36 : 36 + m]
    _begin(ub, y, alpha, cc, u, scale, n, k)
    for s in range(n):
        active[s], unsound[s], steps[s] = True, False, 1
    for _ in range(1, max_iter):
        for i in range(m):
            k2, k3 = k[8, i], k[9, i]
            for s in range(n):
                square = u[i, s] * u[i, s]
                # (P + diag(3 k u^2 - k y)) u_new = 2 k u^3 + P u_b.
                h[i, s] = fma(k3, square, alpha[i, s])
                r[i, s] = fma(k2 * square, u[i, s], cc[i, s])
        if m == 1:
            _step_1(next_u, h, r, active, unsound, n)
        elif m == 2:
            _step_2(next_u, h, r, active, unsound, n, k, one)
        else:
            _step_3(next_u, h, r, active, unsound, n, k, one)
        if _accept(next_u, u, scale, active, large, steps, n, k[15, 0]) == 0:
            break
