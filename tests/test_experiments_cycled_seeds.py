"""Seeds as an axis of cycled experiments: repetitions of data and of training."""

from __future__ import annotations

import csv
import io
import tomllib
from pathlib import Path

import pytest

from cycled_samples import tiny_cycled
from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled.reading import experiment_from_tables
from l63fast.experiments.cycled.rows import cycled_rows
from l63fast.experiments.cycled.table import markdown_blocks
from l63fast.experiments.presets import with_preset
from l63fast.experiments.reporting.source import Source
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.runner import run_experiment
from l63fast.learning import export


def test_a_seed_is_of_data_and_of_training() -> None:
    gru = {"gru": {"scheme": "encoder", "hidden": 4}}
    experiment = tiny_cycled("enkf", "pf", experiment={"seeds": [0, 5]}, methods=gru)
    cells = experiment.cells()
    assert [cell.name for cell in cells] == ["r0-oi", "r0-gru", "r5-oi", "r5-gru"]
    assert [cell.data.seed for cell in cells] == [0, 0, 5, 5]
    assert [cells[i].method.training.seed for i in (1, 3)] == [0, 5]
    with pytest.raises(ConfigurationError, match=r"data\.seed: is varied by"):
        tiny_cycled(experiment={"seeds": [0, 5]}, data={"seed": 1})
    with pytest.raises(ConfigurationError, match="seeds: expected each once"):
        tiny_cycled(experiment={"seeds": [0, 0]})


def test_one_row_for_all_seeds_and_a_rank(tmp_path: Path) -> None:
    experiment = tiny_cycled("pf", experiment={"seeds": [0, 1, 2]})
    outcome = run_experiment(experiment, tmp_path)
    assert outcome.failures == {}
    rows = {row.key: row for row in cycled_rows(outcome.results)}
    assert {row.n_seeds for row in rows.values()} == {3}
    scores = [
        r.metrics["scores"]["rms"] for r in outcome.results if r.settings.key == "enkf"
    ]
    assert rows["enkf"].score == pytest.approx(sum(scores) / 3)
    assert rows["enkf"].low < rows["enkf"].score < rows["enkf"].high
    # Optimal interpolation is worse than an ensemble by far more than seeds differ.
    assert (rows["enkf"].rank, rows["oi"].rank) == (1, 2)
    assert rows["enkf"].seed_low == pytest.approx(min(scores))
    assert rows["enkf"].seed_high == pytest.approx(max(scores))
    text = markdown_blocks(outcome.results)
    assert "; means over 3 seeds of data and training. rms:" in text
    assert "bootstrap over seeds and trajectories" in text
    summary = tmp_path / "tiny" / "summary"
    rows_of_csv = csv.DictReader(io.StringIO((summary / "summary.csv").read_text()))
    assert [row["n_seeds"] for row in rows_of_csv] == ["3", "3"]
    assert (summary / "scores.png").stat().st_size > 10_000


def test_trainings_are_repeated_on_the_same_data() -> None:
    gru = {"gru": {"scheme": "encoder", "hidden": 4}}
    axes = {"training_seeds": [0, 7]}
    experiment = tiny_cycled("enkf", "pf", experiment=axes, methods=gru)
    cells = experiment.cells()
    assert [cell.name for cell in cells] == ["oi", "gru-t0", "gru-t7"]
    assert [cell.method.training.seed for cell in cells[1:]] == [0, 7]
    assert {cell.data for cell in cells} == {cells[0].data}
    assert [cell.name for cell in experiment.only(["gru"]).cells()] == [
        "gru-t0",
        "gru-t7",
    ]
    tables = tomllib.loads(experiment.to_toml())
    assert experiment_from_tables("tiny", tables, source="itself").cells() == cells
    with pytest.raises(ConfigurationError, match=r"training_seeds: expected none besi"):
        tiny_cycled(experiment={**axes, "seeds": [0]}, methods=gru)
    with pytest.raises(ConfigurationError, match=r"training_seeds: expected each once"):
        tiny_cycled(experiment={"training_seeds": [0, 0]}, methods=gru)
    both = {"gru": gru["gru"], "gru-t0": {"scheme": "oi"}}
    with pytest.raises(ConfigurationError, match="of trainings, got gru-t0 twice"):
        tiny_cycled("oi", "enkf", "pf", experiment=axes, methods=both)


def test_seeds_that_are_asked_for_replace_the_trainings_of_a_preset() -> None:
    axes = with_preset("encoders", {"experiment": {"seeds": [4, 5]}})["experiment"]
    assert axes["seeds"] == [4, 5]
    assert "training_seeds" not in axes
    assert with_preset("encoders", {})["experiment"]["training_seeds"] == [0, 1, 2]


def test_trainings_are_one_row_beside_the_same_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})
    tiny = {
        "scheme": "encoder",
        "hidden": 4,
        "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.003},
        "cycles": {"updates": 2, "unroll": 3, "first_unroll": 2},
    }
    best = {"scheme": "optimum", "n_particles": 400, "max_particles": 400}
    experiment = tiny_cycled(
        *("enkf", "pf"),
        experiment={"training_seeds": [0, 1]},
        methods={"best": best, "gru": tiny},
    )
    outcome = run_experiment(experiment, tmp_path)
    assert outcome.failures == {}
    rows = {row.key: row for row in cycled_rows(outcome.results)}
    assert list(rows) == ["oi", "best", "gru"]
    assert [rows[key].n_seeds for key in rows] == [1, 1, 2]
    results = {result.settings.key: result for result in outcome.results}
    square = {key: r.trajectories["square"].mean() for key, r in results.items()}
    assert square["gru-t0"] != square["gru-t1"]
    pool = ((square["gru-t0"] + square["gru-t1"]) / 2) ** 0.5
    assert rows["gru"].pool == pytest.approx(pool)
    assert rows["gru"].over_optimum == pytest.approx(pool / square["best"] ** 0.5)
    assert rows["gru"].over_optimum_low < rows["gru"].over_optimum
    assert rows["oi"].rank >= 1
    text = markdown_blocks(outcome.results)
    assert "; means over 2 trainings. rms:" in text
    # The report shows the same rows.
    source = Source.open(tmp_path / "tiny")
    entries = {entry.method: entry for entry in Subject.of(source).entries}
    assert entries["GRU, carried"].score == pytest.approx(rows["gru"].score)
    assert entries["GRU, carried"].numbers["n_seeds"] == 2.0
    ratio = entries["GRU, carried"].against(entries["optimum"], pool=True)
    assert ratio.ratio_ci95 == (
        rows["gru"].over_optimum_low,
        rows["gru"].over_optimum_high,
    )


def test_what_cannot_be_told_apart_is_said(tmp_path: Path) -> None:
    # Two filters of the same size with other random numbers.
    again = {"again": {"scheme": "pf", "n_particles": 31, "regularisation": 1.5}}
    outcome = run_experiment(tiny_cycled("enkf", methods=again), tmp_path)
    rows = {row.key: row for row in cycled_rows(outcome.results)}
    assert rows["pf"].ties == rows["again"].method
    assert rows["oi"].rank == 3
    said = f"Not distinguishable: {rows['pf'].method} and {rows['again'].method}."
    assert said in markdown_blocks(outcome.results)
