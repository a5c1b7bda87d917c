"""A cell: what its folder holds, that it repeats to the byte, what it never opens."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_samples import contents, tiny_cell
from l63fast.errors import ArgumentValueError, DataFileError, ResultError
from l63fast.experiments import figures
from l63fast.experiments import problem as problem_module
from l63fast.experiments.again import evaluate_again
from l63fast.experiments.cell import Log, run_cell, train_cell
from l63fast.experiments.config import CellSettings, read_cell
from l63fast.experiments.evaluation import METHODS
from l63fast.experiments.figures import draw_figures
from l63fast.experiments.problem import Problem
from l63fast.experiments.result import Result
from l63fast.storage import verify_directory
from l63fast.twin import TwinExperiment

FILES = {
    *("config.toml", "metrics.json", "metrics.csv", "history.csv", "train.log"),
    *("model.safetensors", "model.ts.pt", "model.pt2", "model.json"),
    *("test.nc", "timing.json"),
}


class Stopper:
    """A listener that stops a run after some epochs, as Ctrl-C would."""

    def __init__(self, after: int) -> None:
        self.after = after

    def say(self, line: str) -> None:
        pass

    def epoch(self, row: Mapping[str, Any], n_epochs: int) -> None:
        if row["epoch"] == self.after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cell() -> CellSettings:
    return tiny_cell()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cell: CellSettings) -> Path:
    path = tmp_path_factory.mktemp("twin") / "xy"
    TwinExperiment.generate(cell.data).save(path)
    return path


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, cell: CellSettings, data: Path
) -> Path:
    """Return a result that the tests read and do not change."""
    path = tmp_path_factory.mktemp("results") / "gru_xy"
    run_cell(cell, data, path)
    return path


@pytest.fixture
def weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write weights only: compiling the two programs takes seconds."""
    from l63fast.learning import export

    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})


def test_a_result_folder_explains_itself(finished: Path, cell: CellSettings) -> None:
    assert set(verify_directory(finished).files) == FILES
    assert read_cell(finished / "config.toml") == cell
    card = json.loads((finished / "model.json").read_text())
    twin = json.loads((finished / "metrics.json").read_text())["data"]
    assert card["training"]["data"] == {"train": twin["train"], "val": twin["val"]}
    log = (finished / "train.log").read_text()
    assert "12 training + 6 validation + 6 test" in log
    assert "epoch   2/2" in log


def test_metrics_say_what_they_must(finished: Path) -> None:
    metrics = Result.open(finished).metrics
    assert (metrics["n_trajectories"], metrics["n_times"]) == (6, 4)
    assert set(metrics["scores"]) == set(METHODS) - {"4D-Var"}
    for scores in metrics["scores"].values():
        assert {"rms", "pool", "rms_x", "mirror_pool", "sign_flip_rate"} <= set(scores)
        low, high = scores["ci95"]["pool"]
        assert low <= scores["pool"] <= high
    pool = {name: scores["pool"] for name, scores in metrics["scores"].items()}
    difference = metrics["paired_difference"]["pool"]
    assert difference["difference"] == pytest.approx(pool["analysis"] - pool["3D-Var"])
    assert difference["low"] <= difference["difference"] <= difference["high"]
    skill = metrics["skill"]["climatology"]["analysis"]["pool"]
    assert skill == pytest.approx(1.0 - pool["analysis"] / pool["climatology"])
    assert pool["3D-Var"] < pool["background"] < pool["climatology"]
    fixed_point = metrics["fixed_point"]
    assert len(fixed_point["residual"]) == len(fixed_point["contraction"]) + 1
    assert fixed_point["rmse"][0] == pytest.approx(pool["background"], rel=1e-5)
    table = csv.DictReader(io.StringIO((finished / "metrics.csv").read_text()))
    assert {row["method"]: float(row["pool"]) for row in table} == pool


def test_the_scores_are_those_of_the_stored_estimates(finished: Path) -> None:
    result = Result.open(finished)
    estimates, metrics = result.estimates, result.metrics
    error = (estimates["analysis"] - estimates["truth"]).to_numpy()
    assert np.sqrt((error**2).mean()) == pytest.approx(
        metrics["scores"]["analysis"]["pool"], rel=1e-12
    )
    assert estimates["time"].to_numpy() == pytest.approx([0.3, 0.4, 0.5, 0.6])


def test_a_rerun_gives_the_same_bytes_and_replaces_its_own_result_only(
    finished: Path, cell: CellSettings, data: Path, tmp_path: Path
) -> None:
    neighbour = tmp_path / "neighbour"
    neighbour.mkdir()
    (neighbour / "note").write_text("mine")
    for _ in range(2):
        run_cell(cell, data, tmp_path / "again")
        assert contents(tmp_path / "again") == contents(finished)
    assert sorted(os.listdir(tmp_path)) == ["again", "neighbour"]
    assert (neighbour / "note").read_text() == "mine"


@pytest.mark.usefixtures("weights_only")
@pytest.mark.promise("N7", "equal sha256 of the whole folder")
def test_a_stopped_run_resumes_to_the_same_bytes(
    cell: CellSettings, data: Path, tmp_path: Path
) -> None:
    run_cell(cell, data, tmp_path / "whole")
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, data, target, listener=Stopper(1))
    assert not target.exists()
    seen = Stopper(0)
    epochs: list[float] = []
    seen.epoch = lambda row, n: epochs.append(row["epoch"])  # type: ignore[method-assign]
    run_cell(cell, data, target, resume=True, listener=seen)
    assert epochs == [2]
    assert contents(target) == contents(tmp_path / "whole")


@pytest.mark.usefixtures("weights_only")
def test_a_run_that_fails_leaves_the_old_result(
    cell: CellSettings, data: Path, tmp_path: Path
) -> None:
    run_cell(cell, data, tmp_path / "a")
    before = verify_directory(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run_cell(
            tiny_cell(training={"seed": 1}), data, tmp_path / "a", listener=Stopper(2)
        )
    assert verify_directory(tmp_path / "a") == before


def test_a_folder_with_strangers_stays_untouched(
    cell: CellSettings, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultError, match=r"thesis\.tex"):
        run_cell(cell, data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.usefixtures("weights_only")
@pytest.mark.parametrize("fate", ["gone", "noise"])
@pytest.mark.promise("L3", "equal bytes of every artefact")
def test_training_never_opens_the_test_split(
    cell: CellSettings, data: Path, tmp_path: Path, fate: str
) -> None:
    def trained(name: str, source: Path) -> dict[str, bytes]:
        folder = tmp_path / name
        working = tmp_path / f"{name}-working"
        folder.mkdir()
        working.mkdir()
        problem_module._fitted.cache_clear()  # the second must do without the first
        problem = Problem.prepare(TwinExperiment.load(source), cell)
        train_cell(cell, problem, folder, Log(), working)
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    other = tmp_path / "other"
    other.mkdir()
    for path in data.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    if fate == "gone":
        (other / "test.nc").unlink()
    else:
        (other / "test.nc").write_bytes(b"noise")
    assert trained("with", data) == trained("without", other)
    with pytest.raises(DataFileError):
        TwinExperiment.load(other).split("test")


def test_evaluating_again_finds_the_stored_scores(finished: Path) -> None:
    metrics, verdict = evaluate_again(finished)
    assert metrics["scores"]["analysis"] == Result.open(finished).metrics["scores"][
        "analysis"
    ] | {"ci95": metrics["scores"]["analysis"]["ci95"]}
    assert "to the last digit" in verdict


def test_evaluating_on_other_data(finished: Path, tmp_path: Path) -> None:
    other = tiny_cell(data={"seed": 5})
    TwinExperiment.generate(other.data).save(tmp_path / "other")
    metrics, verdict = evaluate_again(finished, data=tmp_path / "other", split="val")
    assert "was not trained on" in verdict
    assert metrics["split"] == "val"
    for name, change, message in (
        ("x", {"operator": "x"}, "operator 'x' as in the data, got operator 'xy'"),
        (
            "half",
            {"steps_per_cycle": 5},
            r"interval 0\.05 as in the data, got interval",
        ),
    ):
        TwinExperiment.generate(tiny_cell(data=change).data).save(tmp_path / name)
        with pytest.raises(ArgumentValueError, match=message):
            evaluate_again(finished, data=tmp_path / name)
    TwinExperiment.generate(tiny_cell(data={"sigma": 2.0}).data).save(tmp_path / "loud")
    _, verdict = evaluate_again(finished, data=tmp_path / "loud")
    assert verdict.endswith("not trained on; trained for R 1 I instead of 4 I")


@pytest.mark.usefixtures("weights_only")
def test_data_that_changed_since_are_noticed(
    cell: CellSettings, tmp_path: Path
) -> None:
    TwinExperiment.generate(cell.data).save(tmp_path / "data")
    run_cell(cell, tmp_path / "data", tmp_path / "result")
    TwinExperiment.generate(tiny_cell(data={"seed": 1}).data).save(tmp_path / "data")
    with pytest.raises(ResultError, match="no longer holds the data"):
        evaluate_again(tmp_path / "result")


@pytest.mark.usefixtures("weights_only")
def test_figures_are_added_once_and_the_rest_is_kept(
    cell: CellSettings, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "result"
    run_cell(cell, data, target)
    before = contents(target)
    written = draw_figures(target)
    names = {path.name for path in written}
    assert {"panels.png", "panels.svg", "attractor.png", "animation.gif"} <= names
    assert {"error_against_time.png", "error_distribution.png"} <= names
    assert {"training.png", "tuning.png"} <= names
    assert all(path.stat().st_size > 1000 for path in written)
    after = contents(target)
    assert after.items() >= before.items()
    assert set(after) - set(before) == {f"figures/{name}" for name in names}
    draw_figures(target)
    assert contents(target) == after


def test_a_damaged_result_is_not_drawn(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "result"
    target.mkdir()
    for path in finished.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    damaged = bytearray((target / "test.nc").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (target / "test.nc").write_bytes(damaged)
    with pytest.raises(DataFileError, match=r"test\.nc"):
        draw_figures(target)


def test_the_card_says_what_the_model_is_good_for(finished: Path) -> None:
    training = json.loads((finished / "model.json").read_text())["training"]
    assert training["background"] == "forecast"
    assert training["sigma"] == 1.0
    assert training["interval"] == 0.1
    assert training["loss"] == "mse"
    assert np.linalg.eigvalsh(training["background_covariance"]).min() > 0
    assert set(training["data"]) == {"train", "val"}


def test_truth_that_is_not_of_the_model_is_drawn_as_it_is_stored(
    finished: Path,
) -> None:
    scene = figures._Scene(Result.open(finished))
    path, times = scene.between([1])
    per_cycle = 10
    assert np.array_equal(path[:, ::per_cycle], scene.truth[[1]])
    assert len(times) == path.shape[1] > scene.truth.shape[1]
    scene.truth = scene.truth * 1.05
    path, times = scene.between([1])
    assert np.array_equal(path, scene.truth[[1]])
    assert np.array_equal(times, scene.times)
