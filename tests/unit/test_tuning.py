"""Tuning: the minimum is found, bracketed, and looked for on the validation split."""

from __future__ import annotations

import numpy as np
import pytest

from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Analysis
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import (
    tune,
    tune_b_scale,
    tune_cycled,
    tune_cycled_b_scale,
    tune_inflation,
    tune_regularisation,
)
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import spin_up
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment, TwinSettings
from twin_help import WithoutTest

GRID = np.geomspace(0.1, 10.0, 13)


@pytest.mark.parametrize("best", [1e-4, 0.03, 0.1, 1.0, 10.0, 700.0])
def test_the_minimum_is_found_inside_or_outside_the_grid(best):
    tuning = tune(lambda scale: abs(np.log(scale / best)), GRID)
    assert abs(np.log(tuning.scale / best)) <= 0.5 * np.log(GRID[1] / GRID[0])
    assert tuning.is_bracketed
    assert (np.diff(tuning.scales) > 0).all()
    np.testing.assert_allclose(
        tuning.scores, np.abs(np.log(tuning.scales / best)), atol=1e-12
    )
    assert tuning.score == tuning.scores.min()


def test_a_minimum_that_never_comes_ends_at_a_limit_and_says_so():
    tuning = tune(lambda scale: -scale, GRID)
    assert 1e5 < tuning.scale <= 1e6
    assert not tuning.is_bracketed


def test_nan_never_wins():
    tuning = tune(lambda s: np.nan if s < 1.0 else s, np.geomspace(0.01, 100.0, 9))
    assert tuning.scale == pytest.approx(1.0)
    with pytest.raises(ArgumentValueError, match="score: expected"):
        tune(lambda scale: np.nan, GRID)


@pytest.mark.parametrize(
    "scales", [[1.0, 2.0], [1.0, 2.0, 3.0], [4.0, 2.0, 1.0], [0.0, 1.0, 2.0]]
)
def test_only_a_log_grid_is_taken(scales):
    with pytest.raises(ArgumentValueError, match="scales: expected"):
        tune(lambda scale: scale, scales)


@pytest.mark.parametrize("measure", ["rmse_a", "rmse_pooled_a"])
@pytest.mark.parametrize("name", ["x", "xy", "xyz"])
def test_scale_of_a_wrong_b_is_recovered(name, measure):
    operator, rng = ObservationOperator(name), np.random.default_rng(0)
    B = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    truth = spin_up(6000, seed=3).reshape(60, 100, 3)
    background = truth + rng.normal(size=truth.shape) @ np.linalg.cholesky(B).T
    observation = operator(truth) + rng.normal(size=(60, 100, operator.obs_dim))
    tuning = tune_b_scale(
        background,
        observation,
        truth,
        operator,
        B=B / 30.0,
        R=np.eye(operator.obs_dim),
        measure=measure,
    )
    assert 15.0 < tuning.scale < 60.0
    assert tuning.is_bracketed


def test_mirror_aware_tuning_forgives_the_sign():
    truth = spin_up(400, seed=3).reshape(4, 100, 3)
    wrong_sign = truth * np.array([-1.0, -1.0, 1.0])
    arguments = (wrong_sign, truth[..., :1] ** 2, truth, "x2")
    plain = tune_b_scale(*arguments, B=np.eye(3), R=np.eye(1))
    aware = tune_b_scale(*arguments, B=np.eye(3), R=np.eye(1), mirror_aware=True)
    assert aware.score < 1e-6 < 1.0 < plain.score


def test_measure_has_to_be_known():
    with pytest.raises(ArgumentValueError, match="measure: expected one of rmse_a, "):
        tune_b_scale(*3 * [np.zeros((1, 1, 3))], "xyz", B=0, R=0, measure="mse")


def test_cycled_tuning_is_best_on_the_validation_split_and_reads_no_test_data():
    settings = TwinSettings(operator="xy", n_train=10, n_val=40, n_test=4, n_steps=400)
    twin = TwinExperiment.generate(settings)
    scheme = ThreeDVar("xy", 1e-3 * twin.climatology.covariance, twin.R)
    tuning = tune_cycled_b_scale(scheme, WithoutTest(twin), burn_in=10)
    # Tuned multiples of C for xy every 0.1 at sigma 1 are near 0.01 C.
    assert 4.0 < tuning.scale < 30.0
    assert tuning.is_bracketed
    assert tuning.score == pytest.approx(0.57, abs=0.07)


class OnlyAsTuned:
    """A scheme whose analysis is the truth plus a bias that vanishes at `best`."""

    window = 1

    def __init__(self, truth, value, best):
        self.truth, self.bias = truth, np.log(value / best)

    def initial(self, background, rng):
        return 0

    def forecast(self, state, n_steps):
        return state

    def analyse(self, state, obs_window):
        analysis = self.truth[:, state] + self.bias
        n = len(analysis)
        return state + 1, Analysis(
            analysis, np.zeros(n, np.int8), np.zeros(n, np.int32), np.zeros(n),
            obs_window[:, -1], background=analysis,
        )  # fmt: skip


@pytest.mark.parametrize(("best", "found"), [(3.0, 3.0), (40.0, 40.0), (0.2, 1.0)])
def test_any_number_of_any_scheme_is_tuned_within_its_limits(best, found):
    twin = WithoutTest(
        TwinExperiment.generate(
            TwinSettings(operator="xy", n_train=4, n_val=3, n_test=1, n_steps=50)
        )
    )
    truth = twin.split("val").truth_at_observations
    tuning = tune_cycled(
        lambda value: OnlyAsTuned(truth, value, best),
        twin,
        np.geomspace(1.0, 10.0, 7),
        limits=(1.0, 100.0),
    )
    assert tuning.scale == pytest.approx(found, rel=0.25)
    assert tuning.is_bracketed == (best > 1.0)
    assert tuning.score == pytest.approx(abs(np.log(tuning.scale / best)), abs=1e-12)


def test_the_inflation_of_both_kalman_filters_is_found_without_test_data():
    twin = TwinExperiment.generate(
        TwinSettings(operator="xyz", n_train=10, n_val=20, n_test=1, sigma=2**0.5,
                     n_steps=25 * 120, steps_per_cycle=25, save_every=25)
    )  # fmt: skip
    C = twin.climatology.covariance
    guarded = WithoutTest(twin)
    how = {"burn_in": 40, "measure": "rmse_pooled_a"}
    small = EnKF("xyz", C, twin.R, n_members=6)
    ensemble = tune_inflation(small, guarded, **how)
    assert 1.0 < ensemble.scale < 1.3
    extended = tune_inflation(ExtendedKalman("xyz", C, twin.R), guarded, **how)
    assert 1.7 < extended.scale < 4.1
    with pytest.raises(ArgumentTypeError, match="scheme: expected one with an infl"):
        tune_inflation(ThreeDVar("xyz", C, twin.R), guarded)


def test_few_particles_ask_for_more_regularisation_than_many():
    twin = TwinExperiment.generate(
        TwinSettings(operator="xyz", n_train=10, n_val=30, n_test=1, sigma=2**0.5,
                     n_steps=25 * 120, steps_per_cycle=25, save_every=25)
    )  # fmt: skip
    guarded = WithoutTest(twin)
    best = {
        n_particles: tune_regularisation(
            ParticleFilter("xyz", 2 * np.eye(3), twin.R, n_particles=n_particles),
            guarded,
            burn_in=20,
        )
        for n_particles in (50, 1000)
    }
    assert 0.25 < best[1000].scale < best[50].scale < 4.1
    assert best[1000].score < best[50].score
    with pytest.raises(ArgumentTypeError, match="scheme: expected ParticleFilter"):
        tune_regularisation(EnKF("xyz", np.eye(3), twin.R), guarded)
