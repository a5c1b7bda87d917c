"""Loops that Numba compiles, as a user would write them, free to contract and reorder.

By member: one member's whole trajectory, then the next. By step: all members, one step.
In blocks: members that fit the first cache, step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np

from benchmarks.peers import Peer
from benchmarks.peers import rk4 as formulas


@cache
def _compiled() -> tuple[Any, Any]:
    """Return the two loops; `saved` (n_steps or 0, 3, n) takes every state."""
    from numba import njit

    tendency = njit(fastmath=True, inline="always")(formulas.tendency)
    rk4 = njit(fastmath=True)(_with(formulas.rk4, tendency=tendency))

    @njit(fastmath=True)
    def by_member(s: Any, n_steps: int, dt: float, saved: Any) -> None:
        for i in range(s.shape[1]):
            x, y, z = s[0, i], s[1, i], s[2, i]
            for k in range(n_steps):
                x, y, z = rk4(x, y, z, dt)
                if saved.shape[0]:
                    saved[k, 0, i], saved[k, 1, i], saved[k, 2, i] = x, y, z
            s[0, i], s[1, i], s[2, i] = x, y, z

    @njit(fastmath=True)
    def step(x: Any, y: Any, z: Any, dt: float) -> None:
        for i in range(len(x)):
            x[i], y[i], z[i] = rk4(x[i], y[i], z[i], dt)

    @njit(fastmath=True)
    def store(x: Any, y: Any, z: Any, to: Any, first: int) -> None:
        for i in range(len(x)):
            to[0, first + i] = x[i]
            to[1, first + i] = y[i]
            to[2, first + i] = z[i]

    @njit(fastmath=True)
    def in_blocks(s: Any, n_steps: int, dt: float, saved: Any, block: int) -> None:
        for first in range(0, s.shape[1], block):
            x = s[0][first : first + block]
            y = s[1][first : first + block]
            z = s[2][first : first + block]
            for k in range(n_steps):
                step(x, y, z, dt)
                if saved.shape[0]:
                    store(x, y, z, saved[k], first)

    return by_member, in_blocks


def _with(function: Any, **names: Any) -> Any:
    """Return a copy of a function that sees other globals."""
    return type(function)(function.__code__, {**function.__globals__, **names})


def _run(form: str, s: np.ndarray, n_steps: int, dt: float, saved: np.ndarray) -> None:
    by_member, in_blocks = _compiled()
    if form == "by member":
        by_member(s, n_steps, dt, saved)
    else:
        in_blocks(s, n_steps, dt, saved, 512 if form == "in blocks" else s.shape[1])


def forecast_by(form: str) -> Callable[[int, float], Callable[[np.ndarray], Any]]:
    def make(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
        def forecast(states: np.ndarray) -> np.ndarray:
            s = states.T.copy()
            _run(form, s, n_steps, dt, np.empty((0, 3, s.shape[1])))
            return np.ascontiguousarray(s.T)

        return forecast

    return make


def simulate_by(form: str) -> Callable[[int, float], Callable[..., Any]]:
    def make(n_steps: int, dt: float) -> Callable[..., np.ndarray]:
        def simulate(states: np.ndarray, out: np.ndarray) -> np.ndarray:
            out[0] = states.T
            _run(form, states.T.copy(), n_steps, dt, out[1:])
            return out

        return simulate

    return make


_FORMS: Final = ("in blocks", "by step", "by member")
FORECAST: Final = [Peer(f"Numba, {f}", forecast_by(f), ("numba",)) for f in _FORMS]
SIMULATE: Final = [
    Peer(f"Numba, {f}", simulate_by(f), ("numba",)) for f in ("in blocks", "by member")
]
