"""The schemes that start every analysis from the climatological mean."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.assimilation.kalman import ClimatologicalMean, OptimalInterpolation
from l63fast.errors import ArgumentTypeError
from l63fast.lorenz63 import Climatology
from l63fast.observation import ObservationOperator
from oracles import linear_analysis

C = np.array([[62.8, 62.8, 0.0], [62.8, 81.2, 0.0], [0.0, 0.0, 74.3]])
CLIMATOLOGY = Climatology(np.array([0.0, 0.0, 23.55]), C)


def test_climatological_mean_ignores_background_time_and_observation():
    scheme = ClimatologicalMean("xz", CLIMATOLOGY)
    rng = np.random.default_rng(0)
    background, window = rng.normal(size=(4, 3)), rng.normal(size=(4, 1, 2))
    state = scheme.forecast(scheme.initial(background, rng), 10)
    state, analysis = scheme.analyse(state, window)
    np.testing.assert_array_equal(state, np.tile(CLIMATOLOGY.mean, (4, 1)))
    np.testing.assert_array_equal(analysis.state, state)
    np.testing.assert_array_equal(analysis.spread[0], np.sqrt(np.diag(C)))
    expected = window[:, 0] - CLIMATOLOGY.mean[[0, 2]]
    np.testing.assert_array_equal(analysis.residual, expected)


@pytest.mark.parametrize("name", ["x", "xy", "xyz"])
def test_optimal_interpolation_is_the_best_linear_estimate(name):
    operator, rng = ObservationOperator(name), np.random.default_rng(0)
    n, m = 20_000, operator.obs_dim
    R = 2.0 * np.eye(m)
    truth = CLIMATOLOGY.mean + rng.normal(size=(n, 3)) @ np.linalg.cholesky(C).T
    observation = operator(truth) + np.sqrt(2.0) * rng.normal(size=(n, m))
    scheme = OptimalInterpolation(name, CLIMATOLOGY, R)
    state = scheme.initial(truth, rng)
    again, analysis = scheme.analyse(state, observation[:, np.newaxis])
    np.testing.assert_array_equal(again, state)
    expected = linear_analysis(state, observation, operator, C, R)
    np.testing.assert_allclose(analysis.state, expected, atol=1e-10)
    # Its error covariance is C - K H C, the posterior covariance of a Gaussian truth.
    H = np.eye(3)[list(operator.components)]
    posterior = C - C @ H.T @ np.linalg.solve(H @ C @ H.T + R, H @ C)
    error = analysis.state - truth
    scale = np.sqrt(np.outer(np.diag(posterior), np.diag(posterior)))
    assert (np.abs(error.T @ error / n - posterior) < 0.05 * scale).all()


def test_schemes_want_a_climatology():
    with pytest.raises(ArgumentTypeError, match="climatology: expected Climatology"):
        ClimatologicalMean("x", C)
