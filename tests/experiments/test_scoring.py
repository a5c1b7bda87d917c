"""Scores from the table of results: who competes, who ties, what an optimum is not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import golden_results
from experiment_samples import tiny_cycled
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.experiments import scoring
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.protocols import DISTRIBUTION
from l63fast.experiments.report import write_summary
from l63fast.experiments.results import (
    SMOOTHED_MEANS,
    TIMES,
    Source,
    open_results,
)
from l63fast.experiments.scoring import scores
from planted_results import HOW, N, method


def scored(*methods: pd.DataFrame, measure: str = "rmse_a") -> pd.DataFrame:
    found = scores(pd.concat(methods, ignore_index=True), measure, **HOW)
    return found.set_index("method")


def test_only_methods_compete_and_the_best_stands_first() -> None:
    found = scored(
        method("3dvar", 0.9),
        method("optimum", 0.1, role="optimum"),
        method("climatology", 0.2, role="baseline"),
        method("pf", 0.3),
    )
    assert list(found.index) == ["optimum", "climatology", "pf", "3dvar"]
    assert (found.loc["pf", "rank"], found.loc["3dvar", "rank"]) == (1, 2)
    assert found.loc[["optimum", "climatology"], "rank"].isna().all()
    assert (found["ties"] == ()).all()
    assert found.loc["pf", "ratio_to_3dvar"] == pytest.approx(1 / 3)
    assert found.loc["pf", "ratio_to_optimum"] == pytest.approx(3.0, rel=1e-3)
    assert np.isnan(found.loc["climatology", "lost"])  # it defines when others are


def test_what_cannot_be_told_from_the_best_shares_its_rank() -> None:
    found = scored(
        method("a", 0.300, noise=0.3), method("b", 0.302, noise=0.3), method("c", 0.9)
    )
    assert found["rank"].to_dict() == {"a": 1, "b": 1, "c": 3}
    assert found.loc["a", "ties"] == ("b",)


@pytest.mark.parametrize(
    ("trainings", "score", "ranks"),
    [
        ((1, 1), 0.303, (1, 1)),
        ((1, 3), 0.303, (1, 1)),
        ((3, 3), 0.303, (1, 2)),
        ((1, 1), 0.309, (1, 2)),
        ((1, 0), 0.303, (1, 2)),
        ((0, 0), 0.303, (1, 2)),
    ],
)
def test_networks_of_one_training_are_not_ranked_by_less_than_trainings_differ(
    trainings: tuple[int, int], score: float, ranks: tuple[int, int]
) -> None:
    found = scored(
        method("a", 0.3, trainings=trainings[0], noise=0.001),
        method("b", score, trainings=trainings[1], noise=0.001),
        measure="rmse_pooled_a",
    )
    assert tuple(found["rank"]) == ranks
    assert tuple(found["n_trainings"]) == trainings


def test_an_optimum_that_a_method_beats_is_not_settled() -> None:
    optimum = method("optimum", 0.3, role="optimum")
    beaten = scored(optimum, method("extkf", 0.2))
    assert beaten.loc["optimum", "role"] == "not settled"
    assert beaten["ratio_to_optimum"].isna().all()
    for other in (
        method("extkf", 0.4),
        method("gru", 0.2999, noise=0.3),  # by luck
        method("climatology", 0.1, role="baseline"),
    ):
        assert scored(optimum, other).loc["optimum", "role"] == "optimum"


def test_the_optimum_bounds_no_method_that_begins_at_another_observation() -> None:
    optimum = method("optimum", 0.3, role="optimum", start="last")
    gru, enkf = method("gru", 0.4, start="last"), method("enkf", 0.2, start="first")
    found = scored(optimum, gru, enkf)
    assert found.loc["optimum", "role"] == "optimum"
    assert found.loc["gru", "ratio_to_optimum"] == pytest.approx(4 / 3, rel=1e-2)
    ends = ["ratio_to_optimum", "ratio_to_optimum_low", "ratio_to_optimum_high"]
    assert found.loc["enkf", ends].isna().all()
    assert (found.loc["enkf", "rank"], found.loc["gru", "rank"]) == (1, 2)
    # Planted: the same errors from the background of the last observation beat it.
    beaten = scored(optimum, gru, enkf.assign(start="last"))
    assert beaten.loc["optimum", "role"] == "not settled"
    assert beaten[ends].isna().all(axis=None)


def test_rare_losses_are_marked_and_have_no_rank() -> None:
    enkf = method("enkf", 0.3)
    enkf.loc[3, ["rmse_a", "mirror_rmse_a"]] = 9.0
    enkf.loc[3, ["mse_a", "mirror_mse_a"]] = 81.0
    found = scored(enkf, method("3dvar", 0.9))
    assert pd.isna(found.loc["enkf", "rank"])
    assert found.loc["enkf", "rare_losses"]
    assert found.loc["enkf", "lost"] == 1 / N
    assert found.loc["enkf", "lost_low"] < 1 / N < found.loc["enkf", "lost_high"]
    assert found.loc["enkf", "median"] == pytest.approx(0.3, rel=0.1)
    assert found.loc["3dvar", ["rank", "worst_rank"]].tolist() == [1, 2]


def test_what_was_tried_on_fewer_trajectories_is_compared_on_those() -> None:
    optimum = method("optimum", 0.2, role="optimum", n=20)
    gru = method("gru", 0.3)
    found = scored(optimum, gru)
    square = [table["mse_a"][:20].mean() for table in (gru, optimum)]
    expected = (square[0] / square[1]) ** 0.5
    assert found.loc["gru", "ratio_to_optimum"] == pytest.approx(expected)
    assert found.loc["gru", "n_trajectories"] == N
    stranger = method("optimum", 0.2, role="optimum", data="another")
    assert np.isnan(scored(stranger, gru).loc["gru", "ratio_to_optimum"])


def test_trajectories_are_paired_by_their_numbers() -> None:
    fewer = method("gru", 0.3).drop(index=range(30))  # tried on the last ones
    found = scored(fewer, method("3dvar", 0.6))
    rmse = [
        table["rmse_a"][30:].mean()
        for table in (method("gru", 0.3), method("3dvar", 0.6))
    ]
    assert found.loc["gru", "ratio_to_3dvar"] == pytest.approx(rmse[0] / rmse[1])


def test_a_winner_is_better_than_every_other_method() -> None:
    gru, oi = method("gru", 0.3), method("oi", 0.5)
    assert scored(gru, oi)["wins"].to_dict() == {"gru": True, "oi": False}
    assert not scored(gru)["wins"].any()  # than none
    diverged = method("pf", 0.1).assign(rmse_a=np.nan, mse_a=np.nan, diverged=1.0)
    assert scored(gru, diverged)["wins"].to_dict() == {"gru": True, "pf": False}
    rare = method("enkf", 0.1)
    rare.loc[3, ["rmse_a", "mirror_rmse_a"]] = 9.0
    rare.loc[3, ["mse_a", "mirror_mse_a"]] = 81.0
    found = scored(gru, oi, rare)
    assert found.loc["gru", "rank"] == 1
    assert not found["wins"].any()  # the one without a rank may be better
    assert found.loc["oi", "ratio_to_best"] == pytest.approx(5 / 3)


def test_of_two_optima_the_lower_one_is_nearest() -> None:
    optima = [method(f"best-{s}", s, role="optimum") for s in (0.25, 0.2)]
    found = scored(*optima, method("gru", 0.3))
    assert found.loc["gru", "ratio_to_optimum"] == pytest.approx(1.5, rel=0.01)
    beaten = scored(*optima, method("gru", 0.1))
    assert set(beaten["role"]) == {"method", "not settled"}


def test_a_table_that_cannot_be_scored_is_refused() -> None:
    gru = method("gru", 0.3)
    for table, versus, said in (
        (gru.drop(columns="data"), "3dvar", "without data"),
        (gru.iloc[:0], "3dvar", "without rows"),
        (pd.concat([gru, gru]), "3dvar", "got some twice"),
        (gru, "gur", "versus: expected one of gru, got 'gur'"),
    ):
        with pytest.raises(ArgumentValueError, match=said):
            scores(table, versus=versus)
    with pytest.raises(
        ArgumentTypeError,
        match=r"^results: .* table of open_results\(\.\.\.\), got str",
    ):
        scores("results/mine")  # type: ignore[arg-type]


def test_decibels_are_of_the_pooled_error() -> None:
    found = scored(method("a", 0.1), method("b", 1.0), measure="decibel")
    pooled = found["rmse_pooled_a"].to_numpy()
    assert found["score"].to_numpy() == pytest.approx(20.0 * np.log10(pooled))
    for gone in ("rms", "pool"):
        with pytest.raises(ArgumentValueError, match="measure: expected one of rmse_a"):
            scores(method("a", 0.1), gone)


METHODS = {
    "climatology": {"scheme": "climatology"},
    "3dvar": {"scheme": "3dvar", "b_scale": 0.1, "B": "climatology"},
    "best": {"scheme": "optimum", "n_particles": 400, "max_particles": 400},
}


def tiny(*names: str) -> Experiment:
    methods = {name: METHODS[name] for name in names}
    return tiny_cycled("oi", "enkf", methods=methods)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scored")
    tiny("climatology", "3dvar", "best").run(root)
    return root / "tiny"


def test_one_ranking_in_every_table(finished: Path) -> None:
    frame = open_results(finished)
    found = scores(frame, n_bootstrap=50).set_index("method")
    ranks = {"best": None, "pf": 1, "3dvar": 2, "climatology": None}
    assert {k: None if pd.isna(r) else r for k, r in found["rank"].items()} == ranks
    tables = finished / "report" / "tables"
    with (tables / "scores.csv").open() as file:
        board = {line["method"]: line["rank"] for line in csv.DictReader(file)}
    assert board == {k: "" if rank is None else str(rank) for k, rank in ranks.items()}
    latex = (tables / "scores.tex").read_text()
    assert latex.count(r"\textbf") == 3
    assert r"\textbf{1} & \textbf{particle filter, N=30}" in latex
    lines = (tables / "table.md").read_text().splitlines()
    shown = [line.split(" | ")[0].strip("| ") for line in lines[4:8]]
    assert shown == ["", "1", "2", ""]
    answer = (tables / "answer.txt").read_text()
    assert answer.startswith("tiny: Particle filter, N=30 wins: ")
    again = pd.read_csv(tables / "results.csv", keep_default_na=False)
    assert again["rmse_a"].to_numpy() == pytest.approx(frame["rmse_a"].to_numpy())


def test_without_an_optimum_no_distance_to_one_is_given(tmp_path: Path) -> None:
    results = tiny("climatology", "3dvar").run(tmp_path)
    found = scores(results, n_bootstrap=50).set_index("method")
    assert found["ratio_to_optimum"].isna().all()
    assert found.loc["pf", "rank"] == 1
    table = tmp_path / "tiny" / "report" / "tables" / "table.md"
    assert "/ optimum" not in table.read_text()


def test_a_filter_that_a_method_beats_is_called_not_settled(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring._Case, "_is_beaten", lambda case, optimum: True)
    write_summary(scoring.Summary(Source.open(finished)), tmp_path / "report")
    tables = tmp_path / "report" / "tables"
    answer = (tables / "answer.txt").read_text()
    assert "the optimum is not known: a method beats the computed optimum" in answer
    table = (tables / "table.md").read_text()
    assert "| not settled |" in table
    assert "optimum (N" not in table


def test_only_methods_with_smoothed_states_are_ranked_by_them() -> None:
    enkf, pf = method("enkf", 0.5), method("pf", 0.3)
    for table, factor in ((enkf, 0.5), (pf, 0.9)):
        for name in SMOOTHED_MEANS:
            table[name] = factor * table[name.removesuffix("s") + "a"]
    everything = (method("3dvar", 0.9), enkf, pf)
    found = scored(*everything, measure="rmse_s")
    assert list(found.index) == ["enkf", "pf"]
    assert found["score"].tolist() == pytest.approx([0.25, 0.27], rel=0.05)
    beside = scored(*everything)
    assert beside["rmse_s"].dropna().to_dict() == found["score"].to_dict()
    assert list(beside.index) == ["pf", "enkf", "3dvar"]
    with pytest.raises(ArgumentValueError, match="expected smoothed states"):
        scored(method("3dvar", 0.9), measure="rmse_s")


@pytest.mark.parametrize(("name", "measure"), golden_results.GOLDEN.items())
def test_finished_results_are_scored_as_before(name: str, measure: str) -> None:
    found = golden_results.scored(golden_results.read(name), measure)
    expected = golden_results.read(f"{name}_scores")
    # What scores of 0.1.0 had besides; start is new, and empty in their results.
    gone = {"states", "crps"}
    of_distributions = [
        f"{name}{end}"
        for name in (*DISTRIBUTION, "crps_to_optimum")
        for end in ("", "_low", "_high")
    ]
    added = {"start", "rmse_s", "lag", "worst_rank", *of_distributions}
    assert [c for c in found if c not in added] == [
        c for c in expected if c not in {*gone, *added, "missing", *TIMES}
    ]
    numbers = expected.select_dtypes("number").columns
    for column in found.columns.intersection(expected.columns):
        old, new = expected[column].tolist(), found[column].tolist()
        if column in numbers:
            new = [float("nan") if value is pd.NA else float(value) for value in new]
            assert new == pytest.approx(old, rel=1e-12, nan_ok=True), column
        else:
            assert new == old, column
