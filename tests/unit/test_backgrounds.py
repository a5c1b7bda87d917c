"""Backgrounds: valid in time, with the B they claim, drawn by trajectory, mirrored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from l63fast.assimilation.backgrounds import (
    KINDS,
    Backgrounds,
    error_covariance,
    estimate_cycled_errors,
    perturbed,
)
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentValueError
from l63fast.lorenz63 import mirror
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import rmse
from twin_help import WithoutTest

SETTINGS = TwinSettings(operator="xy", n_train=150, n_val=60, n_test=20, n_steps=300)


@pytest.fixture(scope="module")
def twin():
    return TwinExperiment.generate(SETTINGS)


@pytest.fixture(scope="module")
def fitted(twin):
    """Return all kinds, fitted to the twin without its test split."""
    return {kind: Backgrounds.fit(WithoutTest(twin), kind) for kind in KINDS}


def test_the_kinds_are_those_of_the_design(fitted):
    assert list(KINDS) == [
        "mean", "independent", "gauss", "forecast", "cycled", "none",
    ]  # fmt: skip
    for kind, backgrounds in fitted.items():
        assert backgrounds.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_b_is_the_error_covariance_on_data_not_fitted_to(twin, fitted, kind):
    backgrounds = fitted[kind]
    truth = twin.split("val").truth_at_observations
    drawn = backgrounds.draw(twin, "val")
    assert drawn.shape == truth.shape
    found = error_covariance(drawn, truth)
    size = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    assert (np.abs(found - backgrounds.B) < 0.25 * size).all()
    assert (backgrounds.B[[0, 1, 2, 2], [2, 2, 0, 1]] == 0.0).all()
    np.testing.assert_array_equal(backgrounds.B, backgrounds.B.T)
    for other in set(KINDS) - {kind, "cycled", "forecast"}:
        ratio = np.trace(fitted[other].B) / np.trace(backgrounds.B)
        assert not 0.9 < ratio < 1.1


def test_a_draw_is_the_same_again_and_the_first_of_many_are_those_of_few(twin, fitted):
    few = TwinExperiment.generate(replace(SETTINGS, n_test=7))
    for kind, backgrounds in fitted.items():
        many = backgrounds.draw(twin, "test")
        backgrounds.draw(twin, "train")
        np.testing.assert_array_equal(backgrounds.draw(twin, "test"), many, kind)
        np.testing.assert_array_equal(backgrounds.draw(few, "test"), many[:7], kind)


def test_a_draw_depends_on_the_seed_and_the_split(twin, fitted):
    other = TwinExperiment.generate(replace(SETTINGS, seed=1))
    for kind in ("independent", "gauss", "forecast", "cycled"):
        drawn = fitted[kind].draw(twin, "test")
        assert np.abs(drawn - fitted[kind].draw(other, "test")).min() > 0.0
        n = len(drawn)
        assert np.abs(drawn - fitted[kind].draw(twin, "val")[:n]).min() > 0.0


@pytest.mark.parametrize("save_every", [1, 5])
def test_a_perturbation_of_nothing_gives_the_truth_at_the_observations(
    fitted, save_every
):
    twin = TwinExperiment.generate(replace(SETTINGS, save_every=save_every))
    truth = twin.split("test").truth_at_observations
    nothing = 1e-24 * np.eye(3)
    forecast = fitted["forecast"]
    silent = replace(forecast, errors=replace(forecast.errors, analysis=nothing))
    np.testing.assert_allclose(silent.draw(twin, "test"), truth, atol=1e-9)
    silent = replace(fitted["gauss"], B=nothing)
    np.testing.assert_allclose(silent.draw(twin, "test"), truth, atol=1e-9)


def test_cycled_backgrounds_are_the_forecasts_of_the_running_scheme(twin, fitted):
    backgrounds = fitted["cycled"]
    drawn = backgrounds.draw(twin, "test")
    scheme = backgrounds.errors.scheme
    for k in (0, 10):
        state, _ = scheme.analyse(
            drawn[:, k], twin.split("test").observations[:, k : k + 1]
        )
        np.testing.assert_array_equal(scheme.forecast(state, 10), drawn[:, k + 1])
    start = rmse(drawn[:, :1], twin.split("test").truth_at_observations[:, :1])
    end = rmse(drawn[:, 20:], twin.split("test").truth_at_observations[:, 20:])
    assert 0.5 < start / end < 2.0


def test_the_iterated_b_reproduces_itself_and_is_tuned(twin):
    errors = estimate_cycled_errors(twin)
    assert 2 <= errors.n_iterations < 30
    assert errors.tuning.is_bracketed
    # Before its scale was tuned, B was a fixed point: the forecasts err as it says.
    shape = errors.scheme.B / errors.tuning.scale
    train = twin.split("train")
    start = perturbed(train.initial_state, errors.analysis, seed=5, split_name="train")
    scheme = ThreeDVar("xy", shape, twin.R)
    result = run_cycles(scheme, twin, "train", burn_in=6, initial=start)
    truth = train.truth_at_observations[:, result.scored]
    found = error_covariance(result.background, truth)
    assert np.trace(found) == pytest.approx(np.trace(shape), rel=0.1)
    assert np.trace(errors.analysis) < np.trace(errors.background)


def test_backgrounds_know_the_sign_that_the_observations_do_not():
    twin = TwinExperiment.generate(replace(SETTINGS, operator="x2"))
    backgrounds = Backgrounds.fit(WithoutTest(twin))
    assert np.trace(backgrounds.errors.analysis) < 1.0
    drawn = backgrounds.draw(twin, "test")
    assert rmse(drawn, twin.split("test").truth_at_observations) < 0.6


def test_errors_are_measured_to_the_nearer_mirror_image_if_asked():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 3)) + np.array([8.0, 8.0, 25.0])
    estimate = truth + 0.1 * rng.normal(size=(50, 3))
    estimate[::2] = mirror(estimate[::2])
    assert np.trace(error_covariance(estimate, truth)) > 100.0
    assert np.trace(error_covariance(estimate, truth, mirror_aware=True)) < 0.1


def test_gauss_takes_a_covariance_and_no_other_kind_does(twin):
    B = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.0], [0.5, 0.0, 1.0]])
    backgrounds = Backgrounds.fit(twin, "gauss", covariance=B)
    np.testing.assert_array_equal(backgrounds.B, B)
    error = backgrounds.draw(twin, "train") - twin.split("train").truth_at_observations
    np.testing.assert_allclose(np.cov(error.reshape(-1, 3).T), B, atol=0.15)
    with pytest.raises(ArgumentValueError, match="covariance: expected None"):
        Backgrounds.fit(twin, "forecast", covariance=B)
    with pytest.raises(ArgumentValueError, match="covariance: expected a positive"):
        Backgrounds.fit(twin, "gauss", covariance=-B)


def test_what_cannot_be_fitted_is_refused():
    tiny = TwinExperiment.generate(
        TwinSettings(operator="x", n_train=2, n_val=1, n_test=1, n_steps=20)
    )
    with pytest.raises(ArgumentValueError, match="kind: expected one of mean"):
        Backgrounds.fit(tiny, "climatology")
    with pytest.raises(ArgumentValueError, match="twin: expected at least 20 training"):
        Backgrounds.fit(tiny)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        pytest.param("xyz", 0.48, 0.53, marks=pytest.mark.slow),
        pytest.param("xy", 0.54, 0.59, marks=pytest.mark.slow),
        ("x", 1.05, 1.15),
        ("x2", 0.17, 0.27),
    ],
)
def test_tuned_3d_var_scores_what_was_found_before(name, low, high):
    # 0.51, 0.57 and 1.11 with a tuned multiple of C; 0.27 for x2, where a search that
    # stops at the first minimum does worse than one that finds the lower.
    settings = TwinSettings(
        operator=name, n_train=100, n_val=100, n_test=200, n_steps=4000, save_every=10
    )
    twin = TwinExperiment.generate(settings)
    scheme = estimate_cycled_errors(twin).scheme
    result = run_cycles(scheme, twin, "test", burn_in=160)
    truth = twin.split("test").truth_at_observations[:, result.scored]
    assert low < rmse(result.analysis, truth, mirror_aware=name == "x2") < high
