"""Experiments: cells on executors, failures named, the rest kept, one table."""

from __future__ import annotations

import csv
import io
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
from l63fast.experiments.results import results_of
from l63fast.experiments.runner import run_experiment
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
    assert set(os.listdir(folder)) == {*cells, "data", "report"}
    assert outcome.report == folder / "report"
    files = {"results.csv", "scores.csv", "scores.tex", "table.md", "answer.txt"}
    assert set(verify_directory(folder / "report").files) == {
        f"tables/{name}" for name in (*files, "provenance.csv")
    }
    tables = folder / "report" / "tables"
    rows = list(csv.DictReader(io.StringIO((tables / "scores.csv").read_text())))
    # Three references and two encoders for each operator; x2 mirror-aware.
    assert [row["operator"] for row in rows] == ["x"] * 5 + ["x2"] * 5
    assert [row["mirror_aware"] for row in rows] == ["False"] * 5 + ["True"] * 5
    found = Result.open(folder / "gru_x2_k1").metrics["scores"]["analysis"]
    [gru] = [r for r in rows if (r["operator"], r["method"]) == ("x2", "gru-k1")]
    assert float(gru["score"]) == pytest.approx(found["mirror_pool"])
    assert [float(gru[end]) for end in ("low", "high")] == pytest.approx(
        found["ci95"]["mirror_pool"]
    )
    table = (tables / "table.md").read_text()
    assert "**x² observed with σ = 1 every 0.1 time units**" in table
    assert "| mirror-aware rmse_pooled_a |" in table
    assert "6 test trajectories, 4 analyses each" in table


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
    assert verify_directory(tmp_path / "tiny" / "report")


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
    assert one.report is not None
    assert two.report is not None
    untimed = {f"tables/{name}" for name in ("results", "scores", "answer")}
    first, second = (
        {k: v for k, v in contents(o.report).items() if k.split(".")[0] in untimed}
        for o in (one, two)
    )
    assert first == second
    assert {name.split(".")[0] for name in first} == untimed


@pytest.mark.usefixtures("weights_only")
@pytest.mark.promise("I18", "refused")
def test_results_of_different_data_are_not_compared(tmp_path: Path) -> None:
    axes = {"models": ["mlp"], "operators": ["x"], "n_iterations": [1]}
    one = run_experiment(tiny(**axes), tmp_path / "one")
    tables = merged(TINY, {"experiment": axes, "data": {"spin_up_time": 10.0}})
    other = experiment_from_tables("tiny", tables, source="a test")
    two = run_experiment(other, tmp_path / "two")
    apart = results_of([*one.results, *two.results])
    assert set(apart["case"]) == {"spin up time 20.0", "spin up time 10.0"}
    [stranger] = one.results
    again = Result.open(stranger.directory)
    stranger.metrics["data"]["test"] = "of another truth"
    with pytest.raises(ResultError, match="different data of seed 0 and cannot be com"):
        results_of([stranger, again])


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
