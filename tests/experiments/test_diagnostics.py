"""What cells keep of where, how and for how long analyses are wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.experiments.diagnostics import diagnose
from l63fast.experiments.protocols import Estimates
from l63fast.lorenz63 import mirror
from l63fast.observation import ObservationOperator, observe
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import Failure, classify_failures

SIZES: dict[str, Any] = {"n_train": 4, "n_val": 4, "n_test": 6, "n_steps": 300}
N_TIMES = 30
TIMES = 0.1 * np.arange(1, N_TIMES + 1)
UP = np.array([0.0, 0.0, 20.0])


def twin_of(operator: str) -> TwinExperiment:
    return TwinExperiment.generate(TwinSettings(operator=operator, **SIZES))


def diagnosed(
    twin: TwinExperiment, analysis: np.ndarray, background: np.ndarray
) -> Any:
    split = twin.split("test")
    truth = split.truth_at_observations
    found = diagnose(
        estimates(truth, background, analysis, split.observations, TIMES),
        twin.settings,
    )
    assert found.attrs["n_trajectories"] == 6
    return found


def estimates(
    truth: np.ndarray,
    background: np.ndarray,
    analysis: np.ndarray,
    observations: np.ndarray,
    times: np.ndarray,
) -> Estimates:
    status = np.zeros(truth.shape[:2], dtype=np.int8)
    return Estimates(truth, observations, times, background, analysis, status)


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    return twin_of("xy")


@pytest.fixture(scope="module")
def truth(twin: TwinExperiment) -> np.ndarray:
    return np.asarray(twin.split("test").truth_at_observations)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda x: x + 1.0, Failure.NONE),
        (mirror, Failure.SIGN_FLIP),
        (lambda x: x * [-1.0, 1.0, 1.0] + UP, Failure.WRONG_LOBE),
        (lambda x: x + UP, Failure.SAME_LOBE),
        (lambda x: x * [1.0, np.nan, 1.0], Failure.NOT_FINITE),
        (lambda x: x * np.inf, Failure.NOT_FINITE),
    ],
)
def test_what_went_wrong_has_a_name(change: Any, kind: Failure) -> None:
    states = np.array([[[6.0, 7.0, 25.0], [-8.0, -9.0, 28.0]]])
    with np.errstate(invalid="ignore"):
        assert (classify_failures(change(states), states) == kind).all()
    assert kind.words


def test_failures_begin_where_they_are_said_to() -> None:
    states = np.array([[[6.0, 7.0, 25.0]]])
    off = states + 2.0
    assert classify_failures(off, states, far_off=2.1).item() == Failure.NONE
    assert classify_failures(off, states, far_off=1.9).item() == Failure.SAME_LOBE


def test_the_gain_of_a_linear_scheme_is_its_own(twin: TwinExperiment) -> None:
    B = np.diag([2.0, 3.0, 1.0]) + 0.5
    scheme = ThreeDVar(twin.operator, B=B, R=twin.R)
    run = run_cycles(scheme, twin)
    found = diagnosed(twin, run.analysis, run.background)
    H = np.eye(3)[:2]
    gain = B @ H.T @ np.linalg.inv(H @ B @ H.T + twin.R)
    np.testing.assert_allclose(found["gain"], gain, atol=1e-10)
    np.testing.assert_allclose(found["gain_explained"], 1.0, atol=1e-10)
    assert not np.allclose(found["gain_needed"], gain, atol=0.01)


def test_the_maps_and_shares_are_those_of_all_analyses(
    twin: TwinExperiment, truth: np.ndarray
) -> None:
    rng = np.random.default_rng(1)
    analysis = truth + rng.normal(size=truth.shape)
    background = truth + 2.0 * rng.normal(size=truth.shape)
    found = diagnosed(twin, analysis, background)
    counts = found["map_count"].to_numpy()
    assert counts.sum() == 6 * N_TIMES
    pool = np.nansum(found["map_square"] * counts) / counts.sum()
    assert pool == pytest.approx(((analysis - truth) ** 2).mean(), rel=1e-5)
    assert found["failure_share"].sum() == pytest.approx(1.0)
    needed = np.sqrt(((truth - background) ** 2).mean(axis=(0, 1)))
    np.testing.assert_allclose(found["increment_needed_rms"], needed)
    inside = found["increment_needed"].sum(axis=1)
    assert ((inside > 0.97) & (inside < 0.99)).all()


def test_the_worst_trajectory_comes_first_around_its_largest_error(
    twin: TwinExperiment, truth: np.ndarray
) -> None:
    analysis = truth + 0.1
    analysis[4, 20] = mirror(truth[4, 20])
    found = diagnosed(twin, analysis, truth + 0.2)
    assert found["excerpt_trajectory"][0] == 4
    kinds = found["excerpt_failure"].to_numpy()
    assert kinds.tolist() == [Failure.SIGN_FLIP, 0, 0, 0]
    np.testing.assert_array_equal(found["excerpt_truth"][0], truth[4])
    assert found["excerpt_rms"][1] == pytest.approx(0.1)


def test_errors_of_forecasts_grow_as_fast_as_the_attractor_lets_them(
    twin: TwinExperiment, truth: np.ndarray
) -> None:
    found = diagnosed(twin, truth + 1e-6, truth + 1e-3)
    error = found["forecast_error"].to_numpy()
    assert error[0] == pytest.approx(1e-6, rel=1e-6)
    assert found["lead"][-1] == pytest.approx(5.0)
    rate = np.log(found["forecast_error_median"][-1] / 1e-6) / 5.0
    assert 0.3 < rate < 1.6  # the leading exponent, 0.906, and a transient
    perfect = diagnosed(twin, truth, truth + 1e-3)
    assert (perfect["forecast_error"] == 0.0).all()


def test_signs_that_cannot_be_known_are_no_failures() -> None:
    twin = twin_of("x2")
    truth = np.asarray(twin.split("test").truth_at_observations)
    found = diagnosed(twin, mirror(truth), mirror(truth + 0.5))
    assert found["failure_share"][0] == 1.0
    assert np.nanmax(found["map_square"]) == pytest.approx(0.0, abs=1e-12)
    assert (found["forecast_error"] < 1e-9).all()
    np.testing.assert_allclose(found["increment_rms"], found["increment_needed_rms"])
    assert "gain" not in found


def test_what_diverged_is_counted_and_comes_first(
    twin: TwinExperiment, truth: np.ndarray
) -> None:
    analysis = truth + 0.1
    analysis[2, 10:] = np.nan
    found = diagnosed(twin, analysis, truth + 0.2)
    assert found["failure_share"][-1] == pytest.approx(20 / (6 * N_TIMES))
    assert found["excerpt_trajectory"][0] == 2
    assert found["excerpt_failure"][0] == Failure.NOT_FINITE
    assert np.isnan(found["forecast_error"]).all()
    assert np.isfinite(found["forecast_error_median"]).all()
    everything = diagnosed(twin, np.full_like(truth, np.nan), truth + 0.2)
    assert everything["failure_share"][-1] == 1.0


def test_a_single_time_is_enough() -> None:
    data = TwinSettings(operator="x", **{**SIZES, "n_steps": 10})
    truth = np.ones((2, 1, 3))
    observations = observe(truth, ObservationOperator("x"), sigma=1.0, rng=1)
    settings = dataclasses.replace(data, n_test=2)
    once = estimates(truth, truth + 1, truth, observations, np.array([0.1]))
    found = diagnose(once, settings)
    assert found.sizes["excerpt"] == 3  # two there are, and the median one


def test_errors_go_by_the_time_since_something_was_observed() -> None:
    settings = dataclasses.replace(twin_of("xy").settings, missing=0.5, n_test=100)
    twin = TwinExperiment.generate(settings)
    truth, seen = twin.test.truth_at_observations, twin.test.observations
    # Errors that are the time since an observed value, plus 1, of the same component.
    present = ~np.isnan(seen).all(axis=-1)
    last = np.maximum.accumulate(np.where(present, TIMES, -np.inf), axis=1)
    before = np.full_like(last, -np.inf)
    before[:, 1:] = last[:, :-1]
    age = np.where(np.isfinite(before), TIMES - before, 0.0)
    step = np.sqrt(3.0) * np.array([1.0, 0.0, 0.0])
    of = estimates(
        truth, truth + (1.0 + age)[..., None] * step, truth + step, seen, TIMES
    )
    found = diagnose(of, settings)
    assert found["age"].values[:3] == pytest.approx([0.0, 0.1, 0.2])
    assert found["age_error"].values == pytest.approx(1.0 + found["age"].values)
    since = np.where(np.isfinite(last), TIMES - last, 0.0)
    spread = np.broadcast_to((2.0 + since)[..., None], truth.shape)
    claimed = diagnose(dataclasses.replace(of, spread=spread), settings)
    expected = 2.0 + claimed["gap"].values
    assert claimed["gap_spread"].values == pytest.approx(expected)
    assert claimed["gap"].values[:2] == pytest.approx([0.0, 0.1])
    assert "gap" not in found
    assert "age" not in diagnose(of, settings, cycled=False)
    assert "age" not in diagnose(of, dataclasses.replace(settings, missing=0.0))
