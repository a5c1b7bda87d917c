"""The kernels in Numba: the same expressions in the same order as the C++ core.

Every multiply-add is an explicit fma and nothing else may be contracted, so the results
are those of the C++ core to the last bit. The order is specified once, on the C++ side:
`cpp/include/l63fast/lorenz63.hpp` and `three_d_var.hpp`. This is the only importer of
numba.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

__all__ = ["analyse", "integrate"]

BLOCK: Final = 512  # members per block: 3 components of 512 float64 stay in L1
CONVERGED: Final = 0
MAX_ITER: Final = 1
DIVERGED: Final = 2
NON_FINITE: Final = 3


@intrinsic
def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Emit a * b + c, rounded once."""
    if not (isinstance(a, types.Float) and a == b == c):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> ir.Value:
        return builder.fma(*args)

    return a(a, b, c), codegen


_jit: Final = njit(cache=True, nogil=True, fastmath=False, error_model="numpy")


@_jit
def _integrate_block(
    initial: Any,
    out: Any,
    begin: int,
    end: int,
    n_saved: int,
    save_every: int,
    constants: Any,
    work: Any,
) -> int:
    """Integrate members [begin, end), at most BLOCK of them; return how many diverged.

    constants: 2, h, dt, sh, sd, s6, h6, rho, beta in the kernel's type.
    """
    two, h, dt, sh, sd, s6, h6, rho, beta = constants
    n = end - begin
    x, y, z = work[0], work[1], work[2]
    for i in range(n):
        x[i] = initial[begin + i, 0]
        y[i] = initial[begin + i, 1]
        z[i] = initial[begin + i, 2]
    for k in range(n_saved):
        for _ in range(save_every):
            for i in range(n):
                x0, y0, z0 = x[i], y[i], z[i]
                a1 = y0 - x0
                b1 = _fma(x0, rho - z0, -y0)
                c1 = _fma(x0, y0, -(beta * z0))
                xs = _fma(sh, a1, x0)
                ys = _fma(h, b1, y0)
                zs = _fma(h, c1, z0)
                a2 = ys - xs
                b2 = _fma(xs, rho - zs, -ys)
                c2 = _fma(xs, ys, -(beta * zs))
                xs = _fma(sh, a2, x0)
                ys = _fma(h, b2, y0)
                zs = _fma(h, c2, z0)
                a3 = ys - xs
                b3 = _fma(xs, rho - zs, -ys)
                c3 = _fma(xs, ys, -(beta * zs))
                xs = _fma(sd, a3, x0)
                ys = _fma(dt, b3, y0)
                zs = _fma(dt, c3, z0)
                a4 = ys - xs
                b4 = _fma(xs, rho - zs, -ys)
                c4 = _fma(xs, ys, -(beta * zs))
                x[i] = _fma(s6, _fma(two, a2 + a3, a1 + a4), x0)
                y[i] = _fma(h6, _fma(two, b2 + b3, b1 + b4), y0)
                z[i] = _fma(h6, _fma(two, c2 + c3, c1 + c4), z0)
        for i in range(n):
            out[begin + i, k, 0] = x[i]
            out[begin + i, k, 1] = y[i]
            out[begin + i, k, 2] = z[i]
    diverged = 0
    for i in range(n):
        if not (np.isfinite(x[i]) and np.isfinite(y[i]) and np.isfinite(z[i])):
            diverged += 1
            for k in range(n_saved):
                for j in range(3):
                    if not np.isfinite(out[begin + i, k, j]):
                        out[begin + i, k, j] = np.nan
    return diverged


@_jit
def _integrate_range(
    initial: Any,
    out: Any,
    begin: int,
    end: int,
    n_saved: int,
    save_every: int,
    constants: Any,
    work: Any,
) -> int:
    diverged = 0
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        diverged += _integrate_block(
            initial, out, first, last, n_saved, save_every, constants, work
        )
    return diverged


def _rk4_constants(
    dt: float, sigma: float, rho: float, beta: float, dtype: np.dtype[Any]
) -> tuple[Any, ...]:
    exact = (2.0, 0.5 * dt, dt, sigma * (0.5 * dt), sigma * dt, sigma * dt / 6)
    return tuple(dtype.type(v) for v in (*exact, dt / 6, rho, beta))


def integrate(
    initial: np.ndarray,
    out: np.ndarray,
    save_every: int,
    dt: float,
    parameters: tuple[float, float, float],
    n_threads: int,
) -> int:
    """Fill `out` (n, n_saved, 3); return the number of diverged members."""
    constants = _rk4_constants(dt, *parameters, initial.dtype)
    n_saved = out.shape[1]

    def run(begin: int, end: int) -> int:
        work = np.empty((3, BLOCK), dtype=initial.dtype)
        return int(
            _integrate_range(
                initial, out, begin, end, n_saved, save_every, constants, work
            )
        )

    return sum(_in_threads(run, initial.shape[0], n_threads))


def _in_threads(run: Callable[[int, int], int], n: int, n_threads: int) -> list[int]:
    """Run `run(begin, end)` over static blocks; the first exception wins."""
    n_blocks = -(-n // BLOCK)
    n_workers = max(1, min(n_threads, n_blocks))
    bounds = [min(n, n_blocks * i // n_workers * BLOCK) for i in range(n_workers + 1)]
    results = [0] * n_workers
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            results[i] = run(bounds[i], bounds[i + 1])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, n_workers)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@_jit
def _solve(a: Any, b: Any, m: int, w: Any, one: Any) -> bool:
    """Solve a w = b by the adjugate; return whether every eigenvalue is positive.

    a is similar to a symmetric matrix, so its eigenvalues are real, and they are all
    positive where the trace, the sum of the principal minors and the determinant are.
    """
    if m == 1:
        w[0] = b[0] / a[0, 0]
        return bool(a[0, 0] > 0)
    if m == 2:
        det = _fma(a[0, 0], a[1, 1], -(a[0, 1] * a[1, 0]))
        inv = one / det
        w[0] = _fma(a[1, 1], b[0], -(a[0, 1] * b[1])) * inv
        w[1] = _fma(a[0, 0], b[1], -(a[1, 0] * b[0])) * inv
        return bool(det > 0 and a[0, 0] + a[1, 1] > 0)
    m00 = _fma(a[1, 1], a[2, 2], -(a[1, 2] * a[2, 1]))
    m01 = _fma(a[0, 2], a[2, 1], -(a[0, 1] * a[2, 2]))
    m02 = _fma(a[0, 1], a[1, 2], -(a[0, 2] * a[1, 1]))
    m10 = _fma(a[1, 2], a[2, 0], -(a[1, 0] * a[2, 2]))
    m11 = _fma(a[0, 0], a[2, 2], -(a[0, 2] * a[2, 0]))
    m12 = _fma(a[0, 2], a[1, 0], -(a[0, 0] * a[1, 2]))
    m20 = _fma(a[1, 0], a[2, 1], -(a[1, 1] * a[2, 0]))
    m21 = _fma(a[0, 1], a[2, 0], -(a[0, 0] * a[2, 1]))
    m22 = _fma(a[0, 0], a[1, 1], -(a[0, 1] * a[1, 0]))
    det = _fma(a[0, 2], m20, _fma(a[0, 1], m10, a[0, 0] * m00))
    inv = one / det
    w[0] = _fma(m02, b[2], _fma(m01, b[1], m00 * b[0])) * inv
    w[1] = _fma(m12, b[2], _fma(m11, b[1], m10 * b[0])) * inv
    w[2] = _fma(m22, b[2], _fma(m21, b[1], m20 * b[0])) * inv
    trace = (a[0, 0] + a[1, 1]) + a[2, 2]
    return bool(det > 0 and trace > 0 and (m00 + m11) + m22 > 0)


@_jit
def _inverse(r: Any, m: int, q: Any, one: Any) -> None:
    """Write the inverse of the symmetric matrix r into q, by the adjugate."""
    if m == 1:
        q[0, 0] = one / r[0, 0]
    elif m == 2:
        inv = one / _fma(r[0, 0], r[1, 1], -(r[0, 1] * r[0, 1]))
        q[0, 0] = r[1, 1] * inv
        q[0, 1] = q[1, 0] = -(r[0, 1] * inv)
        q[1, 1] = r[0, 0] * inv
    else:
        m00 = _fma(r[1, 1], r[2, 2], -(r[1, 2] * r[1, 2]))
        m01 = _fma(r[0, 2], r[1, 2], -(r[0, 1] * r[2, 2]))
        m02 = _fma(r[0, 1], r[1, 2], -(r[0, 2] * r[1, 1]))
        m11 = _fma(r[0, 0], r[2, 2], -(r[0, 2] * r[0, 2]))
        m12 = _fma(r[0, 2], r[0, 1], -(r[0, 0] * r[1, 2]))
        m22 = _fma(r[0, 0], r[1, 1], -(r[0, 1] * r[0, 1]))
        inv = one / _fma(r[0, 2], m02, _fma(r[0, 1], m01, r[0, 0] * m00))
        q[0, 0] = m00 * inv
        q[0, 1] = q[1, 0] = m01 * inv
        q[0, 2] = q[2, 0] = m02 * inv
        q[1, 1] = m11 * inv
        q[1, 2] = q[2, 1] = m12 * inv
        q[2, 2] = m22 * inv


@_jit
def _symmetric_times(a: Any, v: Any, m: int, out: Any) -> None:
    for i in range(m):
        s = a[i, 0] * v[0]
        for j in range(1, m):
            s = _fma(a[i, j], v[j], s)
        out[i] = s


@_jit
def _power(u: Any, p: int, one: Any) -> Any:
    """u^p by repeated multiplication."""
    value = one
    if p >= 1:
        value = u
    for _ in range(1, p):
        value = value * u
    return value


@_jit
def _residual(
    u: Any, y: Any, powers: Any, m: int, q: Any, r: Any, qr: Any, one: Any
) -> None:
    """Write r = y - h(u) and R^-1 r."""
    for i in range(m):
        r[i] = _fma(-_power(u[i], powers[i] - 1, one), u[i], y[i])
    _symmetric_times(q, r, m, qr)


@_jit
def _cost(w: Any, v: Any, r: Any, qr: Any, m: int, half: Any) -> Any:
    """1/2 w.v + 1/2 r.(R^-1 r), with v = G w the increment of the observed part."""
    s = w[0] * v[0]
    for i in range(1, m):
        s = _fma(w[i], v[i], s)
    for i in range(m):
        s = _fma(r[i], qr[i], s)
    return half * s


@_jit
def _start(ub: Any, y: Any, p: int, second: bool, c: Any) -> Any:
    """Where the iteration for one component starts: by the observation, if nonlinear.

    From there the derivative of the cost of a single x^2 is convex and Newton's
    method falls monotonically. `second` is the other basin: the mirror of an even
    power, the background of an odd one.
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
            t = third * _fma(two, t, a / (t * t))
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


@_jit
def _iterate(
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
    """One safeguarded Newton iteration from one start; see three_d_var.hpp.

    Rows of the scratch s: 0 w, 1 v, 2 u, 3 r, 4 R^-1 r, 5 to 9 their trial values,
    10 d, 11 right-hand side, 12 to 14 A, 15 to 17 I + A G.
    Returns status, number of iterations, cost.
    """
    zero, one, half, quarter, tol2 = c[0], c[1], c[5], c[6], c[10]
    w, v, u, r, qr = s[0], s[1], s[2], s[3], s[4]
    wt, vt, ut, rt, qrt = s[5], s[6], s[7], s[8], s[9]
    d, b, a, n_matrix = s[10], s[11], s[12:15], s[15:18]
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
    _residual(u, y, powers, m, q, r, qr, one)
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
                bend = (c[11 + p] * _power(u[i], p - 2, one)) * qr[i]
                if newton or bend < zero:
                    a[i, i] = a[i, i] - bend
        for i in range(m):
            for j in range(m):
                t = a[i, 0] * g[0, j]
                for k in range(1, m):
                    t = _fma(a[i, k], g[k, j], t)
                n_matrix[i, j] = one + t if i == j else t
            t = d[i] * qr[i]
            for k in range(m):
                t = _fma(a[i, k], v[k], t)
            b[i] = t
        if not _solve(n_matrix, b, m, wt, one):
            if not newton:
                return NON_FINITE, n, cost
            newton = False
            continue
        for i in range(m):
            wt[i] = _fma(alpha - one, wt[i] - w[i], wt[i])
        _symmetric_times(g, wt, m, vt)
        small = alpha == one
        for i in range(m):
            ut[i] = ub[i] + vt[i]
            step = vt[i] - v[i]
            size = abs(ut[i]) + s[18, i]
            small = small and (step * step < tol2 * (size * size))
        _residual(ut, y, powers, m, q, rt, qrt, one)
        trial = _cost(wt, vt, rt, qrt, m, half)
        if not np.isfinite(trial):
            if not np.isfinite(cost):
                return NON_FINITE, n, cost
            small = False
        scale = cost
        for i in range(m):
            scale = _fma(abs(qr[i]), abs(y[i]) + abs(r[i]), scale)
        if trial <= _fma(c[9], scale, cost) and np.isfinite(trial):
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


@_jit
def _analyse_sample(
    xb: Any,
    y: Any,
    b_matrix: Any,
    r_matrix: Any,
    components: Any,
    powers: Any,
    n_starts: int,
    max_iter: int,
    c: Any,
    s: Any,
    state: Any,
    residual: Any,
) -> Any:
    """Analyse one sample; write state and residual, return status, n_iter, cost."""
    zero, one, half = c[0], c[1], c[5]
    m = len(powers)
    ub, r, qr, best, zeros = s[19], s[3], s[4], s[20], s[21]
    g, q, inner = s[22:25], s[25:28], s[15:18]
    linear = True
    for i in range(m):
        linear = linear and powers[i] == 1
        ub[i] = xb[components[i]]
        for j in range(m):
            g[i, j] = b_matrix[components[i], components[j]]
            inner[i, j] = g[i, j] + r_matrix[i, j]
        s[18, i] = np.sqrt(g[i, i])
        best[i] = zero
        zeros[i] = zero
    _inverse(r_matrix, m, q, one)
    _residual(ub, y, powers, m, q, r, qr, one)
    background_cost = _cost(zeros, zeros, r, qr, m, half)
    status, n_iter, cost = MAX_ITER, 0, background_cost
    if linear and max_iter > 0:
        _solve(inner, r, m, best, one)
        status, n_iter = CONVERGED, 1
    elif max_iter > 0:
        cost = c[11]
        for basin in range(n_starts):
            ended, n, reached = _iterate(ub, y, powers, m, basin, max_iter, g, q, c, s)
            if basin == 0 or reached < cost:
                status, n_iter, cost = ended, n, reached
                for i in range(m):
                    best[i] = s[0, i]
        if status == MAX_ITER and not cost <= background_cost:
            status = DIVERGED
    finite = True
    for j in range(3):
        t = b_matrix[j, components[0]] * best[0]
        for i in range(1, m):
            t = _fma(b_matrix[j, components[i]], best[i], t)
        state[j] = xb[j] + t
        finite = finite and bool(np.isfinite(state[j]))
    for i in range(m):
        s[2, i] = state[components[i]]
    _residual(s[2], y, powers, m, q, r, qr, one)
    _symmetric_times(g, best, m, s[1])
    cost = _cost(best, s[1], r, qr, m, half)
    for i in range(m):
        residual[i] = r[i]
    if not (finite and np.isfinite(cost)):
        status = NON_FINITE
    if status == NON_FINITE:
        cost = c[7]
        for j in range(3):
            state[j] = c[7]
        for i in range(m):
            residual[i] = c[7]
    return status, n_iter, cost


@_jit
def _analyse_range(
    background: Any,
    observation: Any,
    b_matrices: Any,
    r_matrices: Any,
    components: Any,
    powers: Any,
    n_starts: int,
    max_iter: int,
    c: Any,
    begin: int,
    end: int,
    state: Any,
    status: Any,
    n_iter: Any,
    cost: Any,
    residual: Any,
) -> None:
    s = np.zeros((28, 3), dtype=background.dtype)
    each_b = b_matrices.shape[0] > 1
    each_r = r_matrices.shape[0] > 1
    for i in range(begin, end):
        status[i], n_iter[i], cost[i] = _analyse_sample(
            background[i],
            observation[i],
            b_matrices[i if each_b else 0],
            r_matrices[i if each_r else 0],
            components,
            powers,
            n_starts,
            max_iter,
            c,
            s,
            state[i],
            residual[i],
        )


def _three_d_var_constants(dtype: np.dtype[Any], tol: float) -> np.ndarray:
    """Return numbers in the kernel's type: 0 to 4 are themselves, 11 + p is p(p-1)."""
    kind = dtype.type
    c = np.zeros(16, dtype=dtype)
    c[:5] = (0, 1, 2, 3, 4)
    c[5], c[6], c[7], c[8] = 0.5, 0.25, np.nan, kind(1) / kind(3)
    c[9] = kind(16) * np.finfo(dtype).eps
    c[10] = kind(tol) * kind(tol)
    c[11] = np.inf
    c[13:16] = (2, 6, 12)
    return c


def analyse(
    background: np.ndarray,
    observation: np.ndarray,
    b_matrices: np.ndarray,
    r_matrices: np.ndarray,
    components: tuple[int, ...],
    powers: tuple[int, ...],
    n_starts: int,
    max_iter: int,
    tol: float,
    n_threads: int,
) -> tuple[np.ndarray, ...]:
    """Return state (n, 3), status, n_iter, cost (n,) and residual (n, obs_dim)."""
    n, m = observation.shape
    dtype = background.dtype
    with np.errstate(under="ignore", over="ignore"):
        constants = _three_d_var_constants(dtype, tol)
    state, residual = np.empty((n, 3), dtype), np.empty((n, m), dtype)
    status, n_iter = np.empty(n, np.int8), np.empty(n, np.int32)
    cost = np.empty(n, dtype)
    index = (np.array(components, np.int64), np.array(powers, np.int64))

    def run(begin: int, end: int) -> int:
        _analyse_range(
            background,
            observation,
            b_matrices,
            r_matrices,
            *index,
            n_starts,
            max_iter,
            constants,
            begin,
            end,
            state,
            status,
            n_iter,
            cost,
            residual,
        )
        return 0

    _in_threads(run, n, n_threads)
    return state, status, n_iter, cost, residual
