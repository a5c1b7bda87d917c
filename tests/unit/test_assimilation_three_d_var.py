"""The variational cost, and 3D-Var as a scheme."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.assimilation.scheme import Status
from l63fast.assimilation.three_d_var import ThreeDVar, three_d_var, variational_cost
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import forecast, mirror, spin_up, symmetrised
from l63fast.observation import ObservationOperator
from oracles import cubic_analysis, linear_analysis

B = np.array([[2.0, 1.5, 0.3], [1.5, 3.0, -0.4], [0.3, -0.4, 1.0]])


def case(name, n=64):
    """Return operator, backgrounds, observation windows of one, and R."""
    operator, rng = ObservationOperator(name), np.random.default_rng(0)
    truth = spin_up(n, seed=1)
    background = truth + rng.normal(size=truth.shape)
    observation = operator(truth) + rng.normal(size=(n, operator.obs_dim))
    R = np.eye(operator.obs_dim) + 0.1
    return operator, background, observation[:, np.newaxis], R


@pytest.mark.parametrize("name", ["xy", "x2z"])
def test_cost_is_the_sum_of_both_terms(name):
    operator, background, window, R = case(name)
    observation = window[:, 0]
    state = background + np.random.default_rng(1).normal(size=background.shape)
    cost = variational_cost(state, background, observation, operator, B=B, R=R)
    for k in range(len(state)):
        dx, d = state[k] - background[k], observation[k] - operator(state[k])
        expected = 0.5 * dx @ np.linalg.inv(B) @ dx + 0.5 * d @ np.linalg.inv(R) @ d
        assert cost[k] == pytest.approx(expected, rel=1e-12)


def test_cost_takes_one_covariance_per_sample_and_any_leading_shape():
    operator, background, window, R = case("xy", n=6)
    observation, state = window[:, 0], background + 1.0
    scales = np.arange(1.0, 7.0)[:, None, None]
    many = variational_cost(
        state, background, observation, operator, B=scales * B, R=scales * R
    )
    one = variational_cost(state, background, observation, operator, B=B, R=R)
    np.testing.assert_allclose(many, one / scales[:, 0, 0], rtol=1e-12)
    folded = variational_cost(
        state.reshape(2, 3, 3),
        background.reshape(2, 3, 3),
        observation.reshape(2, 3, 2),
        "xy",
        B=B,
        R=R,
    )
    np.testing.assert_array_equal(folded, one.reshape(2, 3))


def test_cost_refuses_what_is_no_problem():
    operator, background, window, R = case("xy", n=4)
    observation = window[:, 0]
    with pytest.raises(ArgumentValueError, match="background: expected leading"):
        variational_cost(background, background[:2], observation, operator, B=B, R=R)
    with pytest.raises(ArgumentValueError, match="observation: expected"):
        variational_cost(background, background, observation, "x", B=B, R=R)
    with pytest.raises(ArgumentValueError, match="B: expected a positive definite"):
        variational_cost(background, background, observation, operator, B=-B, R=R)
    with pytest.raises(ArgumentTypeError, match="background: expected float64"):
        variational_cost(
            background, background.astype("f4"), observation, operator, B=B, R=R
        )


@pytest.mark.parametrize("call", [variational_cost, three_d_var])
def test_covariances_are_refused_by_name_where_float32_makes_them_none(call):
    background = np.ones((2, 3), np.float32)
    states = [background] * (2 if call is variational_cost else 1)
    y, good = np.ones((2, 1), np.float32), {"B": np.eye(3), "R": np.eye(1)}
    for name, tiny in (("B", 1e-50 * np.eye(3)), ("R", 1e-50 * np.eye(1))):
        with pytest.raises(ArgumentValueError, match=f"{name}: .* in float32, got"):
            call(*states, y, "x", **{**good, name: tiny})


def test_cost_calls_a_matrix_singular_in_its_own_words():
    # Its determinant is 0, but rounding makes its smallest eigenvalue 4e-17.
    singular = np.array([[1.0, 2.0, 0.0], [2.0, 13.0, 3.0], [0.0, 3.0, 1.0]])
    state = np.ones((1, 3))
    with pytest.raises(ArgumentValueError, match="R: expected a positive definite"):
        variational_cost(state, state, state, "xyz", B=np.eye(3), R=singular)


@pytest.mark.parametrize("name", ["x", "y", "xy", "xyz", "xz"])
def test_scheme_makes_the_kalman_update_of_the_latest_observation(name):
    operator, background, window, R = case(name)
    window = np.concatenate([window + 100.0, window], axis=1)
    state, analysis = ThreeDVar(name, B, R).analyse(background, window)
    expected = linear_analysis(background, window[:, -1], operator, B, R)
    np.testing.assert_allclose(state, expected, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(analysis.state, state)
    np.testing.assert_array_equal(analysis.background, background)
    np.testing.assert_allclose(analysis.residual, window[:, -1] - operator(state))
    assert (analysis.status == Status.CONVERGED).all()


def test_scheme_finds_the_global_minimum_for_a_square():
    operator, background, window, _ = case("x2", n=500)
    R = np.eye(1)
    state, analysis = ThreeDVar("x2", B, R).analyse(background, window)
    expected = cubic_analysis(background, window[:, -1], operator, B, R)
    np.testing.assert_allclose(state, expected, atol=1e-6)
    assert (analysis.status == Status.CONVERGED).all()


@pytest.mark.parametrize("name", ["x", "xy", "x2", "xz"])
def test_analysis_of_the_mirror_is_the_mirror_of_the_analysis(name):
    operator, background, window, _ = case(name)
    scheme = ThreeDVar(name, symmetrised(B), np.eye(operator.obs_dim))
    state, _ = scheme.analyse(background, window)
    mirrored, _ = scheme.analyse(
        mirror(background), window * np.array(operator.mirror_signs)
    )
    np.testing.assert_allclose(mirrored, mirror(state), atol=1e-10)
    skewed = ThreeDVar(name, B, np.eye(operator.obs_dim))
    other, _ = skewed.analyse(
        mirror(background), window * np.array(operator.mirror_signs)
    )
    straight, _ = skewed.analyse(background, window)
    assert np.abs(other - mirror(straight)).max() > 1e-3


def test_forecast_is_the_model():
    state = spin_up(5, seed=2)
    scheme = ThreeDVar("x", B, np.eye(1), dt=0.02)
    np.testing.assert_array_equal(
        scheme.forecast(state, 7), forecast(state, 7, dt=0.02)
    )
    assert scheme.initial(state, np.random.default_rng(0)) is state


def test_a_member_that_diverged_stays_so_and_leaves_its_neighbours_alone():
    _, background, window, R = case("xy", n=8)
    scheme = ThreeDVar("xy", B, R)
    healthy, _ = scheme.analyse(scheme.forecast(background, 10), window)
    background[3] = 1e200
    state = scheme.forecast(background, 10)
    others = np.arange(8) != 3
    for _ in range(2):
        after, analysis = scheme.analyse(state, window)
        assert np.isnan(after[3]).all()
        assert analysis.status[3] == Status.NON_FINITE
        assert np.isnan(analysis.cost[3])
        assert (analysis.status[others] == Status.CONVERGED).all()
        np.testing.assert_array_equal(after[others], healthy[others])
        assert np.isnan(scheme.forecast(after, 1)[3]).all()


def test_scheme_checks_its_settings_when_it_is_made():
    with pytest.raises(ArgumentValueError, match=r"R: expected \(2, 2\)"):
        ThreeDVar("xy", B, np.eye(1))
    with pytest.raises(ArgumentValueError, match="B: expected a symmetric"):
        ThreeDVar("xy", B + np.triu(B), np.eye(2))
    with pytest.raises(ArgumentValueError, match="operator: expected"):
        ThreeDVar("yx", B, np.eye(2))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"dt": 0.2}, "dt: expected at most 0.1"),
        ({"dt": -0.01}, "dt: expected a number above 0"),
        ({"backend": "gpu"}, "backend: expected one of auto, cpp, numba"),
        ({"n_threads": 0}, "n_threads: expected at least 1"),
        ({"max_iter": -1}, "max_iter: expected at least 0"),
        ({"tol": 0.0}, "tol: expected a number above 0"),
    ],
)
def test_scheme_checks_every_number_when_it_is_made(setting, message):
    with pytest.raises(ArgumentValueError, match=message):
        ThreeDVar("xy", B, np.eye(2), **setting)


@pytest.mark.promise("B2", "read-only inputs")
def test_inputs_are_left_as_they_were():
    _, background, window, R = case("xy", n=4)
    for array in (background, window):
        array.flags.writeable = False
    before = background.copy()
    state, _ = ThreeDVar("xy", B, R).analyse(background, window)
    assert not np.shares_memory(state, background)
    np.testing.assert_array_equal(background, before)
