"""Libraries that are called once per operation or step: NumPy, eager torch, DAPPER.

A stepper takes states (n, 3) and dt and yields the components (x, y, z) after one more
step, for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

import numpy as np

from benchmarks.peers import Peer
from benchmarks.peers.rk4 import BETA, RHO, SIGMA, rk4

Stepper = Callable[[Any, float], Iterator[Any]]


def numpy_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    """Yield steps as one writes them: whole arrays, a component each."""
    x, y, z = np.ascontiguousarray(states.T)
    while True:
        x, y, z = rk4(x, y, z, dt)
        yield x, y, z


def numpy_lean_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    """Yield steps that make no temporary array: the fastest form found in NumPy."""
    s = np.array(states.T, order="C")
    k, p, total = np.empty_like(s), np.empty_like(s), np.empty_like(s)
    spare = np.empty_like(s[0])

    def tendency_into(k: np.ndarray, s: np.ndarray) -> None:
        (x, y, z), (a, b, c) = s, k
        np.subtract(y, x, out=a)
        np.multiply(a, SIGMA, out=a)
        np.subtract(RHO, z, out=b)
        np.multiply(b, x, out=b)
        np.subtract(b, y, out=b)
        np.multiply(x, y, out=c)
        np.multiply(z, BETA, out=spare)
        np.subtract(c, spare, out=c)

    while True:
        tendency_into(total, s)
        np.multiply(total, 0.5 * dt, out=p)
        for weight, repeats in ((0.5 * dt, 2), (dt, 2), (0.0, 1)):
            np.add(p, s, out=p)
            tendency_into(k, p)
            for _ in range(repeats):
                np.add(total, k, out=total)
            if weight:
                np.multiply(k, weight, out=p)
        np.multiply(total, dt / 6, out=total)
        np.add(s, total, out=s)
        yield s


def torch_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    import torch

    with torch.inference_mode():
        x, y, z = torch.from_numpy(np.ascontiguousarray(states.T))
        while True:
            x, y, z = rk4(x, y, z, dt)
            yield x, y, z


def dapper_steps(states: np.ndarray, dt: float) -> Iterator[Any]:
    from dapper.mods import Lorenz63

    state = states
    while True:
        state = Lorenz63.step(state, 0.0, dt)
        yield state.T


def forecast_by(
    steps: Stepper, block: int, n_steps: int, dt: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from states (n, 3) to those after n_steps."""

    def forecast(states: np.ndarray) -> np.ndarray:
        final = np.empty_like(states)
        for i in range(0, len(states), block):
            for components in islice(steps(states[i : i + block], dt), n_steps):
                last = components
            for c in range(3):
                final[i : i + block, c] = last[c]
        return final

    return forecast


def simulate_by(
    steps: Stepper, block: int, n_steps: int, dt: float
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that fills (n_steps + 1, 3, n), where these write fastest."""

    def simulate(states: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[0] = states.T
        for i in range(0, len(states), block):
            members = states[i : i + block]
            for k, components in enumerate(islice(steps(members, dt), n_steps), 1):
                for c in range(3):
                    out[k, c, i : i + block] = components[c]
        return out

    return simulate


# Name, stepper, members per block, library.
_FORMS: Final[tuple[tuple[str, Stepper, int, tuple[str, ...]], ...]] = (
    ("NumPy, blocks, no temporaries", numpy_lean_steps, 8192, ()),
    ("NumPy, whole arrays", numpy_steps, 2**62, ()),
    ("torch, eager", torch_steps, 2**62, ("torch",)),
    ("DAPPER", dapper_steps, 2**62, ("dapper.mods.Lorenz63",)),
)
FORECAST: Final = [
    Peer(name, partial(forecast_by, steps, block), requires)
    for name, steps, block, requires in _FORMS
]
SIMULATE: Final = [
    Peer(name, partial(simulate_by, steps, block), requires)
    for name, steps, block, requires in _FORMS
]
