"""Truths that run on as the model does, observed with the noise that was asked for."""

import dataclasses

import numpy as np

from l63fast.learning.cycles import TruthChains
from l63fast.lorenz63 import forecast, simulate
from l63fast.observation import ObservationOperator
from learning_samples import TWIN


def test_truths_run_on_and_are_observed_with_the_right_noise() -> None:
    settings = dataclasses.replace(TWIN, operator="xz", sigma=0.5)
    chains = TruthChains(settings, 500, seed=3, n_threads=1)
    start = chains.truth.copy()
    first, second = chains.advance(3, 0), chains.advance(2, 1)
    truth = np.concatenate([first.truth, second.truth]).swapaxes(0, 1)
    assert np.array_equal(truth, simulate(start, 50, save_every=10)[:, 1:])
    noise = first.observations - ObservationOperator("xz")(first.truth)
    assert noise.shape == (3, 500, 2)
    assert abs(noise.std() - 0.5) < 0.03
    assert abs(np.corrcoef(noise.reshape(-1, 2).T)[0, 1]) < 0.1
    again = TruthChains(settings, 500, seed=3, n_threads=1).advance(3, 0)
    assert np.array_equal(again.observations, first.observations)


def test_model_error_is_in_the_truth() -> None:
    settings = dataclasses.replace(TWIN, Q=0.25)
    chains = TruthChains(settings, 2000, seed=3, n_threads=1)
    start = chains.truth.copy()
    course = chains.advance(2, 0)
    for before, after in ((start, course.truth[0]), tuple(course.truth)):
        error = after - forecast(before, 10)
        assert np.allclose(np.cov(error.T), 0.25 * np.eye(3), atol=0.03)
