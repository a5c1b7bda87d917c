"""Cells with the cost of a window: analyses at its start, scores at its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cycled_samples import rows_of
from experiment_samples import contents, tiny_cell
from l63fast.errors import ConfigurationError
from l63fast.experiments.cell import run_cell
from l63fast.experiments.config import CellSettings
from l63fast.experiments.encoder_experiment import Axes, EncoderExperiment
from l63fast.experiments.evaluation import METHODS
from l63fast.experiments.fresh import simulation
from l63fast.experiments.optimum import optimum_of
from l63fast.experiments.problem import Problem
from l63fast.experiments.result import Result
from l63fast.learning import export
from l63fast.learning.export import load_encoder
from l63fast.lorenz63 import forecast
from l63fast.twin import TwinExperiment

GAUSS = {"background": {"kind": "gauss"}, "scores": {"n_bootstrap": 50}}


def cell(loss: str, **training: object) -> CellSettings:
    return tiny_cell(training={"loss": loss, **training}, **GAUSS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twin") / "xy"
    TwinExperiment.generate(cell("mse").data).save(path)
    return path


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
        for loss in ("mse", "var3d_window"):
            run_cell(cell(loss, window_growth=0.5), data, root / loss)
    return root


def problem_of(data: Path, settings: CellSettings) -> Problem:
    return Problem.prepare(TwinExperiment.load(data), settings)


def test_the_time_of_the_analysis_follows_from_the_loss() -> None:
    assert cell("mse").model.analysis_at == "last"
    assert cell("var3d_window").model.analysis_at == "first"
    with pytest.raises(
        ConfigurationError, match=r"model\.analysis_at: expected 'first'"
    ):
        tiny_cell(training={"loss": "var3d_window"}, model={"analysis_at": "last"})
    losses = Axes(models=("mlp",), losses=("var3d", "var3d_window"))
    regimes = Axes(regimes=("gauss:mse", "gauss:var3d_window"))
    for axes in (losses, regimes):
        cells = EncoderExperiment("both", axes, cell("mse")).encoders()
        assert [c.model.analysis_at for c in cells] == ["last", "first"]


def test_analyses_are_made_at_the_start_and_scored_at_the_end(
    finished: Path, data: Path
) -> None:
    result = Result.open(finished / "var3d_window")
    found = result.estimates
    problem = problem_of(data, result.settings)
    samples = problem.samples("test")
    start = load_encoder(result.directory)(samples.background, samples.obs_window)
    end = forecast(start, 2 * result.settings.data.steps_per_cycle)
    assert np.array_equal(found["analysis"].to_numpy().reshape(-1, 3), end)
    # All else is that of a loss without a window, at the same times.
    other = Result.open(finished / "mse").estimates
    for name in ("truth", "observations", "background", "three_d_var", "time"):
        assert np.array_equal(found[name], other[name]), name
    assert "four_d_var" not in other
    truth = problem.twin.split("test").truth_at_observations
    first = samples.truth.reshape(len(truth), -1, 3)
    assert np.array_equal(first, truth[:, : first.shape[1]])


def test_4d_var_has_seen_the_same_and_is_its_goal(finished: Path) -> None:
    result = Result.open(finished / "var3d_window")
    scores = result.metrics["scores"]
    assert list(scores) == list(METHODS)
    assert scores["4D-Var"]["pool"] < 0.9 * scores["3D-Var"]["pool"]
    table = (result.directory / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == list(METHODS)


def test_the_table_has_4d_var_where_there_is_one(finished: Path) -> None:
    both = [Result.open(finished / loss) for loss in ("mse", "var3d_window")]
    labels = {key: row.label for key, row in rows_of(both).items()}
    assert labels == {
        "climatology": "climatology",
        "background": "background",
        "3dvar": "3D-Var",
        "4dvar": "4D-Var",
        "gru-k3-mse": "GRU, K=3, mse",
        "gru-k3-var3d_window": "GRU, K=3, var3d_window",
    }
    assert "4dvar" not in rows_of(both[:1])


def test_a_window_that_starts_with_its_background_has_another_optimum() -> None:
    assert optimum_of(cell("mse"), 1000, 5) is not None
    assert optimum_of(cell("var3d_window"), 1000, 5) is None


def test_fresh_samples_are_at_the_start_as_well(data: Path) -> None:
    problem = problem_of(data, cell("var3d_window"))
    fresh = simulation(problem, 8, 0)(0)
    at_end = simulation(problem_of(data, cell("mse")), 8, 0)(0)
    assert np.array_equal(fresh.obs_window[:, ::-1], at_end.obs_window)
    assert not np.array_equal(fresh.truth, at_end.truth)


def test_a_rerun_gives_the_same_bytes(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
    run_cell(cell("var3d_window", window_growth=0.5), data, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(finished / "var3d_window")
