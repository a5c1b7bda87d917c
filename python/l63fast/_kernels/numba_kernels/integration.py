"""Ensemble integration in L1 blocks; the order is that of lorenz63.hpp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l63fast._kernels.numba_kernels.compile import fma, jit
from l63fast._kernels.numba_kernels.threads import BLOCK, CHUNK, in_threads


@jit
def _integrate_block(
    initial: Any,
    out: Any,
    begin: int,
    end: int,
    first_step: int,
    last_step: int,
    save_every: int,
    constants: Any,
    work: Any,
) -> int:
    """Take members [begin, end), at most BLOCK of them, from one step to another.

    Returns how many ended non-finite. Between two calls the states stay in `work`.
    constants: 2, h, dt, sh, sd, s6, h6, rho, beta in the kernel's type.
    """
    two, h, dt, sh, sd, s6, h6, rho, beta = constants
    n = end - begin
    x, y, z = work[0], work[1], work[2]
    if first_step == 0:
        for i in range(n):
            x[i] = initial[begin + i, 0]
            y[i] = initial[begin + i, 1]
            z[i] = initial[begin + i, 2]
    step = first_step
    while step < last_step:
        k = step // save_every
        stop = min((k + 1) * save_every, last_step)
        for _ in range(step, stop):
            for i in range(n):
                x0, y0, z0 = x[i], y[i], z[i]
                a1 = y0 - x0
                b1 = fma(x0, rho - z0, -y0)
                c1 = fma(x0, y0, -(beta * z0))
                xs = fma(sh, a1, x0)
                ys = fma(h, b1, y0)
                zs = fma(h, c1, z0)
                a2 = ys - xs
                b2 = fma(xs, rho - zs, -ys)
                c2 = fma(xs, ys, -(beta * zs))
                xs = fma(sh, a2, x0)
                ys = fma(h, b2, y0)
                zs = fma(h, c2, z0)
                a3 = ys - xs
                b3 = fma(xs, rho - zs, -ys)
                c3 = fma(xs, ys, -(beta * zs))
                xs = fma(sd, a3, x0)
                ys = fma(dt, b3, y0)
                zs = fma(dt, c3, z0)
                a4 = ys - xs
                b4 = fma(xs, rho - zs, -ys)
                c4 = fma(xs, ys, -(beta * zs))
                x[i] = fma(s6, fma(two, a2 + a3, a1 + a4), x0)
                y[i] = fma(h6, fma(two, b2 + b3, b1 + b4), y0)
                z[i] = fma(h6, fma(two, c2 + c3, c1 + c4), z0)
        step = stop
        if step == (k + 1) * save_every:
            for i in range(n):
                out[begin + i, k, 0] = x[i]
                out[begin + i, k, 1] = y[i]
                out[begin + i, k, 2] = z[i]
    diverged = 0
    for i in range(n):
        if not (np.isfinite(x[i]) and np.isfinite(y[i]) and np.isfinite(z[i])):
            diverged += 1
            for k in range(first_step // save_every, last_step // save_every):
                for j in range(3):
                    if not np.isfinite(out[begin + i, k, j]):
                        out[begin + i, k, j] = np.nan
    return diverged


@jit
def _integrate_range(
    initial: Any,
    out: Any,
    begin: int,
    end: int,
    first_step: int,
    last_step: int,
    save_every: int,
    constants: Any,
    work: Any,
) -> int:
    """Take any number of members; more than BLOCK only through all steps at once."""
    diverged = 0
    for i in range(begin, end, BLOCK):
        j = min(i + BLOCK, end)
        diverged += _integrate_block(
            initial, out, i, j, first_step, last_step, save_every, constants, work
        )
    return diverged


def rk4_constants(
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
    constants = rk4_constants(dt, *parameters, initial.dtype)
    n, n_steps = initial.shape[0], out.shape[1] * save_every
    members = BLOCK * max(1, CHUNK // (BLOCK * max(1, n_steps)))
    # All steps at once where `members` are many blocks:
    steps = CHUNK // max(1, min(n, BLOCK))

    def run(begin: int, end: int, cancelled: Callable[[], bool]) -> int:
        work = np.empty((3, BLOCK), dtype=initial.dtype)
        diverged = ended = 0
        for i in range(begin, end, members):
            j = min(i + members, end)
            for first in range(0, n_steps, steps):
                if cancelled():
                    return diverged
                last = min(first + steps, n_steps)
                ended = _integrate_range(
                    initial, out, i, j, first, last, save_every, constants, work
                )
            diverged += ended
        return diverged

    return sum(in_threads(run, n, n_threads))
