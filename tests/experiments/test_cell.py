"""A cell: what its folder holds, that it repeats to the byte, what is made of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_samples import contents, tiny_cell, weights_only
from l63fast.errors import ArgumentValueError, DataFileError, ResultError
from l63fast.experiments import figures
from l63fast.experiments.figures import draw_figures
from l63fast.experiments.reevaluate import reevaluate, verdict_on_3dvar
from l63fast.experiments.results import Result
from l63fast.experiments.run_cell import run_cell
from l63fast.experiments.settings import Cell
from l63fast.experiments.settings_file import read_tables
from l63fast.storage import verify_directory
from l63fast.twin import TwinExperiment

PROGRAMS = {"model.ts.pt"}


def stop_at(last: int) -> Any:
    """Return what stops a training after some epochs, as Ctrl-C would."""

    def epoch(row: dict[str, Any], n_epochs: int) -> None:
        assert n_epochs == 2
        if row["epoch"] == last:
            raise KeyboardInterrupt

    return epoch


@pytest.fixture(scope="module")
def cell() -> Cell:
    return tiny_cell(method={"n_iterations": 3})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cell: Cell) -> Path:
    path = tmp_path_factory.mktemp("twin") / "xy"
    TwinExperiment.generate(cell.data).save(path)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cell: Cell, data: Path) -> Path:
    """Return a result, programs and all, that the tests read and do not change."""
    path = tmp_path_factory.mktemp("results") / "gru_xy"
    run_cell(cell, data, path, keep_states=True)
    return path


@pytest.fixture
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


def test_a_result_folder_explains_itself(finished: Path, cell: Cell) -> None:
    assert set(verify_directory(finished).files) > PROGRAMS
    tables = read_tables(finished / "config.toml")
    assert Cell.from_tables(tables, source="itself") == cell
    result = Result.open(finished)
    assert result.settings == cell
    assert [row["epoch"] for row in result.history] == [1, 2]
    card = json.loads((finished / "model.json").read_text())["training"]
    twin = result.metrics["data"]
    assert card["data"] == {"train": twin["train"], "val": twin["val"]}
    assert (card["background"], card["loss"]) == ("forecast", "mse")
    assert (card["sigma"], card["interval"]) == (1.0, 0.1)
    assert np.linalg.eigvalsh(card["background_covariance"]).min() > 0


def test_iterations_start_at_the_background(finished: Path, cell: Cell) -> None:
    board, _ = reevaluate(finished, split="val")
    [background] = board[board["method"] == "background"]["rmse_pooled_a"]
    fixed_point = Result.open(finished).metrics["fixed_point"]
    assert len(fixed_point["residual"]) == len(fixed_point["contraction"]) + 1
    assert fixed_point["rmse"][0] == pytest.approx(background, rel=1e-5)


@pytest.mark.promise("N7", "equal sha256 of the whole folder")
def test_a_rerun_gives_the_same_bytes_and_replaces_its_own_result_only(
    finished: Path, cell: Cell, data: Path, tmp_path: Path
) -> None:
    neighbour = tmp_path / "neighbour"
    neighbour.mkdir()
    (neighbour / "note").write_text("mine")
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    old = os.stat(again / "model.safetensors").st_ino
    run_cell(cell, data, again, keep_states=True)
    assert os.stat(again / "model.safetensors").st_ino != old
    assert contents(again) == contents(finished)
    assert sorted(os.listdir(tmp_path)) == ["again", "neighbour"]
    assert (neighbour / "note").read_text() == "mine"


@pytest.mark.usefixtures("without_programs")
@pytest.mark.promise("N7", "equal sha256 of the whole folder")
def test_a_stopped_training_resumes_to_the_same_bytes(
    finished: Path, cell: Cell, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, data, target, epoch=stop_at(1), keep_states=True)
    assert not target.exists()
    epochs: list[int] = []
    run_cell(
        cell,
        data,
        target,
        resume=True,
        keep_states=True,
        epoch=lambda row, n: epochs.append(row["epoch"]),
    )
    assert epochs == [2]
    assert Result.open(target).timing["seconds"]["fit_resumed"] is True
    assert Result.open(finished).timing["seconds"]["fit_resumed"] is False
    cards = [json.loads((f / "model.json").read_text()) for f in (target, finished)]
    del cards[1]["files"]["torchscript"]
    assert cards[0] == cards[1]
    whole, found = contents(finished), contents(target)
    for name in PROGRAMS:
        del whole[name]
    for hashes in (whole, found):
        del hashes["model.json"]
    assert found == whole


@pytest.mark.usefixtures("without_programs")
def test_a_run_that_fails_leaves_the_old_result(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "a")
    before = verify_directory(tmp_path / "a")
    other = tiny_cell(method={"training": {"seed": 1}})
    with pytest.raises(KeyboardInterrupt):
        run_cell(other, data, tmp_path / "a", epoch=stop_at(2))
    assert verify_directory(tmp_path / "a") == before


def test_a_folder_with_strangers_stays_untouched(
    cell: Cell, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultError, match=r"thesis\.tex"):
        run_cell(cell, data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_evaluating_again_finds_the_stored_scores(finished: Path) -> None:
    board, sentence = reevaluate(finished)
    assert "to the last digit" in sentence
    scores = board.set_index("method")["rmse_pooled_a"]
    assert set(scores.index) == {"gru", "3dvar", "background", "climatology"}
    stored = Result.open(finished).metrics["scores"]["rmse_pooled_a"]
    assert scores["gru"] == pytest.approx(stored, rel=1e-12)
    assert scores["3dvar"] < scores["background"] < scores["climatology"]
    ratio = board.set_index("method")["ratio_to_3dvar"]["gru"]
    assert ratio == pytest.approx(scores["gru"] / scores["3dvar"])
    assert f"{ratio:.3f} times its error" in verdict_on_3dvar(board)


def test_evaluating_on_other_data(finished: Path, tmp_path: Path) -> None:
    other = tiny_cell(data={"seed": 5})
    TwinExperiment.generate(other.data).save(tmp_path / "other")
    board, sentence = reevaluate(finished, data=tmp_path / "other", split="val")
    assert "was not trained on" in sentence
    own, _ = reevaluate(finished, split="val")
    assert (board["score"].to_numpy() != own["score"].to_numpy()).all()
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
            reevaluate(finished, data=tmp_path / name)
    TwinExperiment.generate(tiny_cell(data={"sigma": 2.0}).data).save(tmp_path / "loud")
    _, sentence = reevaluate(finished, data=tmp_path / "loud")
    assert sentence.endswith("not trained on; trained for R 1 I instead of 4 I")


@pytest.mark.usefixtures("without_programs")
def test_data_that_changed_since_are_noticed(cell: Cell, tmp_path: Path) -> None:
    TwinExperiment.generate(cell.data).save(tmp_path / "data")
    run_cell(cell, tmp_path / "data", tmp_path / "result")
    TwinExperiment.generate(tiny_cell(data={"seed": 1}).data).save(tmp_path / "data")
    with pytest.raises(ResultError, match=r"expected the data on which .* was trained"):
        reevaluate(tmp_path / "result")


@pytest.mark.slow
def test_figures_are_added_once_and_the_rest_is_kept(
    finished: Path, tmp_path: Path
) -> None:
    target = tmp_path / "result"
    shutil.copytree(finished, target)
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
    shutil.copytree(finished, target)
    damaged = bytearray((target / "estimates.nc").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (target / "estimates.nc").write_bytes(damaged)
    with pytest.raises(DataFileError, match=r"estimates\.nc"):
        draw_figures(target)


def test_truth_that_is_not_of_the_model_is_drawn_as_it_is_stored(
    finished: Path,
) -> None:
    result = Result.open(finished)
    truth = result.estimates["truth"].to_numpy()[1]
    stored = result.estimates["time"].to_numpy()
    path, times = figures.between(truth, stored, result.settings.data)
    per_cycle = 10
    assert np.array_equal(path[::per_cycle], truth)
    assert len(times) == len(path) > len(truth)
    truth = truth * 1.05
    path, times = figures.between(truth, stored, result.settings.data)
    assert np.array_equal(path, truth)
    assert np.array_equal(times, stored)
