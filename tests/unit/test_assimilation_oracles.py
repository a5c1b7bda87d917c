"""The oracles themselves, judged by brute force: an oracle that errs judges nothing."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.observation import ObservationOperator
from oracles import cubic_analysis, linear_analysis

B = np.array([[9.0, 7.0, 1.0], [7.0, 12.0, -2.0], [1.0, -2.0, 8.0]])


def cost(x, background, observation, operator, B, R):
    """Return J, written out once more, inverses and all."""
    dx = x - background
    d = observation - operator(x)
    return 0.5 * (
        np.einsum("...i,ij,...j", dx, np.linalg.inv(B), dx)
        + np.einsum("...i,ij,...j", d, np.linalg.inv(R), d)
    )


@pytest.mark.parametrize("name", ["x", "y", "xy", "xz", "xyz"])
def test_linear_analysis_minimises_the_cost(name):
    operator = ObservationOperator(name)
    rng = np.random.default_rng(0)
    background = rng.normal(size=(50, 3)) * 10
    observation = operator(background) + rng.normal(size=(50, operator.obs_dim)) * 3
    R = 0.5 * np.eye(operator.obs_dim) + 0.2
    x = linear_analysis(background, observation, operator, B, R)
    lowest = cost(x, background, observation, operator, B, R)
    for step in rng.normal(size=(200, 1, 3)) * 1e-3:
        assert (cost(x + step, background, observation, operator, B, R) > lowest).all()


@pytest.mark.parametrize("name", ["x2", "y2", "z2"])
def test_cubic_analysis_is_the_global_minimum(name):
    operator = ObservationOperator(name)
    (i,) = operator.components
    rng = np.random.default_rng(1)
    background = rng.normal(size=(300, 3)) * 5
    background[:5, i] = 0.0
    observation = rng.normal(size=(300, 1)) * 40
    R = np.array([[2.0]])
    x = cubic_analysis(background, observation, operator, B, R)
    lowest = cost(x, background, observation, operator, B, R)
    # For each u the best state is x_b + B_i (u - u_b) / b: scan u over both signs.
    for u in np.linspace(-20.0, 20.0, 4001):
        line = background + B[i] / B[i, i] * (u - background[:, i, None])
        assert (
            lowest <= cost(line, background, observation, operator, B, R) + 1e-9
        ).all()
    ties = x[:5, i]
    assert (ties >= 0.0).all()
    assert (np.sign(x[5:, i]) == np.sign(background[5:, i])).all()


def test_cubic_analysis_takes_covariances_per_sample():
    operator = ObservationOperator("x2")
    rng = np.random.default_rng(2)
    background, observation = rng.normal(size=(4, 3)), rng.normal(size=(4, 1)) ** 2
    scales = np.array([0.1, 1.0, 3.0, 10.0])
    many = cubic_analysis(
        background,
        observation,
        operator,
        scales[:, None, None] * B,
        scales[:, None, None] * np.ones((1, 1)),
    )
    for k, scale in enumerate(scales):
        one = cubic_analysis(
            background[k], observation[k], operator, scale * B, np.array([[scale]])
        )
        np.testing.assert_allclose(many[k], one, rtol=1e-14)
