"""Seeds as an axis of cycled experiments: repetitions of data and of training."""

from __future__ import annotations

import csv
import io
import tomllib
from pathlib import Path

import pytest

from cycled_samples import rows_of, tiny_cycled
from l63fast.errors import ConfigurationError
from l63fast.experiments.cycled.reading import experiment_from_tables
from l63fast.experiments.presets import with_preset
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.source import Source
from l63fast.experiments.tables import Summary, markdown
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
    rows = rows_of(outcome.results)
    assert {row.n_data for row in rows.values()} == {3}
    scores = [
        r.metrics["scores"]["rms"] for r in outcome.results if r.settings.key == "enkf"
    ]
    assert rows["enkf"].score == pytest.approx(sum(scores) / 3)
    assert rows["enkf"].low < rows["enkf"].score < rows["enkf"].high
    # Optimal interpolation is worse than an ensemble by far more than seeds differ.
    assert (rows["enkf"].rank, rows["oi"].rank) == (1, 2)
    text = markdown(Summary(Source.of(outcome.results)))
    assert "; means over 3 sets of data. rmse_a:" in text
    assert outcome.report is not None
    table = outcome.report / "tables" / "scores.csv"
    found = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["n_data"] for row in found] == ["3", "3"]


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
    rows = rows_of(outcome.results)
    assert set(rows) == {"oi", "best", "gru"}
    assert {key: row.n_trainings for key, row in rows.items()} == {
        **{"oi": 0, "best": 0, "gru": 2}
    }
    results = {result.settings.key: result for result in outcome.results}
    square = {key: r.trajectories["square"].mean() for key, r in results.items()}
    assert square["gru-t0"] != square["gru-t1"]
    pool = ((square["gru-t0"] + square["gru-t1"]) / 2) ** 0.5
    assert rows["gru"].rmse_pooled_a == pytest.approx(pool)
    ratio = pool / square["best"] ** 0.5
    assert rows["gru"].ratio_to_optimum == pytest.approx(ratio)
    assert rows["gru"].ratio_to_optimum_low < ratio
    text = markdown(Summary(Source.of(outcome.results)))
    assert "; means over 2 trainings. rmse_a:" in text
    # What is read from the folder is the same.
    again = rows_of(Source.open(tmp_path / "tiny").results)
    assert str(again["gru"]) == str(rows["gru"])  # NaN among the numbers


def test_what_cannot_be_told_apart_is_said(tmp_path: Path) -> None:
    # Two filters that differ in nothing that matters.
    pf = {"scheme": "pf", "n_particles": 30, "regularisation": 1.5}
    again = {"again": {**pf, "threshold": 0.2001}}
    outcome = run_experiment(tiny_cycled("enkf", methods=again), tmp_path)
    rows = rows_of(outcome.results)
    assert rows["pf"].ties == ("again",)
    assert rows["oi"].rank == 3
    text = markdown(Summary(Source.of(outcome.results)))
    assert all(f"| 1= | {rows[key].label} |" in text for key in ("pf", "again"))
