"""Experiments whose methods forecast with another model than that of the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l63fast as l63
from cli_runs import Command
from experiment_samples import TINY_GRU, tiny_cycled, tiny_windows
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.protocols import Cycles, Problem, Windows
from l63fast.experiments.published import published_for
from l63fast.experiments.results import Result
from l63fast.experiments.settings_file import parse_tables
from l63fast.twin import TwinExperiment, TwinSettings

WRONG = l63.ForecastModel(l63.Lorenz63(11.0), dt=0.005, Q=0.1)
TABLE = {"parameters": {"sigma": 11.0}, "dt": 0.005, "Q": 0.1}


@pytest.fixture(scope="module")
def twin() -> TwinExperiment:
    sizes: dict[str, Any] = {"n_train": 30, "n_val": 4, "n_test": 4}
    return TwinExperiment.generate(TwinSettings(**sizes, n_steps=400))


# Schemes and twins


def test_schemes_of_a_twin_forecast_with_its_model(twin: TwinExperiment) -> None:
    other = twin.with_model(WRONG)
    assert other.hashes == twin.hashes
    assert twin.model.is_perfect  # unchanged
    scheme = l63.EnKF.for_twin(other, B=np.eye(3))
    assert (scheme.dt, scheme.parameters) == (0.005, WRONG.parameters)
    np.testing.assert_array_equal(scheme.Q, 0.1 * np.eye(3))
    result = l63.run_cycles(scheme, other)
    named = {one.name: str(one) for one in result.imperfect_model}
    assert [*named] == ["Q", "dt", "parameters"]
    assert named["dt"] == "dt 0.005 instead of 0.01"
    # The same run as without the model, where the difference must be allowed.
    same = l63.run_cycles(scheme, twin, imperfect_model=True)
    np.testing.assert_array_equal(result.analysis, same.analysis)
    # The scheme of the truth is the one that differs now.
    with pytest.raises(ArgumentValueError, match="parameters"):
        l63.run_cycles(l63.EnKF.for_twin(twin, B=np.eye(3)), other)


def test_a_step_must_divide_the_interval(twin: TwinExperiment) -> None:
    with pytest.raises(ArgumentValueError, match="dt: expected a step that divides"):
        twin.with_model(l63.ForecastModel(dt=0.03))
    with pytest.raises(ConfigurationError, match="dt: expected a step that divides"):
        tiny_cycled(model={"dt": 0.03})


def test_fits_forecast_with_the_model(twin: TwinExperiment) -> None:
    wrong = l63.ForecastModel(l63.Lorenz63(14.0))
    for kind in ("forecast", "cycled"):
        of_truth = l63.Backgrounds.fit(twin, kind)
        of_wrong = l63.Backgrounds.fit(twin.with_model(wrong), kind)
        assert np.trace(of_wrong.B) > 1.05 * np.trace(of_truth.B)
    # The cache keeps the fits of the two models apart.
    protocol = Cycles(n_cycles=20, burn_in=1.0)
    problems = [
        Problem(t, protocol, "rmse_a") for t in (twin, twin.with_model(wrong), twin)
    ]
    traces = [np.trace(p.cycled_errors.background) for p in problems]
    assert traces[0] == traces[2] < traces[1]


def test_a_smaller_step_of_the_same_model_gives_nearly_the_same(
    twin: TwinExperiment,
) -> None:
    fine = twin.with_model(l63.ForecastModel(dt=0.005))
    for protocol in (Windows(window=3), Cycles(n_cycles=30, burn_in=1.0)):
        estimates = []
        for data in (twin, fine):
            problem = Problem(data, protocol, "rmse_a")
            for scheme in ("4dvar", "enkf"):
                method = l63_method(scheme)
                estimates.append(problem.run(method.fit(problem), "test").analysis)
        for one, other in zip(estimates[:2], estimates[2:], strict=True):
            assert 0.0 < np.abs(one - other).mean() < 0.02


def l63_method(scheme: str) -> Any:
    from l63fast.experiments.methods import METHODS

    settings: dict[str, Any] = {"4dvar": {"b_scale": 1.0}, "enkf": {"inflation": 1.02}}
    return METHODS[scheme](**settings[scheme])


# Experiments


def test_the_table_and_the_flags_are_the_same() -> None:
    given = tiny_cycled(model=TABLE)
    assert given.model == WRONG
    again = Experiment.from_tables("tiny", parse_tables(given.to_toml()), source="it")
    assert again == given
    assert "model" not in tiny_cycled().to_tables()
    for cell in given.cells():
        assert cell.model == WRONG
        assert cell.name.startswith("model_p11_28_2.66667_dt0.005_Q0.1-")
        assert "parameters (11, 28, 2.66667) (truth (10, 28, 2.66667))" in cell.note
    assert any("dt 0.005 (truth 0.01)" in line for line in given.describe())
    assert not any("model" in cell.name for cell in tiny_cycled().cells())
    with pytest.raises(ConfigurationError, match=r"model\.parameters\.rh: unknown key"):
        tiny_cycled(model={"parameters": {"rh": 28.0}})


def test_flags_set_the_model(l63fast: Command) -> None:
    arguments = ["sakov2012", "--print_config", "--model_dt", "0.005"]
    said = l63fast("experiment", *arguments, "--model_parameters", "11,28,2.5")
    tables = parse_tables(said.out)
    assert tables["model"] == {
        "parameters": {"sigma": 11.0, "rho": 28.0, "beta": 2.5},
        "dt": 0.005,
    }
    assert Experiment.from_tables("it", tables, source="it").model.dt == 0.005


def test_results_say_whose_model_it_was(tmp_path: Path) -> None:
    methods = {
        "enkf": {"scheme": "enkf", "inflation": 1.02},
        "background": {"scheme": "background"},
        "optimum": {"scheme": "optimum", "n_particles": 100, "max_particles": 100},
    }
    sizes = {"n_train": 30, "n_val": 3, "n_test": 3}
    tables = {"methods": methods, "data": {**sizes, "operator": "xy"}}
    tables |= {"cycles": {"n_cycles": 20, "burn_in": 2.0}, "model": TABLE}
    experiment = Experiment.from_tables("wrong", tables, source="it")
    rows = experiment.run(tmp_path)
    assert rows["case"].str.contains("Q 0.1").all()
    result = Result.open(tmp_path / "wrong" / experiment.cells()[0].name)
    assert result.metrics["model"]["parameters"]["sigma"] == 11.0
    assert result.settings.model == WRONG
    # The optimum knows the truth's model: the same as in an experiment without one.
    tables.pop("model")
    plain = Experiment.from_tables("right", tables, source="it").run(tmp_path)
    scores = [
        r.query("method == 'optimum'")["rmse_a"].to_numpy() for r in (rows, plain)
    ]
    np.testing.assert_array_equal(*scores)
    both = [r.query("method == 'enkf'")["rmse_a"].to_numpy() for r in (rows, plain)]
    assert (both[0] != both[1]).all()
    config = (tmp_path / "right" / "enkf" / "config.toml").read_text()
    assert "[model]" not in config


def test_published_scores_are_those_of_the_right_model() -> None:
    plain = Experiment.preset("sakov2012").only("enkf-10")
    [cell] = plain.cells()
    assert published_for(cell) is not None
    spread = {"data": {"parameters_spread": 0.1}}
    noise = {"data": {"noise": {"student_t": 3.0}}}
    for changed in ({"model": {"Q": 0.1}}, spread, noise):
        [cell] = plain.updated(**changed).cells()
        assert published_for(cell) is None


def test_windows_too(tmp_path: Path) -> None:
    methods = {"3dvar": {"scheme": "3dvar"}, "background": {"scheme": "background"}}
    rows = tiny_windows(methods=methods, model={"dt": 0.005}).run(tmp_path)
    assert np.isfinite(rows["rmse_a"]).all()


# Steps by a Taylor polynomial


def test_the_preset_runs_with_both_models(tmp_path: Any) -> None:
    preset = Experiment.preset("knet-mismatch").vary(sigma=0.1)
    [cell, *_] = preset.cells()
    assert (cell.data.parameters.taylor, cell.model.parameters) == (
        5,
        l63.Lorenz63(taylor=2),
    )
    assert (cell.data.dt, cell.data.steps_per_cycle) == (0.02, 1)
    assert cell.name == "s0.1_model_taylor2-3dvar"
    assert "steps by Taylor order 2 (truth Taylor order 5)" in cell.note
    small = preset.updated(
        data={"n_train": 6, "n_val": 3, "n_test": 3},
        cycles={"n_cycles": 30, "burn_in": 0.5},
        methods={"gru": TINY_GRU, "pf": {"scheme": "pf", "n_particles": 50}},
    )
    rows = small.run(tmp_path)
    assert set(rows["method"]) == {"3dvar", "extkf", "enkf-20", "gru", "pf"}
    assert np.isfinite(rows["rmse_a"]).all()
    right = small.only("extkf").updated(model={"parameters": {"taylor": 5}})
    scores = [
        frame.query("method == 'extkf'")["mse_a"].mean()
        for frame in (right.run(tmp_path / "right"), rows)
    ]
    assert scores[0] < 0.9 * scores[1]


def test_flags_set_both_orders(l63fast: Command) -> None:
    given = ["--taylor", "4", "--model_taylor", "3", "--model_parameters", "11,28,2.5"]
    said = l63fast("experiment", "sakov2012", "--print_config", *given)
    tables = parse_tables(said.out)
    assert tables["data"]["parameters"]["taylor"] == 4
    own = {"sigma": 11.0, "rho": 28.0, "beta": 2.5, "taylor": 3}
    assert tables["model"]["parameters"] == own
    wrong = l63fast("experiment", "sakov2012", "--model_taylor", "30")
    assert "--model_taylor: expected at most 20, got 30" in wrong.err
    again = Experiment.from_tables("it", tables, source="it")
    assert again.cells()[0].model == l63.ForecastModel(l63.Lorenz63(11.0, 28.0, 2.5, 3))
    with pytest.raises(ConfigurationError, match=r"taylor: expected at least 1"):
        tiny_cycled(model={"parameters": {"taylor": 0}})
