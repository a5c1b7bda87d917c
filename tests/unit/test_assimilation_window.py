"""4D-Var against closed forms, its bookkeeping, and its cycle against 3D-Var's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from filter_help import MIRROR, B
from l63fast.assimilation.four_d_var import WindowState
from l63fast.assimilation.scheme import Status
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import forecast, propagator
from l63fast.observation import ObservationOperator
from l63fast.verification import rmse
from window_help import STEPS, begun, observed_window, scheme_of


@pytest.mark.parametrize("quasi_static", [True, False])
@pytest.mark.parametrize("name", ["x", "xy", "xyz"])
def test_one_observation_is_3d_var(name, quasi_static):
    background, _, y = observed_window(name, ())
    scheme = scheme_of(name, 1, quasi_static=quasi_static)
    state, analysis = scheme.analyse(begun(background), y)
    wanted = three_d_var(background, y[:, 0], name, B=B, R=scheme.R)
    np.testing.assert_allclose(analysis.state, wanted.state, atol=1e-11)
    np.testing.assert_allclose(analysis.cost, wanted.cost, atol=1e-11)
    np.testing.assert_allclose(analysis.residual, wanted.residual, atol=1e-11)
    np.testing.assert_array_equal(analysis.background, background)
    H = ObservationOperator(name).jacobian(background[0])
    P = np.linalg.inv(np.linalg.inv(B) + H.T @ np.linalg.inv(scheme.R) @ H)
    np.testing.assert_allclose(analysis.spread, np.tile(np.diag(P) ** 0.5, (60, 1)))
    np.testing.assert_allclose(analysis.innovation, y[:, 0] - background @ H.T)
    S = np.tile(H @ B @ H.T + scheme.R, (60, 1, 1))
    np.testing.assert_allclose(analysis.innovation_covariance, S)
    assert state.backgrounds.shape == (60, 0, 3)
    assert state.steps == ()


@pytest.mark.parametrize("name", ["x2", "x2z"])
def test_one_nonlinear_observation_is_the_lowest_minimum(name):
    background, _, y = observed_window(name, ())
    scheme = scheme_of(name, 1)
    _, analysis = scheme.analyse(begun(background), y)
    wanted = three_d_var(background, y[:, 0], name, B=B, R=scheme.R)
    np.testing.assert_allclose(analysis.state, wanted.state, atol=1e-5)
    np.testing.assert_allclose(analysis.cost, wanted.cost, atol=1e-9)


@pytest.mark.parametrize("name", ["x", "xy", "xyz"])
def test_a_step_is_the_best_linear_estimate_from_the_whole_window(name):
    """Written out with B^-1, R^-1 and the resolvents, around the background."""
    background, _, y = observed_window(name, STEPS, noise=0.05)
    scheme = scheme_of(name, 4, quasi_static=False, max_iter=1)
    _, analysis = scheme.analyse(begun(background, STEPS), y)
    information, pull = np.tile(np.linalg.inv(B), (60, 1, 1)), np.zeros((60, 3, 1))
    for i in range(4):
        state, M = propagator(background, sum(STEPS[:i]))
        H = ObservationOperator(name).jacobian(state) @ M
        weighted = np.swapaxes(H, 1, 2) @ np.linalg.inv(scheme.R)
        information += weighted @ H
        pull += weighted @ (y[:, i] - ObservationOperator(name)(state))[..., None]
    increment = np.linalg.solve(information, pull)[..., 0]
    wanted = forecast(background + increment, sum(STEPS))
    assert np.abs(increment).max() > 0.05
    np.testing.assert_allclose(analysis.state, wanted, atol=1e-9)
    assert (analysis.n_iter == 1).all()
    assert (analysis.status == Status.MAX_ITER).sum() > 50
    # The spread is that of the linearisation at the minimum.
    _, converged = scheme_of(name, 4).analyse(begun(background, STEPS), y)
    P = M @ np.linalg.inv(information) @ np.swapaxes(M, 1, 2)
    spread = np.sqrt(np.diagonal(P, axis1=1, axis2=2))
    np.testing.assert_allclose(converged.spread, spread, rtol=0.2)


def test_a_window_claims_the_errors_that_it_makes():
    """Twice the cost of a true model is chi-squared with one degree per observation."""
    background, truth, y = observed_window("xy", STEPS, n=2000, noise=1.0)
    _, analysis = scheme_of("xy", 4).analyse(begun(background, STEPS), y)
    assert 2.0 * analysis.cost.mean() == pytest.approx(8.0, abs=4 * (16 / 2000) ** 0.5)
    ratio = (analysis.state - truth[:, -1]) / analysis.spread
    np.testing.assert_allclose(np.mean(ratio**2, axis=0), 1.0, atol=0.2)


def test_observations_without_error_find_the_truth():
    background, truth, y = observed_window("x", (10,) * 5)
    y = ObservationOperator("x")(truth)
    scheme = replace(scheme_of("x", 6, tol=1e-10), R=1e-10 * np.eye(1))
    _, analysis = scheme.analyse(begun(background, (10,) * 5), y)
    assert (analysis.status == Status.CONVERGED).all()
    np.testing.assert_allclose(analysis.state, truth[:, -1], atol=1e-3)


@pytest.mark.parametrize("name", ["xy", "xyz", "x2"])
def test_mirrored_inputs_give_the_mirrored_analysis(name):
    operator = ObservationOperator(name)
    background, _, y = observed_window(name, STEPS)
    scheme = replace(scheme_of(name, 4), R=np.eye(operator.obs_dim))
    _, analysis = scheme.analyse(begun(background, STEPS), y)
    _, other = scheme.analyse(
        begun(background @ MIRROR, STEPS), y * operator.mirror_signs
    )
    np.testing.assert_allclose(other.state, analysis.state @ MIRROR, atol=1e-9)


def test_background_and_innovation_are_of_the_latest_observation():
    background, _, y = observed_window("xy", STEPS)
    scheme, state = scheme_of("xy", 4), begun(background, STEPS)
    _, analysis = scheme.analyse(state, y)
    np.testing.assert_array_equal(analysis.background, forecast(background, 22))
    innovation = y[:, -1] - analysis.background[:, :2]
    np.testing.assert_array_equal(analysis.innovation, innovation)
    np.testing.assert_array_equal(analysis.residual, y[:, -1] - analysis.state[:, :2])


def test_growing_windows_are_not_lost_in_local_minima():
    background, truth, y = observed_window("xyz", (25,) * 7)
    state = begun(background, (25,) * 7)
    _, grown = scheme_of("xyz", 8).analyse(state, y)
    _, plain = scheme_of("xyz", 8, quasi_static=False).analyse(state, y)
    assert (plain.cost > grown.cost + 1.0).sum() > 5
    assert (grown.cost > plain.cost + 1.0).sum() == 0
    assert 2.0 * grown.cost.mean() == pytest.approx(24.0, abs=4 * (48 / 60) ** 0.5)
    assert rmse(grown.state[:, None], truth[:, -1:]) < 1.0


def test_the_same_bits_from_every_backend_and_any_number_of_threads(backend):
    background, _, y = observed_window("x2z", STEPS)
    state = begun(background, STEPS)
    scheme = scheme_of("x2z", 4)
    _, wanted = replace(scheme, backend="cpp").analyse(state, y)
    _, same = replace(scheme, backend=backend, n_threads=2).analyse(state, y)
    np.testing.assert_array_equal(same.state, wanted.state)
    np.testing.assert_array_equal(same.cost, wanted.cost)


@pytest.mark.parametrize("name", ["x", "xyz", "x2z"])
def test_no_sample_depends_on_its_neighbours(name):
    background, _, y = observed_window(name, STEPS)
    scheme = scheme_of(name, 4)
    _, everyone = scheme.analyse(begun(background, STEPS), y)
    for some in (slice(0, 1), slice(8, 11), slice(0, 37)):
        _, alone = scheme.analyse(begun(background[some], STEPS), y[some])
        np.testing.assert_array_equal(alone.state, everyone.state[some])
        np.testing.assert_array_equal(alone.cost, everyone.cost[some])
        np.testing.assert_array_equal(alone.n_iter, everyone.n_iter[some])


def test_a_window_that_leaves_the_model_has_diverged_and_stops_nobody():
    background, _, y = observed_window("x", (10, 10))
    state = begun(background, (10, 10))
    _, healthy = scheme_of("x", 3).analyse(state, y)
    state.backgrounds[5, 0] = 1e150
    after, analysis = scheme_of("x", 3).analyse(state, y)
    others = np.arange(60) != 5
    assert analysis.status[5] == Status.DIVERGED
    assert analysis.cost[5] == np.inf
    assert np.isnan(after.estimate[5]).all()
    assert np.isnan(analysis.spread[5]).all()
    np.testing.assert_array_equal(analysis.state[others], healthy.state[others])
    np.testing.assert_array_equal(analysis.spread[others], healthy.spread[others])


def test_nobody_finite_is_no_error():
    _, _, y = observed_window("xyz", (10,))
    state = WindowState(np.full((60, 3), np.nan), np.full((60, 1, 3), np.nan), (10,))
    after, analysis = scheme_of("xyz", 2).analyse(state, y)
    assert (analysis.status == Status.NON_FINITE).all()
    assert np.isnan(after.estimate).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window: expected at least 1, got 0"),
        ({"max_iter": -1}, "max_iter: expected at least 0, got -1"),
        ({"tol": 0.0}, "tol: expected a number above 0"),
        ({"B": np.eye(2)}, r"B: expected \(3, 3\), got \(2, 2\)"),
        ({"R": np.eye(3)}, r"R: expected \(2, 2\), got \(3, 3\)"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ArgumentValueError, match=message):
        replace(scheme_of("xy", 2), **settings)


def test_what_is_no_setting_at_all_is_refused():
    with pytest.raises(ArgumentTypeError, match="quasi_static: expected"):
        scheme_of("xy", 2, quasi_static="yes")
    with pytest.raises(ArgumentTypeError, match="parameters: expected Lorenz63"):
        scheme_of("xy", 2, parameters=(10, 28, 8 / 3))


def test_a_window_with_too_few_observations_is_refused():
    background, _, y = observed_window("xy", STEPS)
    scheme, state = scheme_of("xy", 4), begun(background, STEPS)
    with pytest.raises(ArgumentValueError, match=r"obs_window: expected .*\(60, 4\)"):
        scheme.analyse(state, y[:, 1:])
    y[3, 1, 0] = np.inf
    with pytest.raises(ArgumentValueError, match=r"observations: .*\(3, 1, 0\)"):
        scheme.analyse(state, y)
