"""Laws of errors, model errors at each step, and parameters of each trajectory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l63fast.errors import ArgumentTypeError, ArgumentValueError, ConfigurationError
from l63fast.experiments.settings_file import build, to_table
from l63fast.learning.cycles import TruthChains
from l63fast.lorenz63 import Lorenz63, forecast, simulate
from l63fast.twin import ErrorLaw, TwinExperiment, TwinSettings

FEW: dict[str, Any] = {"n_train": 40, "n_val": 3, "n_test": 3, "n_steps": 200}
PLAIN = TwinSettings(**FEW)
T3 = ErrorLaw(student_t=3.0)
OUTLIERS = ErrorLaw(outliers=0.1, outlier_factor=20.0)


def changed(**settings: Any) -> TwinSettings:
    return dataclasses.replace(PLAIN, **settings)


def errors(settings: TwinSettings) -> np.ndarray:
    split = TwinExperiment.generate(settings).train
    return split.observations - split.truth_at_observations[..., :2]


def test_defaults_are_in_no_file_and_no_hash() -> None:
    for name in ("noise", "Q_per_step", "parameters_spread"):
        assert name not in PLAIN.to_dict()
        assert name not in to_table(PLAIN)
    assert TwinSettings.from_dict(PLAIN.to_dict()) == PLAIN


@pytest.mark.parametrize(
    "other",
    [
        {"noise": T3},
        {"noise": OUTLIERS},
        {"noise": ErrorLaw(bias=0.5)},
        {"Q": 0.1, "Q_per_step": True},
        {"parameters_spread": 0.1},
    ],
    ids=lambda other: [*other][-1],
)
def test_settings_survive_files(other: dict[str, Any], tmp_path: Path) -> None:
    settings = changed(**other)
    assert TwinSettings.from_dict(settings.to_dict()) == settings
    table = to_table(settings)
    assert build(TwinSettings, table, source="it", key="data") == settings
    twin = TwinExperiment.generate(settings)
    assert twin.hashes["test"] != TwinExperiment.generate(PLAIN).hashes["test"]
    twin.save(tmp_path / "twin")
    loaded = TwinExperiment.load(tmp_path / "twin")
    assert loaded.test.hash == twin.test.hash
    np.testing.assert_array_equal(loaded.test.parameters, twin.test.parameters)


def test_laws_keep_the_truth_and_have_their_moments() -> None:
    draws = np.random.default_rng(0).standard_normal(400_000)
    normal, t = draws, T3.standardised(draws)
    assert t.std() == pytest.approx(1.0, abs=0.03)
    # P(|t| > 5) of a t with 3 degrees of freedom and the variance 1 is 0.0032.
    assert (np.abs(t) > 5.0).mean() == pytest.approx(0.0032, rel=0.2)
    assert ((t > 0) == (normal > 0)).all()
    many = OUTLIERS.standardised(draws)
    assert many.std() == pytest.approx(np.sqrt(0.9 + 0.1 * 400.0), rel=0.02)
    assert (np.abs(many) > 6.0).mean() == pytest.approx(0.1 * 0.764, rel=0.05)
    assert np.isfinite(OUTLIERS.standardised(np.array([-40.0, -1.2, 40.0]))).all()
    truth = TwinExperiment.generate(PLAIN).test.truth
    for law in (T3, OUTLIERS):
        other = TwinExperiment.generate(changed(noise=law)).test.truth
        np.testing.assert_array_equal(other, truth)
    biased = errors(changed(noise=ErrorLaw(bias=0.5)))
    np.testing.assert_allclose(biased, errors(PLAIN) + 0.5, atol=1e-12)


def test_impossible_laws_are_refused() -> None:
    for law in ({"student_t": 2.0}, {"outliers": 1.0}, {"outlier_factor": 0.0}):
        with pytest.raises(ArgumentValueError):
            ErrorLaw(**law)
    with pytest.raises(ArgumentTypeError, match="noise"):
        changed(noise="heavy")
    with pytest.raises(ArgumentValueError, match="parameters_spread"):
        changed(parameters_spread=1.0)
    with pytest.raises(ConfigurationError, match=r"data\.noise\.student: unknown key"):
        build(TwinSettings, {"noise": {"student": 3}}, source="it", key="data")


@pytest.mark.parametrize("save_every", [1, 5])
def test_model_errors_at_each_step(save_every: int) -> None:
    settings = changed(Q=0.04, Q_per_step=True, save_every=save_every)
    twin = TwinExperiment.generate(settings)
    np.testing.assert_array_equal(twin.Q, 10 * 0.04 * np.eye(3))
    if save_every == 5:
        every = TwinExperiment.generate(changed(Q=0.04, Q_per_step=True)).test.truth
        np.testing.assert_array_equal(twin.test.truth, every[:, ::5])
        return
    truth = twin.train.truth
    steps = truth[:, 1:] - forecast(truth[:, :-1], 1)
    covariance = np.cov(steps.reshape(-1, 3).T)
    np.testing.assert_allclose(covariance, 0.04 * np.eye(3), atol=0.004)
    # A training simulates the same law.
    chains = TruthChains(settings, 200, seed=0, n_threads=1)
    start = chains.truth
    spread = chains.advance(1, 0).truth[0] - forecast(start, 10)
    assert 0.2 < spread.var() < 4.0


def test_each_trajectory_has_its_parameters() -> None:
    settings = changed(parameters_spread=0.1)
    twin = TwinExperiment.generate(settings)
    nominal = np.array(settings.parameters.as_tuple())
    ratios = twin.train.parameters / nominal
    assert np.abs(ratios - 1.0).max() <= 0.1
    assert ratios.std(axis=0) == pytest.approx(0.1 / np.sqrt(3), rel=0.25)
    for i, own in enumerate(twin.test.parameters):
        alone = simulate(twin.test.truth[i, 0], 200, parameters=Lorenz63(*own))
        np.testing.assert_array_equal(twin.test.truth[i], alone)
    # The size of a split changes neither its parameters nor its truth.
    fewer = TwinExperiment.generate(dataclasses.replace(settings, n_train=5)).train
    np.testing.assert_array_equal(fewer.parameters, twin.train.parameters[:5])
    np.testing.assert_array_equal(fewer.truth, twin.train.truth[:5])
    np.testing.assert_array_equal(
        TwinExperiment.generate(PLAIN).test.parameters, np.tile(nominal, (3, 1))
    )


def test_trainings_draw_parameters_and_draw_them_again() -> None:
    chains = TruthChains(changed(parameters_spread=0.1), 50, seed=3, n_threads=1)
    before = chains.parameters
    assert before is not None
    chosen = np.arange(50) < 10
    chains.redraw_parameters(chosen, 7)
    after = chains.parameters
    assert after is not None
    assert (after[chosen] != before[chosen]).all()
    np.testing.assert_array_equal(after[~chosen], before[~chosen])
    start = chains.truth
    truth = chains.advance(1, 0).truth[0]
    np.testing.assert_array_equal(truth, forecast(start, 10, parameters=after))
    assert TruthChains(PLAIN, 5, seed=3, n_threads=1).parameters is None
