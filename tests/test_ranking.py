"""The ranking of methods: who competes, who ties, and what an optimum must not be."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cycled_samples import tiny_cycled
from l63fast.experiments.cycled.rows import cycled_rows
from l63fast.experiments.ranking import Candidate, Place, beaten_optimum, ranking
from l63fast.experiments.reporting import write_report
from l63fast.experiments.runner import run_experiment

HOW = {"n_bootstrap": 200, "seed": 0}


def candidate(
    name: str,
    score: float,
    *,
    role: str = "method",
    trainings: int | None = None,
    noise: float = 0.02,
) -> Candidate:
    """Return a method whose error is about `score` on each of 80 trajectories."""
    hard = np.random.default_rng(0).normal(1.0, 0.2, 80)
    own = np.random.default_rng(sum(map(ord, name))).normal(1.0, noise, 80)
    rms = score * hard * own / (hard * own).mean()
    block = np.stack([rms, rms**2], axis=1)[None]
    return Candidate(name, role, {"data": block}, trainings)


def test_only_methods_compete() -> None:
    places = ranking(
        [
            candidate("optimum", 0.1, role="optimum"),
            candidate("climatology", 0.2, role="baseline"),
            candidate("particles", 0.3),
            candidate("3D-Var", 0.9),
        ],
        "rms",
        **HOW,
    )
    assert places["particles"] == Place(1)
    assert places["particles"].is_best
    assert places["3D-Var"] == Place(2)
    assert places["optimum"] == places["climatology"] == Place(None)


def test_what_cannot_be_told_from_the_best_shares_its_rank_and_nobody_wins() -> None:
    a, b = candidate("a", 0.300, noise=0.3), candidate("b", 0.302, noise=0.3)
    places = ranking([a, b, candidate("c", 0.9)], "rms", **HOW)
    assert {name: place.rank for name, place in places.items()} == {
        "a": 1,
        "b": 1,
        "c": 3,
    }
    assert places["a"].ties == ("b",)
    assert not any(place.is_best for place in places.values())


@pytest.mark.parametrize(
    ("trainings", "score", "ranks"),
    [
        ((1, 1), 0.303, (1, 1)),
        ((1, 3), 0.303, (1, 1)),
        ((3, 3), 0.303, (1, 2)),
        ((1, 1), 0.309, (1, 2)),
        ((1, None), 0.303, (1, 2)),
        ((None, None), 0.303, (1, 2)),
    ],
)
def test_networks_of_one_training_are_not_ranked_by_less_than_trainings_differ(
    trainings: tuple[int | None, int | None],
    score: float,
    ranks: tuple[int, int],
) -> None:
    pair = [
        candidate("a", 0.3, trainings=trainings[0], noise=0.001),
        candidate("b", score, trainings=trainings[1], noise=0.001),
    ]
    places = ranking(pair, "pool", **HOW)
    assert (places["a"].rank, places["b"].rank) == ranks


def test_an_optimum_that_a_method_beats_is_none() -> None:
    optimum = candidate("optimum", 0.3, role="optimum")
    assert beaten_optimum([optimum, candidate("ExtKF", 0.2)], **HOW) == "ExtKF"
    assert beaten_optimum([optimum, candidate("ExtKF", 0.4)], **HOW) is None
    near = candidate("GRU", 0.2999, noise=0.3)
    assert beaten_optimum([optimum, near], **HOW) is None  # by luck
    worse = candidate("climatology", 0.1, role="baseline")
    assert beaten_optimum([optimum, worse], **HOW) is None


METHODS = {
    "climatology": {"scheme": "climatology"},
    "3dvar": {"scheme": "3dvar", "b_scale": 0.1, "B": "climatology"},
    "best": {"scheme": "optimum", "n_particles": 400, "max_particles": 400},
    "few": {"scheme": "optimum", "n_particles": 4, "max_particles": 4},
}
CLASSICAL = tuple(METHODS)[:2]


def tiny(*names: str, **tables: object) -> object:
    methods = {name: METHODS[name] for name in names}
    return tiny_cycled("oi", "enkf", methods=methods, **tables)


def test_one_ranking_in_every_table(tmp_path: Path) -> None:
    outcome = run_experiment(tiny(*CLASSICAL, "best"), tmp_path)
    assert outcome.failures == {}
    rows = {row.key: row for row in cycled_rows(outcome.results)}
    assert (rows["pf"].rank, rows["3dvar"].rank) == (1, 2)
    assert rows["climatology"].rank is None
    assert np.isnan(rows["climatology"].diverged)  # it defines when others do
    assert rows["best"].role == "optimum"
    assert rows["3dvar"].over_optimum > rows["pf"].over_optimum > 1.0
    write_report(tmp_path / "tiny")
    tables = tmp_path / "tiny" / "report" / "tables"
    with (tables / "leaderboard.csv").open() as file:
        board = {line["method"]: line["rank"] for line in csv.DictReader(file)}
    assert board == {
        "optimum": "",
        "particle filter, N=30": "1",
        "3D-Var, b C": "2",
        "climatology": "",
    }
    latex = (tables / "leaderboard.tex").read_text()
    assert latex.count(r"\textbf") == 3
    assert r"\textbf{1} & \textbf{particle filter, N=30}" in latex
    answer = (tables / "answer.txt").read_text()
    assert answer.startswith("tiny: Particle filter, N=30 wins: ")


def test_without_an_optimum_no_distance_to_one_is_given(tmp_path: Path) -> None:
    outcome = run_experiment(tiny(*CLASSICAL), tmp_path)
    rows = {row.key: row for row in cycled_rows(outcome.results)}
    assert all(np.isnan(row.over_optimum) for row in rows.values())
    assert rows["pf"].rank == 1
    assert outcome.summary is not None
    assert "optimum" not in (outcome.summary / "table.md").read_text().split("\n*")[0]


def test_a_filter_that_a_method_beats_is_called_not_settled(tmp_path: Path) -> None:
    outcome = run_experiment(tiny("3dvar", "few"), tmp_path)
    rows = {row.key: row for row in cycled_rows(outcome.results)}
    assert (rows["few"].role, rows["few"].method) == (
        "not settled",
        "not settled (N=4)",
    )
    assert all(np.isnan(row.over_optimum) for row in rows.values())
    write_report(tmp_path / "tiny")
    tables = tmp_path / "tiny" / "report" / "tables"
    answer = (tables / "answer.txt").read_text()
    assert "the optimum is not known: a method beats the particle filter" in answer
    with (tables / "leaderboard.csv").open() as file:
        roles = {line["role"] for line in csv.DictReader(file)}
    assert roles == {"method", "not settled"}
