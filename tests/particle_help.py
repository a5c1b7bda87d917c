"""Jobs for the particle kernels, and the published random numbers that they use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from l63fast._kernels import FilterJob
from l63fast.lorenz63 import Lorenz63, simulate, spin_up

MASK = 0xFFFFFFFF

JOB = FilterJob(
    n_steps=None,
    observation=None,
    noise_root=None,
    whitening=np.eye(3),
    components=(0, 1, 2),
    powers=(1, 1, 1),
    threshold=0.3,
    bandwidth=0.3,
    lost=45.0,
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
    """Return states, log weights and a job of cycles around a known truth."""
    rng = np.random.default_rng(n_particles)
    start = spin_up(n, seed=1)
    truth = simulate(start, 10 * n_cycles, save_every=10)[:, 1:]
    states = start[:, None] + rng.normal(size=(n, n_particles, 3))
    components = list(settings.get("components", JOB.components))
    exact = truth[..., components] ** np.array(settings.get("powers", JOB.powers))
    job = replace(
        JOB,
        n_steps=10,
        observation=exact + rng.normal(size=exact.shape),
        whitening=np.eye(len(components)),
        **settings,
    )
    return states, np.zeros((n, n_particles)), job
