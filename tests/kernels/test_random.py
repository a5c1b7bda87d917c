"""Keyed streams: a draw depends on its key and place, and on nothing else (N6)."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from scipy import stats

from l63fast._random import PURPOSES, SPLITS, generator, standard_normals, uniforms

KEYS = list(itertools.product(PURPOSES, SPLITS))


@pytest.mark.promise("N6", "golden hash")
def test_golden_draws():
    """The stream itself is a promise: results of old versions can be made again."""
    draws = uniforms(0, "observation", "train", 1000, (7, 3))
    digest = hashlib.sha256(draws.astype("<f8").tobytes()).hexdigest()
    assert digest == "ccba6143f1e931e034a1f6417cdd666e8c34e471c718d8aeccb8dce014f58c5c"


@pytest.mark.parametrize("draw", [uniforms, standard_normals])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5, 2), (2, 3, 3)])
@pytest.mark.promise("N6", "the first 10 of 100 are those of 10")
def test_a_trajectory_does_not_know_its_neighbours(draw, shape):
    everything = draw(3, "initial", "val", 100, shape)
    assert everything.shape == (100, *shape)
    np.testing.assert_array_equal(draw(3, "initial", "val", 10, shape), everything[:10])
    for first in (0, 1, 37, 99):
        one = draw(3, "initial", "val", 1, shape, first=first)
        np.testing.assert_array_equal(one[0], everything[first])
    chunks = [draw(3, "initial", "val", 25, shape, first=f) for f in (0, 25, 50, 75)]
    np.testing.assert_array_equal(np.concatenate(chunks), everything)


@pytest.mark.promise("N6", "0 shared draws of all keys")
def test_every_key_is_a_stream_of_its_own():
    seeds = (0, 1, 2, 2**32, 2**63 - 1)
    streams = [
        uniforms(seed, purpose, split, 4, (5,)).ravel()
        for seed in seeds
        for purpose, split in KEYS
    ]
    values = np.concatenate(streams)
    assert len(values) == len(seeds) * len(KEYS) * 20
    assert len(np.unique(values)) == len(values)


def test_every_draw_of_a_key_is_a_stream_of_its_own():
    streams = [
        uniforms(seed, "scheme", "none", 4, (5,), draw=draw).ravel()
        for seed in (0, 1, 2**62)
        for draw in (None, 0, 1, 2, 1000, 2**32)
    ]
    assert len(np.unique(np.concatenate(streams))) == 18 * 20
    part = uniforms(0, "scheme", "none", 2, (5,), draw=7, first=2)
    everything = uniforms(0, "scheme", "none", 4, (5,), draw=7)
    np.testing.assert_array_equal(part, everything[2:])


def test_trajectories_do_not_overlap():
    draws = uniforms(0, "initial", "train", 2000, (5,))
    assert len(np.unique(draws)) == draws.size


@pytest.mark.parametrize("key", [("bootstrap", "none"), ("observation", "test")])
def test_uniforms_are_uniform_and_open(key):
    draws = uniforms(5, *key, 20_000, (3,))
    assert draws.min() > 0.0
    assert draws.max() < 1.0
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-4
    correlation = np.corrcoef(draws.T) - np.eye(3)
    assert np.abs(correlation).max() < 0.03


def test_the_extreme_uniforms_have_finite_normals():
    from scipy.special import ndtri

    smallest = 0.5 * 2.0**-52
    largest = (2.0**52 - 0.5) * 2.0**-52
    assert largest < 1.0
    assert np.isfinite(ndtri([smallest, largest])).all()


def test_normals_are_normal():
    draws = standard_normals(5, "observation", "train", 20_000, (3,)).ravel()
    assert stats.kstest(draws, "norm").pvalue > 1e-4
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size)
    assert abs(draws.std() - 1.0) < 4 / np.sqrt(2 * draws.size)


def test_no_trajectories_and_no_draws():
    assert uniforms(0, "initial", "none", 0, (3,)).shape == (0, 3)
    assert uniforms(0, "initial", "none", 3, (0,)).shape == (3, 0)


def test_generators_are_keyed_like_the_streams():
    firsts = {generator(0, purpose, split).random() for purpose, split in KEYS}
    assert len(firsts) == len(KEYS)
    assert generator(0, "training").random() == generator(0, "training").random()


def test_unknown_names_are_refused():
    with pytest.raises(KeyError):
        uniforms(0, "weather", "train", 1, (1,))
    with pytest.raises(KeyError):
        uniforms(0, "initial", "all", 1, (1,))


def test_the_global_generators_are_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (what must not move)
    standard_normals(0, "initial", "train", 10, (3,))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
