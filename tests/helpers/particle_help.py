"""Jobs for the particle kernels, and the published random numbers that they use."""

from __future__ import annotations

from typing import Final

import numpy as np

import golden
from l63fast._kernels import FilterJob, Kernels
from l63fast.lorenz63 import Lorenz63, simulate, spin_up

MASK = 0xFFFFFFFF

# The hash of what `golden_bits` does; a new one goes here after an intended change.
GOLDEN: Final = "354a3eeeac05a037d42706e4d79d9f7ca2e5fb40a5905253f53e0d629d286d98"


def errors(W: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of a job whose observations are whitened by W (m, m)."""
    sets = 2 ** len(W)  # of values that are present, of which these jobs use the last
    return {"whitening": np.repeat(W[None], sets, axis=0), "lost": np.full(sets, 45.0)}


JOB = FilterJob(
    states=np.zeros((1, 1, 3)),
    log_weights=np.zeros((1, 1)),
    n_steps=None,
    observation=None,
    noise_root=None,
    **errors(np.eye(3)),
    components=(0, 1, 2),
    powers=(1, 1, 1),
    threshold=0.3,
    bandwidth=0.3,
    rescue_root=np.eye(3),
    folded=False,
    key=(11, 22),
    first_stage=0,
    dt=0.01,
    parameters=Lorenz63().as_tuple(),
)


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Return the four words of Philox 4x32-10 (Salmon et al. 2011), one by one."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & MASK, p0 >> 32 ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def uniforms(counter: tuple[int, ...], key: tuple[int, int]) -> list[float]:
    """Return the three uniforms that the kernel makes of one block."""
    *words, rest = philox(counter, key)
    bits = [word << 10 | rest >> 10 * i & 1023 for i, word in enumerate(words)]
    return [(value + 0.5) * 2.0**-42 for value in bits]


def cycled_problem(n: int, n_particles: int, n_cycles: int, **settings):
    """Return a job of cycles around a known truth."""
    rng = np.random.default_rng(n_particles)
    start = spin_up(n, seed=1)
    truth = simulate(start, 10 * n_cycles, save_every=10)[:, 1:]
    states = start[:, None] + rng.normal(size=(n, n_particles, 3))
    components = list(settings.get("components", JOB.components))
    exact = truth[..., components] ** np.array(settings.get("powers", JOB.powers))
    return JOB._replace(
        states=states,
        log_weights=np.zeros((n, n_particles)),
        n_steps=10,
        observation=exact + rng.normal(size=exact.shape),
        **errors(np.eye(len(components))),
        **settings,
    )


def golden_bits(kernels: Kernels, n_threads: int) -> str:
    """Hash runs of every kind, from states and observations made of integers."""
    n, n_particles, n_cycles = 7, 333, 12
    states = golden.states(n * n_particles, np.float64).reshape(n, n_particles, 3)
    y = golden.states(n * n_cycles, np.float64).reshape(n, n_cycles, 3)
    y[0, 5] = 1e154  # no particle has any likelihood
    states[1, ::3], states[2] = 1e200, np.nan  # some are not finite; none is
    job = JOB._replace(
        states=states, log_weights=np.zeros(states.shape[:2]), observation=y,
        n_steps=11, **errors(np.tril(np.full((3, 3), 0.25))),
    )  # fmt: skip
    plain = job._replace(threshold=0.5)
    noisy = job._replace(noise_root=np.diag([1.0, 0.5, 0.25]))
    square = np.ascontiguousarray(y[..., :1] ** 2)
    folded = job._replace(
        observation=square, **errors(np.array([[0.125]])), components=(0,),
        powers=(2,), folded=True, threshold=1.0,
    )  # fmt: skip
    jobs = plain, noisy, folded
    results = [kernels.filter_particles(one, n_threads) for one in jobs]
    assert set(np.unique(results[0].status)) == {0, 2, 3}
    return golden.digest(*(array for result in results for array in result))
