"""Samples of a posterior: of known distributions, from far away."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.assimilation.window_sampling import (
    Population,
    largest_exponent,
    sampled,
    shares,
)

ROOT = np.array([[0.05, 0.0, 0.0], [0.02, 0.01, 0.0], [-0.01, 0.0, 0.2]])
CENTRES = np.array([[1.0, -2.0, 0.5], [-3.0, 0.2, 4.0]])


def normal(states: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the misfits of a normal distribution about each window's centre."""
    whitened = (states - CENTRES[windows][:, None]) @ np.linalg.inv(ROOT).T
    return (whitened**2).sum(axis=2), states


def two_wells(states: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return those of two equal wells at x = -4 and x = 4, far narrower than that."""
    far = np.abs(np.abs(states[..., 0]) - 4.0)
    return (far**2 + states[..., 1] ** 2 + states[..., 2] ** 2) / 0.05**2, states


def spread_out(weigh, n: int, reach: float = 6.0) -> Population:
    rng = np.random.default_rng(0)
    states = rng.uniform(-reach, reach, (n, 4096, 3))
    return Population(states, *weigh(states, np.arange(n)))


def test_a_normal_distribution_is_found_within_a_box_ten_thousand_times_its_size() -> (
    None
):
    start = spread_out(normal, 2)
    exponent = largest_exponent(start.square, 256.0, np.ones(2))
    assert (exponent < 1e-2).all()
    found, distinct = sampled(normal, start, exponent, seed=0)
    assert found.shape == (2, 1024, 3)
    assert (distinct > 900).all()
    for samples, centre in zip(found, CENTRES, strict=True):
        whitened = (samples - centre) @ np.linalg.inv(ROOT).T
        np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=0.15)
        np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.2)


def test_two_places_keep_the_weights_that_they_began_with() -> None:
    start = spread_out(two_wells, 1)
    keep = (start.origins[0, :, 0] < 0) | (np.arange(4096) % 3 == 0)
    three_to_one = Population(*(values[:, keep] for values in start))
    exponent = largest_exponent(three_to_one.square, 256.0, np.ones(1))
    found, _ = sampled(two_wells, three_to_one, exponent, seed=0)
    assert (found[0, :, 0] > 0.0).mean() == pytest.approx(0.25, abs=0.07)
    assert np.abs(np.abs(found[0, :, 0]) - 4.0).std() == pytest.approx(0.03, abs=0.02)


def test_samples_depend_on_their_seed_and_not_on_other_windows() -> None:
    start = spread_out(normal, 2)
    exponent = largest_exponent(start.square, 256.0, np.ones(2))
    both, _ = sampled(normal, start, exponent, seed=0)
    first = Population(*(values[:1] for values in start))
    alone, _ = sampled(normal, first, exponent[:1], seed=0)
    assert alone.tobytes() == both[:1].tobytes()
    other, _ = sampled(normal, first, exponent[:1], seed=1)
    assert not np.array_equal(alone, other)


def test_states_that_cannot_be_weighed_are_never_taken() -> None:
    def broken(
        states: np.ndarray, windows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        square, last = normal(states, windows)
        return np.where(last[..., 0] > CENTRES[0, 0], np.nan, square), last

    start = spread_out(normal, 1)
    low = start.origins[0, :, 0] < CENTRES[0, 0]
    start = Population(*(values[:, low] for values in start))
    found, _ = sampled(
        broken, start, largest_exponent(start.square, 64.0, np.ones(1)), seed=0
    )
    assert found[0, :, 0].max() <= CENTRES[0, 0]


def test_the_coldest_leaves_the_size_asked_for() -> None:
    square = (
        np.random.default_rng(0).chisquare(3, (5, 2000))
        * np.logspace(-3, 3, 5)[:, None]
    )
    found = largest_exponent(square, 200.0, np.ones(5))
    size = 1.0 / (shares(square, found) ** 2).sum(axis=1)
    assert found[0] == 1.0
    assert size[0] > 200.0
    assert (found[1:4] <= 1.0).all()
    np.testing.assert_allclose(size[3:], 200.0, rtol=1e-6)
