"""4D-Var in its cycle: what a window begins with, and its scores beside 3D-Var's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.scheme import Status
from l63fast.assimilation.tuning import tune_cycled_b_scale
from l63fast.lorenz63 import Lorenz63, forecast, spin_up
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import rmse
from window_help import begun, observed_window, scheme_of


def cycled(scheme: FourDVar, background, y, n_steps: int):
    """Return what each cycle's window began with, and each analysis."""
    state = scheme.initial(background, np.random.default_rng(0))
    starts, analyses = [], []
    for latest in range(y.shape[1]):
        state = scheme.forecast(state, n_steps)
        held = [*np.moveaxis(state.backgrounds, 1, 0), state.estimate]
        starts.append(held[0])
        observed = y[:, max(0, latest + 1 - scheme.window) : latest + 1]
        state, analysis = scheme.analyse(state, observed)
        analyses.append(analysis.state)
    return starts, analyses


def test_a_window_begins_with_a_forecast_that_has_seen_none_of_it():
    background, _, y = observed_window("xyz", (10,) * 8)
    scheme = scheme_of("xyz", 3)
    starts, analyses = cycled(scheme, background, y, 10)
    first = forecast(background, 10)
    for latest in range(9):
        begins = max(latest - 2, 0)
        before = forecast(analyses[begins - 1], 10) if begins else first
        np.testing.assert_array_equal(starts[latest], before)
        _, alone = scheme.analyse(
            begun(before, (10,) * (latest - begins)), y[:, begins : latest + 1]
        )
        np.testing.assert_array_equal(analyses[latest], alone.state)
    y[:, 4] += 1.0
    others, changed = cycled(scheme, background, y, 10)
    for latest in range(9):
        same = np.array_equal(others[latest], starts[latest])
        assert same == (latest < 7), "the windows with observation 4 are 4, 5 and 6"
        assert np.array_equal(changed[latest], analyses[latest]) == (latest < 4)


def test_the_model_of_the_window_is_that_of_the_forecast():
    """Observations without error of another Lorenz-63 are fitted by that one alone."""
    model = {"dt": 0.004, "parameters": Lorenz63(rho=35.0)}
    start = spin_up(20, seed=0, parameters=model["parameters"])
    truth = np.stack([forecast(start, 10 * i, **model) for i in range(4)], axis=1)
    scheme = replace(scheme_of("xyz", 4), R=1e-8 * np.eye(3), **model)
    state = scheme.initial(start + 0.1, np.random.default_rng(0))
    for i in range(3):
        state, _ = scheme.analyse(state, truth[:, : i + 1])
        state = scheme.forecast(state, 10)
    _, analysis = scheme.analyse(state, truth)
    np.testing.assert_allclose(analysis.state, truth[:, -1], atol=1e-4)
    assert analysis.cost.max() < 1.0


def test_a_forecast_in_two_parts_is_a_forecast():
    background, _, y = observed_window("xy", (10, 10))
    scheme = scheme_of("xy", 3)
    whole, _ = scheme.analyse(begun(background, (10,)), y[:, :2])
    parted = scheme.forecast(scheme.forecast(whole, 4), 6)
    whole = scheme.forecast(whole, 10)
    assert parted.steps == whole.steps == (10, 10)
    np.testing.assert_array_equal(
        scheme.analyse(parted, y)[1].state, scheme.analyse(whole, y)[1].state
    )


@pytest.fixture(scope="module")
def twin():
    return TwinExperiment.generate(
        TwinSettings(operator="xyz", n_train=20, n_val=10, n_test=40, sigma=2**0.5,
                     n_steps=25 * 100, steps_per_cycle=25, save_every=25)
    )  # fmt: skip


def cycled_scheme(twin, window: int, scale: float) -> FourDVar:
    B = scale * twin.climatology.covariance
    return FourDVar("xyz", B, twin.R, window=window, n_threads=1)


def test_its_cycle_begins_with_the_first_observation_and_no_other_scheme(twin):
    scheme, initial = cycled_scheme(twin, 3, 0.1), twin.test.initial_state
    result = run_cycles(scheme, twin, n_cycles=6, initial=initial)
    assert result.first_cycle == 0
    _, analyses = cycled(scheme, initial, twin.test.observations[:, :6], 25)
    np.testing.assert_array_equal(result.analysis, np.stack(analyses, axis=1))


def test_two_and_four_observations_beat_3d_var_in_the_cycle(twin):
    def score(window: int, scale: float) -> float:
        result = run_cycles(cycled_scheme(twin, window, scale), twin, burn_in=30)
        return rmse(result.analysis, twin.test.truth_at_observations[:, result.scored])

    three, two, four = score(1, 0.1), score(2, 0.1), score(4, 0.05)
    assert 0.95 < three < 1.1
    assert two < 0.8 * three
    assert four < 0.6 * three


def test_a_trajectory_that_diverges_is_kept_and_marked(twin):
    scheme, initial = cycled_scheme(twin, 3, 0.1), twin.test.initial_state.copy()
    healthy = run_cycles(scheme, twin, n_cycles=5, initial=initial)
    initial[3] = 1e200
    result = run_cycles(scheme, twin, n_cycles=5, initial=initial)
    assert (result.status[3] == Status.NON_FINITE).all()
    assert np.isnan(result.analysis[3]).all()
    others = np.arange(40) != 3
    np.testing.assert_array_equal(result.analysis[others], healthy.analysis[others])
    assert (result.status[others] == Status.CONVERGED).all()


def test_its_scale_of_b_is_tuned_on_the_validation_split(twin):
    scheme = cycled_scheme(twin, 2, 1.0)
    tuning = tune_cycled_b_scale(
        scheme, twin, scales=[0.01, 0.1, 1.0], burn_in=10, n_cycles=40
    )
    assert tuning.scale == pytest.approx(0.1)
    assert tuning.is_bracketed
