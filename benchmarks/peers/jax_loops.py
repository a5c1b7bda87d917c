"""Loops that XLA compiles: jax in three forms, and diffrax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from benchmarks.peers import Peer
from benchmarks.peers.rk4 import rk4, tendency

BLOCK: Final = 1024


def _jax() -> Any:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def _returned(compiled: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda states: np.asarray(compiled(states))


def by_vmap(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """One member's loop over (3,), mapped over members."""
    jax = _jax()

    def member(state: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            return jax.numpy.stack(rk4(*s, dt))

        return jax.lax.fori_loop(0, n_steps, step, state)

    return _returned(jax.jit(jax.vmap(member)))


def by_component(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """One array per component, all members a step."""
    jax = _jax()

    @jax.jit
    def forecast(states: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            return rk4(*s, dt)

        return jax.numpy.stack(jax.lax.fori_loop(0, n_steps, step, tuple(states.T)), -1)

    return _returned(forecast)


def in_blocks(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    """One array per component of members that fit the cache, block by block."""
    jax = _jax()

    def block(states: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            return rk4(*s, dt)

        return jax.numpy.stack(jax.lax.fori_loop(0, n_steps, step, tuple(states)))

    @jax.jit
    def forecast(states: Any) -> Any:
        n = states.shape[0]
        padded = jax.numpy.pad(states, ((0, -n % BLOCK), (0, 0)), mode="edge")
        final = jax.lax.map(block, padded.reshape(-1, BLOCK, 3).transpose(0, 2, 1))
        return final.transpose(0, 2, 1).reshape(-1, 3)[:n]

    return _returned(forecast)


def stored(n_steps: int, dt: float) -> Callable[..., np.ndarray]:
    """Stack every state by a scan, (n_steps + 1, 3, n); XLA makes the array."""
    jax = _jax()

    @jax.jit
    def simulate(states: Any) -> Any:
        def step(s: Any, _: Any) -> Any:
            following = jax.numpy.stack(rk4(*s, dt))
            return following, following

        _, trajectory = jax.lax.scan(step, states.T, None, n_steps)
        return jax.numpy.concatenate([states.T[None], trajectory])

    return lambda states, out: np.asarray(simulate(states))


def _diffrax_solve(n_steps: int, dt: float, save: Any) -> Callable[[Any], Any]:
    """Return diffrax's solve with a tableau of classical RK4 and constant steps."""
    import diffrax

    jax = _jax()

    class RK4(diffrax.AbstractERK):
        tableau = diffrax.ButcherTableau(
            c=np.array([0.5, 0.5, 1.0]),
            a_lower=(
                np.array([0.5]),
                np.array([0.0, 0.5]),
                np.array([0.0, 0.0, 1.0]),
            ),
            b_sol=np.array([1, 2, 2, 1]) / 6,
            b_error=np.zeros(4),
        )
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms: Any) -> int:
            return 4

    term = diffrax.ODETerm(lambda t, s, args: jax.numpy.stack(tendency(*s)))

    def solve(s: Any) -> Any:
        return diffrax.diffeqsolve(
            term, RK4(), 0.0, n_steps * dt, dt, s,
            saveat=save, stepsize_controller=diffrax.ConstantStepSize(),
            max_steps=n_steps + 1, adjoint=diffrax.ForwardMode(),
        ).ys  # fmt: skip

    return solve


def diffrax_final(n_steps: int, dt: float) -> Callable[[np.ndarray], np.ndarray]:
    import diffrax

    solve = _diffrax_solve(n_steps, dt, diffrax.SaveAt(t1=True))
    return _returned(_jax().jit(lambda states: solve(states.T)[0].T))


def diffrax_stored(n_steps: int, dt: float) -> Callable[..., np.ndarray]:
    import diffrax

    save = diffrax.SaveAt(t0=True, steps=True)
    solve = _diffrax_solve(n_steps, dt, save)
    compiled = _jax().jit(lambda states: solve(states.T)[: n_steps + 1])
    return lambda states, out: np.asarray(compiled(states))


FORECAST: Final = [
    Peer("jax, in blocks", in_blocks, ("jax",)),
    Peer("jax, an array per component", by_component, ("jax",)),
    Peer("jax.vmap of one member", by_vmap, ("jax",)),
    Peer("diffrax, classical RK4", diffrax_final, ("diffrax",)),
]
SIMULATE: Final = [
    Peer("jax, scan", stored, ("jax",)),
    Peer("diffrax, classical RK4", diffrax_stored, ("diffrax",)),
]
