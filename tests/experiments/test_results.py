"""Finished experiments: what cells hold, what tables say, what is not opened."""

from __future__ import annotations

import csv
import io
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l63fast
from experiment_samples import (
    TINY_GRU,
    rows_of,
    tiny_cell,
    tiny_cycled,
    tiny_windows,
    weights_only,
)
from l63fast.errors import DataFileError, ResultError
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.methods import TrainedEncoder
from l63fast.experiments.results import Result, Source, open_results, results_of
from l63fast.experiments.run_cell import problem_of, run_cell
from l63fast.experiments.runner import run_cells
from l63fast.experiments.scoring import Summary
from l63fast.experiments.tables import caption, markdown
from l63fast.learning.export import load_encoder
from l63fast.twin import TwinExperiment
from l63fast.verification import (
    compare,
    nearer,
    rmse,
    rmse_pooled,
    score,
    spread_skill,
)
from report_help import quick_report
from rewritten_results import of_version_0_1_0, rewrite

GRU = {**TINY_GRU, "training": {**TINY_GRU["training"], "epochs": 2}}
MLP = {**GRU, "model": "mlp", "window": 3}
BEST = {"scheme": "optimum", "n_particles": 400, "max_particles": 400}
LOST = {"enkf": {"scheme": "enkf", "n_members": 4, "inflation": 1e200}}


@pytest.fixture(scope="module", autouse=True)
def without_programs() -> Iterator[None]:
    with weights_only():
        yield


def run(experiment: Experiment, root: Path) -> list[Result]:
    """Run an experiment of which no cell fails."""
    outcome = run_cells(experiment.cells(), root / experiment.name)
    assert outcome.failures == {}
    return outcome.results


def table_of(root: Path) -> list[dict[str, str]]:
    text = (root / "tiny" / "report" / "tables" / "scores.csv").read_text()
    return list(csv.DictReader(io.StringIO(text)))


def text_of(results: list[Result]) -> str:
    return markdown(Summary(Source.of(results)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where an experiment in cycles is, which the tests do not change."""
    root = tmp_path_factory.mktemp("cycled")
    run(tiny_cycled(methods={"gru": GRU, "mlp": MLP}), root)
    return root


@pytest.fixture
def done(root: Path) -> dict[str, Result]:
    return {key: Result.open(root / "tiny" / key) for key in
            ("oi", "enkf", "pf", "gru", "mlp")}  # fmt: skip


# Scores


def test_a_cell_is_scored_as_its_cycles_are(
    root: Path, done: dict[str, Result]
) -> None:
    twin = TwinExperiment.load(root / "tiny" / "data" / "xyz")
    truth = twin.test.truth_at_observations[:, 5:]
    for key, result in done.items():
        problem, method = problem_of(result.settings, twin), result.settings.method
        if isinstance(method, TrainedEncoder):
            fitted = method.as_trained(load_encoder(root / "tiny" / key), problem)
        else:
            fitted = method.fit(problem)
        cycles = problem.run(fitted, "test")
        expected = score(cycles.analysis, truth, n_bootstrap=50)
        scores = result.metrics["scores"]
        assert scores["rmse_a"] == expected.rmse_a == rmse(cycles.analysis, truth)
        assert scores["rmse_pooled_a"] == rmse_pooled(cycles.analysis, truth)
        assert scores["ci95"]["rmse_a"] == list(expected.ci95["rmse_a"])
        rows = result.trajectories
        assert rows["rmse_a"].mean() == pytest.approx(expected.rmse_a)
        assert math.sqrt(rows["mse_a"].mean()) == pytest.approx(expected.rmse_pooled_a)
        assert sum(result.metrics["status"].values()) == 5 * 20
    metrics = done["enkf"].metrics
    ranks = np.array(metrics["ranks"]["counts"])
    assert ranks.shape == (3, 6)
    assert (ranks.sum(axis=1) == 5 * 20).all()
    crps = metrics["distribution"]["crps"]
    low, high = crps["ci95"]
    pooled = metrics["scores"]["rmse_pooled_a"]
    assert 0.0 < low < crps["value"] < high < pooled
    assert done["pf"].metrics["ranks"] is None  # a particle filter does whole runs


def test_encoders_are_trained_cycled_and_exported(
    root: Path, done: dict[str, Result]
) -> None:
    rows = rows_of(list(done.values()))
    for key in ("gru", "mlp"):
        result = done[key]
        training = result.metrics["training"]
        assert (training["epochs"], training["updates"]) == (2, 4)
        text = (root / "tiny" / key / "history.csv").read_text()
        assert [row["epoch"] for row in csv.DictReader(io.StringIO(text))] == ["1", "2"]
        assert rows[key].training_seconds > 0.0
        assert rows[key].resumed == 0.0
        assert np.isnan(rows[key].spread_ratio)
    assert [done[key].metrics["label"] for key in ("gru", "mlp")] == [
        *("GRU, carried", "MLP, L=3"),
    ]


def test_decibels_are_of_the_pooled_error(tmp_path: Path) -> None:
    table = {"experiment": {"measure": "decibel"}, "methods": LOST}
    oi, lost = run(tiny_cycled("pf", "enkf", **table), tmp_path)
    rows = rows_of([oi, lost])
    scores = oi.metrics["scores"]
    assert rows["oi"].score == pytest.approx(20 * math.log10(scores["rmse_pooled_a"]))
    assert (rows["oi"].low, rows["oi"].high) == pytest.approx(
        tuple(20 * math.log10(end) for end in scores["ci95"]["rmse_pooled_a"])
    )
    # Of a scheme that diverged they are not a number.
    assert np.isnan([rows["enkf"].score, rows["enkf"].low]).all()
    assert " not finite |" in text_of([oi, lost])


def test_a_scheme_that_diverges_says_so(tmp_path: Path) -> None:
    [result] = run(tiny_cycled("pf", "oi", methods=LOST), tmp_path)
    row = rows_of([result])["enkf"]
    assert math.isnan(row.score)
    assert row.diverged == 1.0
    assert row.rank is None
    assert f"| {row.label} | not finite |" in text_of([result])


def test_scores_and_claims_of_a_mirror_blind_operator(tmp_path: Path) -> None:
    methods = {
        "4dvar": {"scheme": "4dvar", "window": 2, "b_scale": 0.1},
        "best": BEST,
    }
    experiment = tiny_cycled(
        "oi", "enkf", "pf", data={"operator": "x2"}, methods=methods
    )
    results = {r.settings.key: r for r in run(experiment, tmp_path)}
    twin = TwinExperiment.load(tmp_path / "tiny" / "data" / "x2")
    truth = twin.test.truth_at_observations[:, 5:]
    result = results["4dvar"]
    problem = problem_of(result.settings, twin)
    cycles = problem.run(result.settings.method.fit(problem), "test")
    expected = score(cycles.analysis, truth, mirror_aware=True, n_bootstrap=50)
    scores = result.metrics["scores"]
    for name in ("mirror_rmse_a", "rmse_x", "median", "divergence_rate"):
        assert scores[name] == getattr(expected, name)
    assert scores["rmse_x"] != score(cycles.analysis, truth, n_bootstrap=0).rmse_x
    judged = nearer(cycles.analysis, truth)
    skill = spread_skill(judged, cycles.spread, truth, n_bootstrap=50)
    assert result.metrics["spread"]["ratio"] == skill.ratio
    assert result.trajectories["crps"].isna().all()
    rows = rows_of(list(results.values()))
    columns = [results[key].trajectories["mirror_mse_a"] for key in ("4dvar", "best")]
    expected_ratio = compare(*columns, measure="rmse_pooled_a").ratio
    assert rows["4dvar"].ratio_to_optimum == pytest.approx(expected_ratio, rel=1e-12)
    assert rows["4dvar"].mirror_aware


def test_methods_that_rescue_report_the_share_of_it(tmp_path: Path) -> None:
    few = {"scheme": "pf", "n_particles": 30, "regularisation": 1.0}
    experiment = tiny_cycled(
        "enkf",
        methods={"pf": few, "stubborn": {**few, "rescue": False}},
        data={"operator": "x3y3z3", "steps_per_cycle": 5, "Q": 0.01},
    )
    found = {r.settings.key: r.metrics for r in run(experiment, tmp_path)}
    share = found["pf"]["status"]["diverged"] / (5 * 20)
    assert found["pf"]["rescued"] == share > 0.05
    assert found["stubborn"]["status"]["diverged"] > 0
    assert found["stubborn"]["rescued"] is found["oi"]["rescued"] is None


# Seeds and trainings


def test_one_row_for_all_seeds_and_a_rank(tmp_path: Path) -> None:
    results = run(tiny_cycled("pf").vary(seed=[0, 1, 2]), tmp_path)
    rows = rows_of(results)
    assert {row.n_data for row in rows.values()} == {3}
    scores = [
        r.metrics["scores"]["rmse_a"] for r in results if r.settings.key == "enkf"
    ]
    assert rows["enkf"].score == pytest.approx(sum(scores) / 3)
    assert rows["enkf"].low < rows["enkf"].score < rows["enkf"].high
    # Optimal interpolation is worse than an ensemble by far more than seeds differ.
    assert (rows["enkf"].rank, rows["oi"].rank) == (1, 2)
    assert "means over 3 sets of data" in text_of(results)
    assert [row["n_data"] for row in table_of(tmp_path)] == ["3", "3"]


def test_seeds_of_windows_are_repetitions_with_one_row_and_a_rank(
    tmp_path: Path,
) -> None:
    methods: dict[str, Any] = {
        "background": {"scheme": "background"},
        "climatology": {"scheme": "climatology"},
        "optimum": {"scheme": "optimum", "library": 8192},
        "gru": {"training": {"epochs": 1}},
    }
    experiment = tiny_windows(windows={"stride": 2}, methods=methods)
    results = run(experiment.vary(seed=[0, 1, 2]), tmp_path)
    rows = rows_of(results)
    assert set(rows) == {*methods, "3dvar"}
    assert {row.n_data for row in rows.values()} == {3}
    pooled = [
        r.metrics["scores"]["rmse_pooled_a"] for r in results if r.settings.key == "gru"
    ]
    square = sum(one**2 for one in pooled) / 3
    assert rows["gru"].rmse_pooled_a == pytest.approx(square**0.5)
    assert rows["gru"].low < rows["gru"].score
    competing = [rows[name] for name in ("3dvar", "gru")]
    assert min(row.rank for row in competing) == 1
    assert {row.rank for row in rows.values() if row not in competing} == {None}
    assert [row.n_trainings for row in competing] == [0, 3]
    assert rows["3dvar"].ratio_to_optimum > 1.0
    # Each seed has a truth of its own.
    data = tmp_path / "tiny" / "data"
    truths = {TwinExperiment.load(path).hashes["train"] for path in data.iterdir()}
    assert len(truths) == 3


def test_trainings_are_one_row_beside_the_same_filter(tmp_path: Path) -> None:
    methods = {"best": BEST, "gru": TINY_GRU}
    experiment = tiny_cycled("enkf", "pf", methods=methods).vary(training_seed=[0, 1])
    results = run(experiment, tmp_path)
    rows = rows_of(results)
    assert {key: row.n_trainings for key, row in rows.items()} == {
        **{"oi": 0, "best": 0, "gru": 2}
    }
    square = {r.settings.name: r.trajectories["mse_a"].mean() for r in results}
    assert square["gru-t0"] != square["gru-t1"]
    pooled = ((square["gru-t0"] + square["gru-t1"]) / 2) ** 0.5
    assert rows["gru"].rmse_pooled_a == pytest.approx(pooled)
    ratio = pooled / square["best"] ** 0.5
    assert rows["gru"].ratio_to_optimum == pytest.approx(ratio)
    assert rows["gru"].ratio_to_optimum_low < ratio
    assert "means over 2 trainings" in text_of(results)
    # What is read from the folder is the same.
    again = rows_of(Source.open(tmp_path / "tiny").results)
    assert str(again["gru"]) == str(rows["gru"])  # NaN among the numbers


# Tables


def test_one_case_has_two_tables_with_all_methods(done: dict[str, Result]) -> None:
    results = list(done.values())
    rows = rows_of(results)
    scores, claims = text_of(results).split("**losses, claims and costs**")
    assert "| rank | method | rmse_a | 95 % | rmse_pooled_a |" in scores
    order = [scores.index(f"| {row.label} ") for row in rows.values()]
    assert order == sorted(order)
    assert all(f"| {row.label} " in claims for row in rows.values())
    assert "| GRU, carried ¹ |" in scores  # trained once
    assert "| optimal interp. |  |" in claims  # it claims no spread
    assert "/ optimum" not in caption(Summary(Source.of(results)))


def test_several_cases_stand_in_rows(tmp_path: Path) -> None:
    experiment = tiny_cycled("enkf").vary(operator=["x", "x2"], sigma=[1.0, 0.5, 0.2])
    results = run(experiment, tmp_path)
    lines = [line for line in text_of(results).splitlines() if line.startswith("|")]
    titles = lines[0].strip("| ").split(" | ")
    assert titles[:2] == ["observed", "σ"]
    assert sorted(titles[2:]) == ["best", "oi", "pf"]
    assert [tuple(line.split(" | ")[:2]) for line in lines[2:]] == [
        *(("| x", sigma) for sigma in ("0.2", "0.5", "1")),
        *(("| x²", sigma) for sigma in ("0.2", "0.5", "1")),
    ]
    rows = table_of(tmp_path)
    assert len(rows) == 12
    assert {(row["operator"], row["mirror_aware"]) for row in rows} == {
        ("x", "False"),
        ("x2", "True"),
    }
    # The table has what the cells have.
    found = Result.open(tmp_path / "tiny" / "x2_s0.5-pf").metrics["scores"]
    [row] = [
        row
        for row in rows
        if (row["operator"], row["sigma"], row["method"]) == ("x2", "0.5", "pf")
    ]
    assert float(row["score"]) == pytest.approx(found["mirror_rmse_a"])
    assert [float(row[end]) for end in ("low", "high")] == pytest.approx(
        found["ci95"]["mirror_rmse_a"]
    )


def test_the_table_of_windows_says_what_was_observed_and_counted(
    tmp_path: Path,
) -> None:
    experiment = tiny_windows(
        "gru", data={"operator": "x2"}, methods={"background": {"scheme": "background"}}
    )
    text = text_of(run(experiment, tmp_path))
    assert "**x² observed with σ = 1 every 0.1 time units**" in text
    assert "| mirror-aware rmse_pooled_a |" in text
    assert "6 test trajectories, 4 analyses each" in text


def test_what_is_alike_is_told_apart_by_name_or_not_at_all(tmp_path: Path) -> None:
    # Two filters that differ in nothing that matters, and one that is there twice.
    pf = {"scheme": "pf", "n_particles": 30, "regularisation": 1.5}
    methods = {"again": {**pf, "threshold": 0.2001}, "other": {"scheme": "oi"}}
    results = run(tiny_cycled("enkf", methods=methods), tmp_path)
    rows = rows_of(results)
    assert rows["pf"].ties == ("again",)
    assert rows["oi"].rank == 3
    text = text_of(results)
    assert all(f"| 1= | {rows[key].label} |" in text for key in ("pf", "again"))
    for key in ("oi", "other"):
        assert rows[key].label == f"optimal interp. [{key}]"


# What is not opened, and not compared


def copied(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "tiny", tmp_path / "tiny"))


def test_what_is_no_result_is_not_opened(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"of a cell, .*without config\.toml"):
        Result.open(root / "tiny" / "data" / "xyz")
    with pytest.raises(DataFileError, match=r"the experiment is .*tiny$"):
        open_results(root / "tiny" / "oi")
    with pytest.raises(DataFileError, match="one without cells; choose one of tiny"):
        open_results(root)
    with pytest.raises(DataFileError, match="of an experiment, got nothing"):
        open_results(tmp_path / "none")
    with pytest.raises(DataFileError, match=r"oi: expected the states .*--keep_states"):
        _ = Result.open(root / "tiny" / "oi").estimates


@pytest.mark.parametrize("kind", ["cycles", "windows"])
def test_results_of_version_0_1_0_are_named_with_what_to_run(
    kind: str, root: Path, tmp_path: Path
) -> None:
    if kind == "cycles":
        folder = copied(root, tmp_path) / "gru"
    else:
        folder = tmp_path / "tiny" / "3dvar"
        run(tiny_windows("gru"), tmp_path)
    of_version_0_1_0(folder)
    told = r"(gru|3dvar): .*got one of l63fast 0\.1\.0, .*`l63fast experiment`.*--ov"
    with pytest.raises(DataFileError, match=told):
        Result.open(folder)
    if kind == "windows":
        with pytest.raises(DataFileError, match=r"no cell can be read: .*0\.1\.0"):
            open_results(folder.parent)
        return
    source = Source.open(folder.parent)  # the others are opened all the same
    assert set(source.left_out) == {"gru"}
    assert "0.1.0" in source.left_out["gru"]
    assert set(source.cells) == {"oi", "enkf", "pf", "mlp"}


def test_a_result_that_cannot_be_parsed_is_named(root: Path, tmp_path: Path) -> None:
    folder = copied(root, tmp_path) / "oi"
    rewrite(folder, lambda tables, metrics: tables.update(cell=3))
    with pytest.raises(DataFileError, match=r"oi/config\.toml: cell: expected a"):
        Result.open(folder)


def test_opening_imports_no_name_that_stands_in_a_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "planted.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
        "class Model: pass\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    folder = copied(root, tmp_path)

    def in_table(table: str, key: str, name: str) -> Any:
        return lambda tables, metrics: tables[table].__setitem__(key, name)

    rewrite(folder / "gru", in_table("method", "model", "planted:Model"))
    rewrite(folder / "mlp", in_table("method", "scheme", "planted:Model"))
    rewrite(folder / "pf", in_table("method", "scheme", "os:system"))
    rewrite(folder / "enkf", in_table("data", "operator", "planted:Model"))

    def described(tables: dict[str, Any], metrics: dict[str, Any]) -> None:
        metrics.update(label="os:system", role="planted:Model")  # words, and no more

    rewrite(folder / "oi", described)
    for key, message in (
        ("mlp", r"method\.scheme: expected one of .*, got 'planted:Model'"),
        ("pf", r"method\.scheme: expected one of .*, got 'os:system'"),
    ):
        with pytest.raises(DataFileError, match=message):
            Result.open(folder / key)
    results = l63fast.open_results(folder)
    # A model and an operator of somebody's own: names in the table, not looked up.
    assert set(results["cell"]) == {"enkf", "gru", "oi"}
    assert set(results.query("cell == 'oi'")["label"]) == {"os:system"}
    assert set(results["role"]) == {"method"}  # as the method states it
    board = l63fast.scores(results.assign(scheme="planted:Model"), n_bootstrap=20)
    assert "os:system" in set(board["label"])
    text = quick_report(monkeypatch, folder).read_text()
    assert all(f"<td>{key}</td>" in text or key in text for key in ("gru", "mlp"))
    assert "got &#39;os:system&#39;" in text
    assert not (tmp_path / "ran").exists()
    assert "planted" not in sys.modules


@pytest.mark.promise("I18", "refused")
def test_results_of_different_data_are_not_compared(
    root: Path, tmp_path: Path, done: dict[str, Result]
) -> None:
    told = "and .*: expected the same data for seed 0, got different data"
    other = run(tiny_cycled("pf", "enkf", data={"spin_up_time": 10.0}), tmp_path)
    with pytest.raises(ResultError, match=told):
        results_of([done["enkf"], *other])
    # Another error or interval is another case, with data of its own.
    quiet = run(tiny_cycled("pf", "enkf", data={"sigma": 0.5}), tmp_path / "quiet")
    assert set(results_of([done["oi"], *quiet])["sigma"]) == {1.0, 0.5}
    folder = copied(root, tmp_path / "copy") / "oi"
    rewrite(folder, lambda _, metrics: metrics["data"].update(test="of another truth"))
    stranger = Result.open(folder)
    with pytest.raises(ResultError, match=told):
        results_of([stranger, done["enkf"]])
    with pytest.raises(ResultError, match=told):
        open_results(folder.parent)


def test_a_cell_of_windows_is_opened_like_one_of_cycles(tmp_path: Path) -> None:
    cell = tiny_cell(method={"training": {"epochs": 1}})
    TwinExperiment.generate(cell.data).save(tmp_path / "data")
    run_cell(cell, tmp_path / "data", tmp_path / "tiny" / "gru")
    results = open_results(tmp_path / "tiny")
    assert list(results["trajectory"]) == list(range(6))
    assert set(results["scheme"]) == {"encoder"}
    assert results.attrs["folder"] == str(tmp_path / "tiny")
