"""Experiments that are run: cells kept, made again, refused, failed, and named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiment_samples import (
    IN_WINDOWS,
    TINY_GRU,
    contents,
    tiny_cycled,
    tiny_windows,
    weights_only,
)
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ConfigurationError,
    L63Warning,
    ResultError,
)
from l63fast.experiments import run_cell as module
from l63fast.experiments import runner
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.results import Result, open_results
from l63fast.experiments.runner import Outcome, run_cells
from l63fast.experiments.tasks import Progress, executor, reason
from l63fast.learning import cycled_training
from l63fast.learning.loop import CHECKPOINT
from l63fast.storage import verify_directory
from l63fast.twin import TwinExperiment, TwinSettings
from rewritten_results import of_version_0_1_0


def run(experiment: Experiment, root: Path, **how: Any) -> Outcome:
    return run_cells(experiment.cells(), root / experiment.name, **how)


def run_noted(
    experiment: Experiment, root: Path, **how: Any
) -> tuple[Outcome, dict[str, str]]:
    """Run an experiment; return also the line about each cell, by its name."""
    notes: dict[str, str] = {}
    outcome = run(experiment, root, progress=Progress(notes.__setitem__), **how)
    return outcome, notes


@pytest.fixture
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


# What is made


def test_an_experiment_is_a_folder_of_cells_data_and_tables(tmp_path: Path) -> None:
    experiment = tiny_cycled("pf").vary(operator=["x2", "x"])
    outcome, notes = run_noted(experiment, tmp_path)
    cells = ["x2-oi", "x2-enkf", "x-oi", "x-enkf"]
    assert list(notes) == cells
    assert all(": " in line and line.endswith(" s") for line in notes.values())
    assert outcome.failures == {}
    assert [result.directory.name for result in outcome.results] == cells
    folder = tmp_path / "tiny"
    assert set(os.listdir(folder)) == {*cells, "data", "report"}
    assert outcome.summary is not None
    files = ("results.csv", "scores.csv", "scores.tex", "table.md", "answer.txt")
    assert set(verify_directory(folder / "report").files) == {
        f"tables/{name}" for name in (*files, "provenance.csv")
    }
    # Operators share one truth.
    one, other = (TwinExperiment.load(folder / "data" / name) for name in ("x", "x2"))
    assert (one.test.truth == other.test.truth).all()


def test_what_is_returned_is_what_the_folder_holds(tmp_path: Path) -> None:
    results = tiny_cycled("pf").run(tmp_path)
    pd.testing.assert_frame_equal(
        results.sort_values(["cell", "trajectory"], ignore_index=True),
        open_results(tmp_path / "tiny").sort_values(
            ["cell", "trajectory"], ignore_index=True
        ),
    )
    assert set(results["cell"]) == {"oi", "enkf"}
    # Another experiment of this name would add to them: that is not done silently.
    with pytest.warns(L63Warning, match=r"holds 1 cell of other .* \(enkf\), which"):
        others = tiny_cycled("pf", "enkf").run(tmp_path)
    assert set(others["cell"]) == {"oi"}


def test_some_cells_alone_and_then_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny_cycled("pf").vary(operator=["x"], sigma=[0.5, 1.0])
    with pytest.raises(ConfigurationError, match="only: expected a pattern"):
        run(experiment, tmp_path, only="*-lstm*")
    run(experiment, tmp_path, only="x_s1-*")
    before = contents(tmp_path / "tiny" / "x_s1-enkf")
    outcome, notes = run_noted(experiment, tmp_path, only="x_s0.5*oi")
    assert list(notes) == ["x_s0.5-oi"]
    # What was made before is in the table, as it is still what is asked for.
    names = [result.metrics["cell"] for result in outcome.results]
    assert names == ["x_s0.5-oi", "x_s1-oi", "x_s1-enkf"]
    assert contents(tmp_path / "tiny" / "x_s1-enkf") == before
    text = (tmp_path / "tiny" / "report" / "tables" / "table.md").read_text()
    assert "0.5" in text
    # A result of a newer version is replaced only by force.
    monkeypatch.setattr(runner, "versions", lambda: {"l63fast": "0.0.9"})
    with pytest.raises(ConfigurationError, match="which is newer: --force"):
        run(experiment, tmp_path, only="x_s1-oi")
    run(experiment, tmp_path, only="x_s1-oi", force=True)


# What fails


@pytest.mark.promise("D2", "named, the rest kept")
def test_a_cell_that_fails_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    stranger = tmp_path / "tiny" / "oi"
    stranger.mkdir(parents=True)
    (stranger / "mine.txt").write_text("not yours")
    outcome, notes = run_noted(tiny_cycled("pf"), tmp_path)
    assert list(outcome.failures) == ["oi"]
    assert "mine.txt" in outcome.failures["oi"]
    assert notes["oi"].startswith("failed: ")
    assert [result.settings.name for result in outcome.results] == ["enkf"]
    assert (stranger / "mine.txt").read_text() == "not yours"
    assert verify_directory(tmp_path / "tiny" / "report")
    with pytest.warns(L63Warning, match=r"failed: oi: .*mine\.txt"):
        results = tiny_cycled("pf").run(tmp_path)
    assert set(results["cell"]) == {"enkf"}


def test_an_experiment_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    stranger = tmp_path / "tiny" / "oi"
    stranger.mkdir(parents=True)
    (stranger / "mine.txt").write_text("not yours")
    with pytest.raises(ResultError, match=r"every cell failed: oi: .*mine\.txt"):
        tiny_cycled("pf", "enkf").run(tmp_path)
    assert run(tiny_cycled("pf", "enkf"), tmp_path).summary is None


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"workers": 0}, "workers: expected at least 1, got 0"),
        ({"workers": -1}, "workers: expected at least 1, got -1"),
        ({"workers": True}, "workers: expected an integer, got True"),
        ({"workers": 1.5}, "workers: expected an integer, got 1.5"),
        ({"workers": "2"}, "workers: expected an integer, got '2'"),
        ({"resume": "no"}, "resume: expected True or False, got 'no'"),
        ({"overwrite": 1}, "overwrite: expected True or False, got 1"),
        ({"force": None}, "force: expected True or False, got None"),
        ({"keep_states": "yes"}, "keep_states: expected True or False, got 'yes'"),
        (
            {"progres": True},
            "run: expected some of root, workers, .*progress, got .*s'",
        ),
        ({"n_workers": 2}, "run: expected some of .*, got an argument 'n_workers'"),
        ({"only": 3}, "only: expected str, got int"),
        ({"only": ["oi"]}, "only: expected str, got list"),
        ({"root": 3}, "root: expected a path, got 3"),
        ({"root": __file__}, "root: expected a folder, got the file .*test_runner.py"),
    ],
)
def test_arguments_of_a_run_that_make_no_sense(
    how: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ArgumentValueError, ArgumentTypeError), match=f"^{sentence}"):
        tiny_cycled("pf", "enkf").run(**{"root": tmp_path, **how})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_is_not_taken_for_a_failed_cell() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with executor(1) as pool, pytest.raises(KeyboardInterrupt):
        list(pool.run({"interrupted": interrupted}))


def test_a_task_in_this_process_runs_when_it_is_asked_for() -> None:
    begun: list[str] = []
    with executor(1) as pool:
        outcomes = pool.run({name: partial(begun.append, name) for name in "ab"})
        assert next(outcomes) == ("a", None)
        assert begun == ["a"]
        assert next(outcomes) == ("b", None)


def test_the_reason_of_a_failure_is_one_line() -> None:
    assert reason(ResultError("a: is\nb")) == "a: is b"
    assert reason(KeyError("x")) == "KeyError: 'x'"


# What is kept


def test_resume_keeps_what_is_the_same_and_makes_the_rest(tmp_path: Path) -> None:
    Q = [[0.1, 0.05, 0.0], [0.05, 0.1, 0.0], [0.0, 0.0, 0.2]]  # as equal as a number
    experiment = tiny_cycled("pf", data={"Q": Q})
    run(experiment, tmp_path)
    folder = tmp_path / "tiny"
    timing = (folder / "oi" / "timing.json").read_bytes()
    before = contents(folder / "enkf")
    damaged = folder / "enkf" / "metrics.json"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    outcome, notes = run_noted(experiment, tmp_path, resume=True)
    # A damaged result is of ours still, so it is replaced.
    assert outcome.failures == {}
    assert notes["oi"].endswith("kept")
    assert not notes["enkf"].endswith("kept")
    assert (folder / "oi" / "timing.json").read_bytes() == timing
    assert contents(folder / "enkf") == before
    # States that are asked for and not there are made.
    for kept in (False, True):
        _, notes = run_noted(experiment, tmp_path, resume=True, keep_states=True)
        assert notes["oi"].endswith("kept") == kept
        assert (folder / "oi" / "estimates.nc").exists()
    # Without it everything is made again.
    _, notes = run_noted(experiment, tmp_path)
    assert not any(line.endswith("kept") for line in notes.values())


def test_a_result_is_kept_unless_its_data_or_versions_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, three = tiny_cycled("oi", "enkf"), {"3dvar": {"scheme": "3dvar"}}
    tuning = tiny_cycled("oi", "enkf", "pf", methods=three).tuning()
    for experiment in (whole, tuning):
        run(experiment, tmp_path)

    def kept(experiment: Experiment) -> bool:
        _, notes = run_noted(experiment, tmp_path, resume=True)
        [note] = notes.values()
        return note.endswith("kept")

    class Changed:
        """Data of which one split is another."""

        split = ""

        @classmethod
        def opened(cls, path: Path, settings: TwinSettings) -> Any:
            hashes = dict(TwinExperiment.load(path).hashes)
            return type("Twin", (), {"hashes": {**hashes, cls.split: "0" * 64}})

    assert kept(whole)
    assert kept(tuning)
    for experiment, split, remains in (
        (whole, "val", False),
        (whole, "test", False),
        (tuning, "val", False),
        (tuning, "test", True),  # it has not opened that
    ):
        with monkeypatch.context() as patch:
            Changed.split = split
            patch.setattr(runner, "open_data", Changed.opened)
            assert kept(experiment) == remains
    for experiment in (whole, tuning):
        with monkeypatch.context() as patch:
            patch.setattr(runner, "versions", lambda: {"l63fast": "9.9"})
            assert not kept(experiment)


def test_results_of_other_settings_are_refused_and_replaced_when_asked(
    tmp_path: Path,
) -> None:
    experiment = tiny_cycled("pf", "enkf")
    run(experiment, tmp_path)
    folder = tmp_path / "tiny"
    before, data = contents(folder / "oi"), contents(folder / "data" / "xyz")
    others = {
        "n_cycles is 20, not 21": tiny_cycled("pf", "enkf", cycles={"n_cycles": 21}),
        "scheme is oi, not climatology": tiny_cycled(
            "pf", "enkf", methods={"oi": {"scheme": "climatology"}}
        ),
        r"sigma is 1\.0, not 3\.0": tiny_cycled("pf", "enkf", data={"sigma": 3.0}),
        "n_bootstrap is 50, not 60": tiny_cycled(
            "pf", "enkf", scores={"n_bootstrap": 60}
        ),
    }
    for difference, other in others.items():
        for how in ({}, {"resume": True}):  # neither kept as if it were the same
            with pytest.raises(ConfigurationError, match=f"{difference}.*--overwrite"):
                run(other, tmp_path, **how)
    assert contents(folder / "oi") == before
    # Data under finished results are not replaced for other methods either.
    loud = tiny_cycled("oi", "pf", data={"sigma": 3.0})
    with pytest.raises(ConfigurationError, match=r"data of other .*sigma is 1\.0, not"):
        run(loud, tmp_path)
    assert contents(folder / "data" / "xyz") == data
    outcome = run(others[r"sigma is 1\.0, not 3\.0"], tmp_path, overwrite=True)
    assert outcome.failures == {}
    [result] = outcome.results
    assert result.settings.data.sigma == 3.0
    assert TwinExperiment.load(folder / "data" / "xyz").settings.sigma == 3.0


def test_results_of_version_0_1_0_are_not_lost(tmp_path: Path) -> None:
    experiment = tiny_cycled("pf")
    run(experiment, tmp_path)
    folder = tmp_path / "tiny" / "oi"
    of_version_0_1_0(folder)
    before = contents(folder)
    for how in ({}, {"resume": True}, {"force": True}):
        with pytest.raises(ConfigurationError, match=r"l63fast 0\.1\.0.*--overwrite"):
            run(experiment, tmp_path, **how)
        assert contents(folder) == before
    assert run(experiment, tmp_path, overwrite=True).failures == {}
    assert Result.open(folder).metrics["role"] == "method"


@pytest.mark.usefixtures("without_programs")
def test_a_stopped_training_in_cycles_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {**TINY_GRU, "training": {**TINY_GRU["training"], "epochs": 2}}
    experiment = tiny_cycled("oi", "enkf", "pf", methods={"gru": table})
    run(experiment, tmp_path / "whole")
    seen: list[bool] = []
    train = cycled_training.train_cycled

    def watched(*settings: Any, directory: Path, resume: bool, **how: Any) -> Any:
        seen.append(resume and (directory / CHECKPOINT).exists())
        return train(*settings, directory=directory, resume=resume, **how)

    def stopped(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cycled_training, "train_cycled", watched)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_fit_metrics", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(experiment, tmp_path / "again")
    run(experiment, tmp_path / "again", resume=True)
    assert seen == [False, True]
    whole, again = (
        Result.open(tmp_path / name / "tiny" / "gru") for name in ("whole", "again")
    )
    resumed = [one.timing["seconds"]["fit_resumed"] for one in (whole, again)]
    assert resumed == [False, True]
    assert contents(again.directory) == contents(whole.directory)


def test_a_training_of_another_seed_is_refused(tmp_path: Path) -> None:
    with weights_only():
        run(tiny_windows("3dvar"), tmp_path)
    method = {"gru": {"training": {"seed": 1}}}
    with pytest.raises(ConfigurationError, match=r"training\.seed is 0, not 1.*--name"):
        run(tiny_windows("3dvar", methods={**IN_WINDOWS, **method}), tmp_path)


# Tuning


def test_numbers_left_open_are_tuned_without_the_test_split(tmp_path: Path) -> None:
    given = {"3dvar-c": {"scheme": "3dvar", "B": "climatology", "b_scale": 9.0}}
    experiment = tiny_cycled(methods=given)
    tuning = experiment.tuning()
    outcome, notes = run_noted(tuning, tmp_path)
    folder = tmp_path / "tiny-tuning"
    (folder / "data" / "xyz" / "test.nc").unlink()
    assert [r.settings.key for r in outcome.results] == ["enkf", "pf", "3dvar-c"]
    for result in outcome.results:
        metrics = result.metrics
        curve = metrics["tuning"]
        assert metrics["parameter"]["value"] == curve["scale"]
        best = curve["scales"].index(curve["scale"])
        assert curve["scores"][best] == min(curve["scores"]) == curve["score"]
        assert "test" not in metrics["data"]
        assert set(result.manifest.files) == {
            *("config.toml", "metrics.json", "timing.json")
        }
        assert f"{curve['scale']:.4g}" in notes[result.settings.name]
    run_again = tuning.cells()[0]
    module.run_cell(run_again, folder / "data" / "xyz", tmp_path / "new")
    table = (folder / "report" / "tables" / "table.md").read_text()
    assert "particle filter, N=30" in table
    # The experiment itself, with the number left open, finds the same one.
    opened = experiment.only("enkf").to_tables()
    del opened["methods"]["enkf"]["inflation"]
    whole = Experiment.from_tables("tiny", opened, source="a test")
    [result] = run(whole, tmp_path).results
    tuned = json.loads((folder / "enkf" / "metrics.json").read_text())
    assert result.metrics["parameter"] == tuned["parameter"]
    assert result.metrics["tuning"] == tuned["tuning"]


def test_tuning_alone_gives_a_table_of_the_numbers_found(tmp_path: Path) -> None:
    methods = {"enkf": {"scheme": "enkf", "n_members": 5}, "3dvar": {"scheme": "3dvar"}}
    found = tiny_cycled("oi", "pf", methods=methods).tuning().run(tmp_path)
    assert found["method"].tolist() == ["enkf", "3dvar"]
    assert found["parameter"].tolist() == ["inflation", "b"]
    assert (found["lowest"] <= found["tuned"]).all()
    assert found["score"].between(0.0, 10.0).all()
    again = open_results(tmp_path / "tiny-tuning").set_index("method")
    pd.testing.assert_frame_equal(again.loc[found["method"]], found.set_index("method"))


# Workers


@pytest.mark.slow
@pytest.mark.promise("N6", "equal sha256, 1 and 2 workers")
def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    methods = {
        "enkf": {"scheme": "enkf", "n_members": 5, "inflation": 1.1},
        "pf": {"scheme": "pf", "n_particles": 30, "regularisation": 1.5},
    }
    experiment = tiny_windows("3dvar", methods=methods)
    one = run(experiment, tmp_path / "one", n_workers=1)
    two = run(experiment, tmp_path / "two", n_workers=2)
    assert one.failures == two.failures == {}
    assert len(one.results) == 3
    for first, second in zip(one.results, two.results, strict=True):
        assert contents(first.directory) == contents(second.directory)
    untimed = {f"tables/{name}" for name in ("results", "scores", "answer")}
    first, second = (
        {k: v for k, v in contents(report).items() if k.split(".")[0] in untimed}
        for report in (tmp_path / name / "tiny" / "report" for name in ("one", "two"))
    )
    assert first == second
    assert {name.split(".")[0] for name in first} == untimed
