"""Experiments: cells on executors, failures named, the rest kept, one table."""

from __future__ import annotations

import csv
import io
import json
import os
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from experiment_samples import TINY, contents
from l63fast.errors import ConfigurationError, ResultError
from l63fast.experiments.config import merged
from l63fast.experiments.encoder_experiment import EncoderExperiment
from l63fast.experiments.executors import InProcess, executor
from l63fast.experiments.presets import experiment_from_tables
from l63fast.experiments.result import Result
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.table import table_rows
from l63fast.experiments.tasks import reason
from l63fast.storage import verify_directory


def tiny(**axes: Any) -> EncoderExperiment:
    """Return an experiment of a few small cells."""
    return experiment_from_tables(
        "tiny", merged(TINY, {"experiment": axes}), source="a test"
    )


@pytest.fixture
def weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from l63fast.learning import export

    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})


@pytest.mark.usefixtures("weights_only")
def test_one_table_of_all_cells(tmp_path: Path) -> None:
    notes: list[str] = []
    axes = {"models": ["mlp", "gru"], "operators": ["x2", "x"], "n_iterations": [1]}
    outcome = run_experiment(
        tiny(**axes), tmp_path, note=lambda cell, line: notes.append(cell)
    )
    cells = ["mlp_x2_k1", "gru_x2_k1", "mlp_x_k1", "gru_x_k1"]
    assert notes == cells
    assert outcome.failures == {}
    folder = tmp_path / "tiny"
    assert set(os.listdir(folder)) == {*cells, "data", "summary"}
    assert outcome.summary == folder / "summary"
    files = set(verify_directory(folder / "summary").files)
    assert files == {
        "overview.png",
        "overview.svg",
        *("summary.csv", "summary.json"),
    } | {"table.md"}
    rows = list(
        csv.DictReader(io.StringIO((folder / "summary/summary.csv").read_text()))
    )
    # Mirror-blind: mirror-aware first, then plain; three references and two encoders.
    assert [row["operator"] for row in rows] == ["x2"] * 10 + ["x"] * 5
    assert [row["mirror_aware"] for row in rows] == ["True"] * 5 + ["False"] * 10
    found = Result.open(folder / "gru_x2_k1").metrics
    assert float(rows[4]["pool"]) == found["scores"]["analysis"]["mirror_pool"]
    assert float(rows[9]["pool"]) == found["scores"]["analysis"]["pool"]
    difference = found["paired_difference"]["mirror_pool"]
    assert float(rows[4]["difference_high"]) == difference["high"]
    assert rows[0]["difference"] == ""
    table = (folder / "summary/table.md").read_text()
    assert "| observed: x², mirror-aware | climatology | " in table
    assert "6 trajectories, 4 analyses each" in table
    summary = json.loads((folder / "summary/summary.json").read_text())
    assert len(summary["rows"]) == len(rows)


@pytest.mark.usefixtures("weights_only")
def test_mirror_aware_rows_hold_mirror_aware_scores(tmp_path: Path) -> None:
    axes = {"models": ["mlp"], "operators": ["x2"], "n_iterations": [1]}
    result = run_experiment(tiny(**axes), tmp_path).results[0]
    # So small a twin flips no sign; as if it had:
    scores = result.metrics["scores"]["analysis"]
    scores |= {"pool": 5.0, "mirror_pool": 0.3, "rms": 4.0, "mirror_rms": 0.2}
    result.metrics["paired_difference"]["pool"]["difference"] = 4.0
    rows = [row for row in table_rows([result]) if row.method == "MLP, K=1"]
    assert [(row.mirror_aware, row.pool, row.rms) for row in rows] == [
        (True, 0.3, 0.2),
        (False, 5.0, 4.0),
    ]
    assert rows[1].difference == 4.0


@pytest.mark.usefixtures("weights_only")
def test_operators_share_one_truth(tmp_path: Path) -> None:
    axes = {"models": ["mlp"], "operators": ["x", "xyz"], "n_iterations": [1]}
    outcome = run_experiment(tiny(**axes), tmp_path)
    first, second = (result.estimates["truth"].to_numpy() for result in outcome.results)
    assert (first == second).all()


@pytest.mark.usefixtures("weights_only")
@pytest.mark.promise("D2", "named, the rest kept")
def test_a_cell_that_fails_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    stranger = tmp_path / "tiny" / "mlp_x_k1"
    stranger.mkdir(parents=True)
    (stranger / "mine.txt").write_text("not yours")
    axes = {"models": ["mlp", "gru"], "operators": ["x"], "n_iterations": [1]}
    notes: dict[str, str] = {}
    outcome = run_experiment(tiny(**axes), tmp_path, note=notes.__setitem__)
    assert list(outcome.failures) == ["mlp_x_k1"]
    assert "mine.txt" in outcome.failures["mlp_x_k1"]
    assert notes["mlp_x_k1"].startswith("failed: ")
    assert [result.settings.name for result in outcome.results] == ["gru_x_k1"]
    assert (stranger / "mine.txt").read_text() == "not yours"
    assert verify_directory(tmp_path / "tiny" / "summary")


@pytest.mark.usefixtures("weights_only")
def test_resume_keeps_what_is_the_same_and_makes_the_rest(tmp_path: Path) -> None:
    axes = {"models": ["mlp", "gru"], "operators": ["x"], "n_iterations": [1]}
    run_experiment(tiny(**axes), tmp_path)
    folder = tmp_path / "tiny"
    kept = (folder / "mlp_x_k1" / "timing.json").read_bytes()
    damaged = folder / "gru_x_k1" / "metrics.json"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    before = contents(folder / "mlp_x_k1")
    notes: dict[str, str] = {}
    # A damaged result is of ours still, so it is replaced.
    resumed: dict[str, Any] = {"resume": True, "note": notes.__setitem__}
    outcome = run_experiment(tiny(**axes), tmp_path, **resumed)
    assert outcome.failures == {}
    assert notes["mlp_x_k1"].endswith("kept")
    assert not notes["gru_x_k1"].endswith("kept")
    assert (folder / "mlp_x_k1" / "timing.json").read_bytes() == kept
    assert contents(folder / "mlp_x_k1") == before
    other = merged(TINY, {"experiment": axes, "training": {"seed": 1}})
    changed = experiment_from_tables("tiny", other, source="a test")
    # Of other settings: neither kept as if it were the same, nor lost.
    with pytest.raises(ConfigurationError, match=r"training\.seed is 0, not 1.*--name"):
        run_experiment(changed, tmp_path, **resumed)
    assert contents(folder / "mlp_x_k1") == before


@pytest.mark.promise("N6", "equal sha256, 1 and 2 workers")
def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    axes = {"models": ["mlp", "gru"], "operators": ["x"], "n_iterations": [1]}
    one = run_experiment(tiny(**axes), tmp_path / "one", n_workers=1)
    two = run_experiment(tiny(**axes), tmp_path / "two", n_workers=2)
    assert two.failures == {}
    for first, second in zip(one.results, two.results, strict=True):
        assert contents(first.directory) == contents(second.directory)
    assert one.summary is not None
    assert two.summary is not None
    assert contents(one.summary) == contents(two.summary)


@pytest.mark.usefixtures("weights_only")
@pytest.mark.promise("I18", "refused")
def test_results_of_different_data_are_not_compared(tmp_path: Path) -> None:
    axes = {"models": ["mlp"], "operators": ["x"], "n_iterations": [1]}
    one = run_experiment(tiny(**axes), tmp_path / "one")
    tables = merged(TINY, {"experiment": axes, "data": {"spin_up_time": 10.0}})
    other = experiment_from_tables("tiny", tables, source="a test")
    two = run_experiment(other, tmp_path / "two")
    with pytest.raises(ResultError, match="different data"):
        table_rows([*one.results, *two.results])


def test_the_executor_in_this_process_is_one() -> None:
    with executor(1) as pool:
        assert isinstance(pool, InProcess)
        good, bad = pool.submit(int, "3"), pool.submit(int, "x")
        wait([good, bad])
    assert good.result() == 3
    with pytest.raises(ValueError, match="invalid literal"):
        bad.result()


def test_an_interrupt_is_not_taken_for_a_failed_cell() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with executor(1) as pool, pytest.raises(KeyboardInterrupt):
        pool.submit(interrupted)


def test_the_reason_of_a_failure_is_one_line() -> None:
    assert reason(ResultError("a: is\nb")) == "a: is b"
    assert reason(KeyError("x")) == "KeyError: 'x'"
