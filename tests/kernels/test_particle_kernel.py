"""The particle kernel: its random numbers, its functions, its bits, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtri

from l63fast._kernels import cpp, load_kernels
from l63fast.lorenz63 import forecast
from particle_help import (
    GOLDEN,
    JOB,
    cycled_problem,
    errors,
    golden_bits,
    philox,
    uniforms,
)

LEVELS = cpp.levels()

# One observation for each of so many trajectories, which says nothing.
BLIND = JOB._replace(
    observation=np.zeros((400, 1, 1)), components=(2,), powers=(1,),
    **errors(1e-12 * np.eye(1)),
)  # fmt: skip


def same(one, other) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def noise(n: int, n_particles: int, *, key=(1, 2), stage=0, level=None) -> np.ndarray:
    """Return the normals that a forecast of no step adds to particles at 0."""
    job = JOB._replace(
        states=np.zeros((n, n_particles, 3)), log_weights=np.zeros((n, n_particles)),
        n_steps=0, noise_root=np.eye(3), key=key, first_stage=stage,
    )  # fmt: skip
    return load_kernels("cpp", level=level).filter_particles(job, 1).states


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers published with Random123
        ((0,) * 4, (0,) * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_philox_that_the_kernel_is_compared_with_is_philox(counter, key, words):
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == words


@pytest.mark.parametrize("level", LEVELS)
def test_normals_are_quantiles_of_philox_by_particle_trajectory_and_stage(level):
    key, stage = (0xA4093822, 0x299F31D0), 0x13198A2E
    drawn = noise(3, 21, key=key, stage=stage, level=level)
    for trajectory in range(3):
        for particle in range(21):
            wanted = ndtri(uniforms((particle, trajectory, stage, 0), key))
            np.testing.assert_allclose(drawn[trajectory, particle], wanted, rtol=1e-13)
    first = noise(1, 1, key=(0, 0))[0, 0]
    np.testing.assert_allclose(first, ndtri(uniforms((0,) * 4, (0, 0))), rtol=1e-13)


def test_normals_are_normal_and_know_nothing_of_each_other():
    drawn = noise(20, 20_000).reshape(-1, 3)
    n = len(drawn)
    assert abs(drawn.mean()) < 4 / (3 * n) ** 0.5
    assert abs((drawn**2).mean() - 1) < 4 * (2 / (3 * n)) ** 0.5
    assert abs((drawn**4).mean() - 3) < 4 * (96 / (3 * n)) ** 0.5
    for column in drawn.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    pairs = np.corrcoef(np.column_stack([drawn[:-1], drawn[1:]]).T)
    assert np.abs(pairs - np.eye(6)).max() < 5 / n**0.5
    others = noise(20, 20_000, stage=1).reshape(-1, 3)
    assert np.abs(np.corrcoef(drawn.T, others.T)[:3, 3:]).max() < 5 / n**0.5


@pytest.mark.parametrize("level", LEVELS)
def test_weights_are_the_exponential_of_the_misfit(level):
    """Exact to 2 ulp over the whole range of what exp can give."""
    x = np.linspace(0.0, 37.0, 1000)
    states = np.zeros((1, 1000, 3))
    states[0, :, 0] = x
    job = JOB._replace(
        states=states, log_weights=np.zeros((1, 1000)), components=(0,), powers=(1,),
        observation=np.zeros((1, 1, 1)), **errors(np.eye(1)), threshold=0.0,
    )  # fmt: skip
    done = load_kernels("cpp", level=level).filter_particles(job, 1)
    weights = np.exp(-0.5 * x**2)
    np.testing.assert_allclose(done.log_weights[0], -0.5 * x**2, rtol=1e-15)
    total, square = weights.sum(), (weights**2).sum()
    np.testing.assert_allclose(done.effective_size, total**2 / square, rtol=1e-14)
    np.testing.assert_allclose(done.mean[0, 0, 0], weights @ x / total, rtol=1e-13)


def test_a_forecast_is_that_of_each_particle():
    job = cycled_problem(3, 107, 1)._replace(observation=None, n_steps=300)
    for level in LEVELS:
        done = load_kernels("cpp", level=level).filter_particles(job, 1)
        assert done.states.tobytes() == forecast(job.states, 300).tobytes()
        assert not done.log_weights.any()


@pytest.mark.parametrize("level", LEVELS)
def test_golden_bits_from_every_level(level):
    kernels = load_kernels("cpp", level=level)
    for n_threads in (1, 2, 8):
        assert golden_bits(kernels, n_threads) == GOLDEN


PROBLEMS = [
    {},
    {"threshold": 1.0, "noise_root": 0.1 * np.eye(3)},
    {"components": (0,), "powers": (2,), "folded": True, "threshold": 1.0},
    {"components": (1, 2), "powers": (1, 3), "bandwidth": 0.0},
]


@pytest.mark.parametrize("settings", PROBLEMS)
@pytest.mark.parametrize("n_particles", [2, 100, 333])
def test_every_level_gives_the_same_bits(settings, n_particles):
    job = cycled_problem(4, n_particles, 20, **settings)
    done = [load_kernels("cpp", level=v).filter_particles(job, 1) for v in LEVELS]
    assert all(same(done[0], other) for other in done[1:])
    assert np.isfinite(done[0].mean).all()


def test_threads_and_neighbours_change_no_bit():
    job = cycled_problem(9, 1000, 30)  # large enough for threads
    kernels = load_kernels("cpp")
    one = kernels.filter_particles(job, 1)
    for n_threads in (2, 3, 16):
        assert same(kernels.filter_particles(job, n_threads), one)
    first = [values[:4].copy() for values in job[:3]]
    part = kernels.filter_particles(job._make([*first, *job[3:]]), 2)
    assert same(part, [values[:4] for values in one])
    other = kernels.filter_particles(job._replace(key=(11, 23)), 1)
    assert not same(other, one)


def test_inputs_stay_as_they_were():
    job = cycled_problem(2, 50, 5)
    before = [values.copy() for values in job[:3]]
    load_kernels("cpp").filter_particles(job, 1)
    assert same(job[:3], before)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_systematic_draws_are_unbiased_and_as_even_as_can_be(backend):
    """Each particle is drawn floor(n w) or ceil(n w) times, n w times on average."""
    n, n_particles = 4000, 10
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(n_particles))
    states = np.zeros((n, n_particles, 3))
    states[..., 2] = np.arange(n_particles)
    weights = np.tile(np.log(share), (n, 1))
    job = BLIND._replace(
        states=states, log_weights=weights, observation=np.zeros((n, 1, 1)),
        threshold=1.0, bandwidth=0.0,
    )  # fmt: skip
    done = load_kernels(backend).filter_particles(job, 1)
    assert not done.log_weights.any()
    drawn = done.states[..., 2]
    counts = np.stack([(drawn == i).sum(axis=1) for i in range(n_particles)], axis=1)
    expected = n_particles * share
    assert (np.abs(counts - expected) < 1 + 1e-9).all()
    assert np.abs(counts.mean(axis=0) - expected).max() < 4 * 0.5 / n**0.5


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("folded", [False, True])
def test_copies_are_scattered_with_the_covariance_of_the_particles(backend, folded):
    """Every second particle is drawn twice, in order, so that what was added is known.

    Folded, the other half of them being mirror images, it is mirrored with them.
    """
    n, n_particles = 400, 500
    root = np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-1.0, 0.3, 1.0]])
    rng = np.random.default_rng(1)
    states = rng.normal(size=(n, n_particles, 3)) @ root.T + [15.0, 15.0, 20.0]
    mirrored = np.where(folded & (np.arange(n_particles) % 4 == 0), -1.0, 1.0)
    side = np.stack([mirrored, mirrored, np.ones(n_particles)], axis=1)
    weights = np.tile(np.where(np.arange(n_particles) % 2, -np.inf, 0.0), (n, 1))
    job = BLIND._replace(
        states=states * side, log_weights=weights, threshold=0.5, bandwidth=0.1,
        folded=folded,
    )  # fmt: skip
    done = load_kernels(backend).filter_particles(job, 1)
    parents = np.repeat(states[:, ::2], 2, axis=1)
    added = done.states * np.repeat(side[::2], 2, axis=0) - parents
    wanted = 0.1**2 * (root @ root.T)
    sample = np.cov(added.reshape(-1, 3).T)
    np.testing.assert_allclose(sample, wanted, rtol=0.05, atol=5e-4)


@pytest.mark.parametrize("backend", ["cpp", "numba"])
@pytest.mark.parametrize("far", [7.5, 50.0, 5000.0])
def test_lost_particles_are_scattered_as_far_as_the_observation_is(backend, far):
    """With the forecast's covariance; where that excludes it, with the root given."""
    n, n_particles = 50, 1000
    forecast_root = np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-1.0, 0.3, 1.0]])
    given = np.array([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1.0, 2.0, 6.0]])
    rng = np.random.default_rng(1)
    states = rng.normal(size=(n, n_particles, 3)) @ forecast_root.T
    y = np.full((n, 1, 1), far)
    job = BLIND._replace(
        states=states, log_weights=np.zeros((n, n_particles)), observation=y,
        **errors(1e3 * np.eye(1)), threshold=0.0, bandwidth=0.0, rescue_root=given,
    )  # fmt: skip
    done = load_kernels(backend).filter_particles(job, 1)
    assert (done.status == 2).all()
    heaviest = states[np.arange(n), states[..., 2].argmax(axis=1)]
    misfit = far - heaviest[:, 2]
    sample = np.array([np.cov(one.T) for one in states])
    factor = misfit / np.sqrt(sample[:, 2, 2])
    if far < 50:
        assert factor.max() < 3
        wanted = factor[:, None, None] ** 2 * sample
    else:
        assert factor.min() > 3
        factor = np.minimum(misfit / np.sqrt((given @ given.T)[2, 2]), 10.0)
        wanted = factor[:, None, None] ** 2 * (given @ given.T)
    found = np.array([np.cov(one.T) for one in done.states])
    scale = wanted[:, [2], [2]][..., None]
    np.testing.assert_allclose(
        (found / scale).mean(0), (wanted / scale).mean(0), atol=0.03
    )
    np.testing.assert_allclose(
        done.states.mean(axis=1) - heaviest, 0.0, atol=0.2 * np.sqrt(scale.max())
    )


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_a_particle_drawn_once_stays_where_it_is(backend):
    states = np.random.default_rng(0).normal(size=(3, 100, 3))
    job = BLIND._replace(
        states=states, log_weights=np.zeros((3, 100)), observation=np.zeros((3, 1, 1)),
        threshold=1.0, bandwidth=0.5,
    )  # fmt: skip
    done = load_kernels(backend).filter_particles(job, 1)
    np.testing.assert_array_equal(done.states, states)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"components": ()}, "components: 1 to 3"),
        ({"components": (3,), "powers": (1,)}, "out of range"),
        ({"powers": (1, 1, 5)}, "out of range"),
        ({"observation": np.zeros((2, 1, 2))}, "unexpected size"),
        ({"noise_root": np.eye(2)}, "unexpected size"),
    ],
)
def test_what_would_read_beyond_its_memory_is_refused(change, message):
    job = cycled_problem(2, 10, 1)._replace(**change)
    with pytest.raises(ValueError, match=message):
        load_kernels("cpp").filter_particles(job, 1)
