"""Cycled experiments: methods on shared data, scored, beside published scores."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cycled_samples import rows_of, tiny_cycled
from experiment_samples import contents
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.particle import ParticleFilter
from l63fast.errors import ConfigurationError, DataFileError
from l63fast.experiments.cycled import optimum
from l63fast.experiments.cycled.cell import problem_of
from l63fast.experiments.cycled.methods import METHODS, method_from_table
from l63fast.experiments.cycled.problem import CycledProblem
from l63fast.experiments.cycled.published import PUBLISHED, published_for, verdict
from l63fast.experiments.cycled.reading import experiment_from_tables
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.tuning import TunedResult, tuning_of
from l63fast.experiments.presets import PRESETS, with_preset
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.source import Source
from l63fast.experiments.tables import Summary, caption, markdown
from l63fast.twin import TwinExperiment
from l63fast.verification import score

CYCLED = [name for name, tables in PRESETS.items() if "methods" in tables]


def preset(name: str, **tables: dict[str, Any]) -> Any:
    return experiment_from_tables(name, with_preset(name, tables), source="the preset")


def tiny_twin() -> TwinExperiment:
    return TwinExperiment.generate(tiny_cycled().cells()[0].data)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CycledResult]]:
    root = tmp_path_factory.mktemp("cycled")
    outcome = run_experiment(tiny_cycled(), root)
    assert outcome.failures == {}
    return root / "tiny", outcome.results


@pytest.mark.parametrize("name", CYCLED)
def test_a_preset_is_nothing_but_a_toml_file(name: str) -> None:
    experiment = preset(name)
    tables = tomllib.loads(experiment.to_toml())
    again = experiment_from_tables(name, tables, source="its own TOML")
    assert again == experiment
    assert {m.scheme for m in experiment.methods.values()} <= set(METHODS)
    cells = experiment.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({cell.data for cell in cells}) == len(experiment.cases())


def test_grid_is_what_the_issue_asks_for() -> None:
    cases = preset("grid").cases().values()
    assert {data.operator for data in cases} == {"x", "xy", "xyz", "x2"}
    assert {data.sigma for data in cases} == {0.1, 0.5, 1.0}
    assert {data.steps_per_cycle * data.dt for data in cases} == {0.1, 0.25}
    assert len(cases) == 24


def test_model_error_follows_the_observation_error() -> None:
    cases = preset("knet").cases().values()
    assert [data.Q / data.sigma**2 for data in cases] == pytest.approx([0.01] * 5)


def test_trajectories_are_as_long_as_the_cycles() -> None:
    cell = tiny_cycled(cycle={"burn_in": 0.51, "n_cycles": 7}).cells()[0]
    assert cell.cycle.burn_in_cycles(cell.data) == 6  # 0.51 is more than 5 of 0.1
    assert cell.data.n_steps == (6 + 7) * 10
    assert cell.data.save_every == 10


def test_every_method_of_the_published_presets_has_its_score_beside_it() -> None:
    found = {
        name: {cell.key: published_for(cell) for cell in preset(name).cells()}
        for name in ("sakov2012", "wiljes2017")
    }
    without = {
        name: [key for key, published in cells.items() if published is None]
        for name, cells in found.items()
    }
    ours = ["3dvar", "4dvar-4", "4dvar-8"]
    assert without["sakov2012"] == ours
    assert set(without["wiljes2017"]) == {
        *ours,
        *("climatology", "extkf", "enkf-30", "pf-1000", "pf-4000"),
    }
    knet = [cell for cell in preset("knet").cells() if cell.key == "extkf"]
    values = [p.paper for cell in knet if (p := published_for(cell))]
    assert values == [-10.45, -20.37, -30.40, -40.39, -49.89]
    # Every value is found by some cell: none stands there for settings nobody runs.
    assert sum(p is not None for cells in found.values() for p in cells.values()) + len(
        values
    ) == len(PUBLISHED)


def test_a_published_score_stands_beside_its_own_settings_only() -> None:
    def beside(**table: Any) -> float:
        method = {"scheme": "pf", "threshold": 0.3, **table}
        other = preset("wiljes2017", methods={"mine": method})
        found = published_for(other.only(["mine"]).cells()[0])
        return math.nan if found is None else found.file

    assert beside(n_particles=35, regularisation=1.4) == 2.05
    assert math.isnan(beside(n_particles=4000, regularisation=1.4))
    assert math.isnan(beside(n_particles=35))  # tuned
    assert math.isnan(beside(n_particles=35, regularisation=1.4, threshold=0.2))


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"sigma": 1.0}},
        {"data": {"operator": "xy"}},
        {"data": {"steps_per_cycle": 10}},
        {"data": {"Q": 0.1}},
        {"data": {"parameters": {"rho": 30.0}}},
        {"data": {"dt": 0.005, "steps_per_cycle": 50}},
        {"experiment": {"measure": "pool"}},
        {"cycle": {"burn_in": 1.0}},
        {"methods": {"enkf": {"scheme": "enkf", "n_members": 10, "inflation": 5.0}}},
        {"methods": {"enkf": {"scheme": "enkf", "n_members": 11, "inflation": 1.02}}},
        {"methods": {"enkf": {"scheme": "enkf", "n_members": 10, "rotation": False}}},
    ],
)
def test_other_settings_have_no_published_score(change: dict[str, Any]) -> None:
    [same] = preset("sakov2012").only(["enkf-10"]).cells()
    assert published_for(same) is not None
    # More or longer trajectories of another seed are the same experiment.
    more = dataclasses.replace(same.data, n_test=7, seed=9)
    assert published_for(dataclasses.replace(same, data=more)) is not None
    other = preset("sakov2012", **change)
    keys = ["enkf"] if "methods" in change else ["enkf-10"]
    assert published_for(other.only(keys).cells()[0]) is None


@pytest.mark.parametrize(
    ("value", "word"),
    [
        # 0.57 and 0.60, each give or take hypot(0.03, 1.96 * 0.02) + 0.005 = 0.054.
        *((0.585, "within"), (0.518, "within"), (0.514, "lower"), (0.653, "within")),
        *((0.656, "higher"), (math.nan, "diverged")),
    ],
)
def test_published_values_widen_by_both_errors(value: float, word: str) -> None:
    published = next(p for p in PUBLISHED if (p.file, p.rerun) == (0.60, 0.57))
    assert verdict(published, value, value - 0.03, value + 0.03) == word


def test_without_an_interval_there_is_no_verdict() -> None:
    assert verdict(PUBLISHED[1], 4.0, math.nan, math.nan) == ""


def test_a_cell_is_scored_as_its_cycles_are(
    done: tuple[Path, list[CycledResult]],
) -> None:
    folder, results = done
    twin = TwinExperiment.load(folder / "data" / "xyz")
    for result in results:
        problem = problem_of(result.settings, twin)
        prepared = result.settings.method.prepare(problem, measure="rms")
        cycles = problem.run(prepared.scheme, "test")
        truth = twin.test.truth_at_observations[:, 5:]
        expected = score(cycles.analysis, truth, n_bootstrap=50)
        scores = result.metrics["scores"]
        assert scores["rms"] == expected.rms
        assert scores["pool"] == expected.pool
        assert scores["ci95"]["rms"] == list(expected.ci95["rms"])
        assert result.trajectories["rms"].mean() == pytest.approx(expected.rms)
        assert math.sqrt(result.trajectories["square"].mean()) == pytest.approx(
            expected.pool
        )
        assert sum(result.metrics["status"].values()) == 5 * 20
    ranks = np.array(results[1].metrics["ranks"]["counts"])
    assert ranks.shape == (3, 6)
    assert (ranks.sum(axis=1) == 5 * 20).all()
    members = results[1].metrics["crps"]
    low, high = members["ci95"]
    assert 0.0 < low < members["crps"] < high < results[1].metrics["scores"]["pool"]
    assert "ranks" not in results[2].metrics  # a particle filter does whole runs


def test_every_method_starts_from_the_same_backgrounds(
    done: tuple[Path, list[CycledResult]],
) -> None:
    twin = TwinExperiment.load(done[0] / "data" / "xyz")
    starts = [problem_of(r.settings, twin).start("test")["initial"] for r in done[1]]
    assert all(np.array_equal(start, starts[0]) for start in starts)
    error = starts[0] - twin.test.initial_state
    assert 0.5 < error.std() / 1.5 < 1.7


def test_results_do_not_depend_on_the_run_or_the_workers(
    done: tuple[Path, list[CycledResult]], tmp_path: Path
) -> None:
    outcome = run_experiment(tiny_cycled(), tmp_path, n_workers=2)
    assert outcome.failures == {}
    for key in ("oi", "enkf", "pf"):
        assert contents(tmp_path / "tiny" / key) == contents(done[0] / key)


def test_a_finished_cell_is_kept_on_resume_and_others_are_refused(
    tmp_path: Path,
) -> None:
    few = tiny_cycled("pf", "enkf")
    run_experiment(few, tmp_path)
    notes: list[str] = []
    run_experiment(few, tmp_path, resume=True, note=lambda _, line: notes.append(line))
    assert notes[0].endswith("kept")
    with pytest.raises(ConfigurationError, match="n_cycles is 20, not 21"):
        run_experiment(tiny_cycled(cycle={"n_cycles": 21}), tmp_path)
    other = tiny_cycled(methods={"oi": {"scheme": "climatology"}})
    with pytest.raises(ConfigurationError, match="scheme is oi, not climatology"):
        run_experiment(other, tmp_path)


def test_one_case_has_two_tables_with_all_methods(
    done: tuple[Path, list[CycledResult]],
) -> None:
    rows = rows_of(done[1])
    summary = Summary(Source.of(done[1]))
    scores, claims = markdown(summary).split("**losses, claims and costs**")
    assert "| rank | method | rmse_a | 95 % | rmse_pooled_a |\n" in scores
    order = [scores.index(f"| {row.label} |") for row in rows.values()]
    assert order == sorted(order)
    assert all(f"| {row.label} |" in claims for row in rows.values())
    assert "| optimal interp. |  |" in claims  # it claims no spread
    assert "/ optimum" not in caption(summary)


def test_several_cases_stand_in_rows(tmp_path: Path) -> None:
    axes = {"operators": ["x", "x2"], "sigmas": [1.0, 0.5, 0.2]}
    outcome = run_experiment(tiny_cycled("enkf", experiment=axes), tmp_path)
    assert outcome.report is not None
    text = markdown(Summary(Source.of(outcome.results)))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    titles = lines[0].strip("| ").split(" | ")
    assert titles[:2] == ["observed", "σ"]
    assert sorted(titles[2:]) == ["best", "oi", "pf"]
    assert [tuple(line.split(" | ")[:2]) for line in lines[2:]] == [
        *(("| x", sigma) for sigma in ("0.2", "0.5", "1")),
        *(("| x²", sigma) for sigma in ("0.2", "0.5", "1")),
    ]
    table = outcome.report / "tables" / "scores.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert len(rows) == 12
    assert {(row["operator"], row["mirror_aware"]) for row in rows} == {
        ("x", "False"),
        ("x2", "True"),
    }


def test_a_scheme_that_diverges_says_so(tmp_path: Path) -> None:
    lost = {"enkf": {"scheme": "enkf", "n_members": 4, "inflation": 1e200}}
    experiment = tiny_cycled("pf", "oi", methods=lost)
    [result] = run_experiment(experiment, tmp_path).results
    row = rows_of([result])["enkf"]
    assert math.isnan(row.score)
    assert row.diverged == 1.0
    assert row.rank is None
    text = markdown(Summary(Source.of([result])))
    assert f"| {row.label} | diverged |" in text


def test_decibels_are_of_the_pool(tmp_path: Path) -> None:
    experiment = tiny_cycled("pf", "enkf", experiment={"measure": "decibel"})
    [result] = run_experiment(experiment, tmp_path).results
    row = rows_of([result])["oi"]
    pool = result.metrics["scores"]["pool"]
    assert row.score == pytest.approx(20.0 * math.log10(pool))
    low, high = result.metrics["scores"]["ci95"]["pool"]
    assert (row.low, row.high) == pytest.approx(
        (20.0 * math.log10(low), 20.0 * math.log10(high))
    )


def test_the_optimum_is_doubled_until_its_score_settles(tmp_path: Path) -> None:
    def stages(**settings: Any) -> Any:
        table = {"scheme": "optimum", "n_particles": 20, **settings}
        experiment = tiny_cycled("oi", "enkf", "pf", methods={"optimum": table})
        [result] = run_experiment(experiment, tmp_path / str(len(settings))).results
        return result.metrics

    metrics = stages(max_particles=80, tolerance=1e-9)
    found = metrics["convergence"]
    assert [s["n_particles"] for s in found["stages"]] == [20, 40, 80]
    assert found["settled"] is False
    assert metrics["label"] == "optimum (N>80)"  # not settled
    widths = [s["regularisation"] for s in found["stages"]]
    assert widths == sorted(widths, reverse=True)
    assert metrics["parameter"]["value"] == widths[-1]
    few = stages(max_particles=80, tolerance=1e-9, n_trajectories=2)
    problem = problem_of(tiny_cycled().cells()[0], twin := tiny_twin())
    fewer = problem.with_validation(2).twin
    assert np.array_equal(fewer.val.observations, twin.val.observations[:2])
    assert few["convergence"]["stages"][0]["score"] != found["stages"][0]["score"]
    metrics = stages(tolerance=10.0)
    assert [s["n_particles"] for s in metrics["convergence"]["stages"]] == [20, 40, 80]
    assert metrics["convergence"]["settled"] is True


def settled(
    problem: CycledProblem, *, max_particles: int
) -> tuple[ParticleFilter, optimum.Convergence]:
    """Return the optimum, begun at ten particles with regularisation 0.8."""
    return optimum.converged(
        ParticleFilter(**problem.filter, n_particles=10, regularisation=0.8),
        problem,
        measure="rms",
        max_particles=max_particles,
        tolerance=0.005,
    )


def test_one_step_that_changes_nothing_may_be_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = iter([1.0, 1.001, 0.97, 0.971, 0.972, 0.5])
    monkeypatch.setattr(
        optimum,
        "_best",
        lambda scheme, *_: optimum.Stage(scheme.n_particles, 0.5, next(scores), 1.0),
    )
    problem = problem_of(tiny_cycled().cells()[0], tiny_twin())
    scheme, found = settled(problem, max_particles=10_000)
    assert scheme.n_particles == 160
    assert [s.score for s in found.stages] == [1.0, 1.001, 0.97, 0.971, 0.972]
    assert found.settled


def test_the_optimum_is_regularised_less_for_as_long_as_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problem_of(tiny_cycled().cells()[0], tiny_twin())

    def found(*scores: float) -> tuple[float, int]:
        left = iter(scores)
        monkeypatch.setattr(
            optimum,
            "_stage",
            lambda scheme, *_: optimum.Stage(
                scheme.n_particles, scheme.regularisation, next(left), 1.0
            ),
        )
        scheme, _ = settled(problem, max_particles=10)
        return scheme.regularisation, len(list(left))

    nan = float("nan")
    assert found(1.0, 0.9, 0.8, 0.81, 0.1) == (pytest.approx(0.4), 1)
    assert found(1.0, 1.0, 0.1) == (0.8, 1)
    assert found(nan, 1.0, nan, 0.1) == (pytest.approx(0.8 * 2**-0.5), 1)
    assert found(nan, nan, 0.1) == (0.8, 1)


def test_numbers_left_open_are_tuned_without_the_test_split(tmp_path: Path) -> None:
    given = {"3dvar-c": {"scheme": "3dvar", "B": "climatology", "b_scale": 9.0}}
    experiment = tiny_cycled(methods=given)
    tuning = tuning_of(experiment)
    assert list(tuning.methods) == ["enkf", "pf", "3dvar-c"]  # oi has nothing to tune
    outcome = run_experiment(tuning, tmp_path)
    folder = tmp_path / "tiny-tuning"
    (folder / "data" / "xyz" / "test.nc").unlink()
    for result in outcome.results:
        assert isinstance(result, TunedResult)
        cell, metrics = result.settings, result.metrics
        curve = {
            float(row["value"]): float(row["score"])
            for row in csv.DictReader(
                io.StringIO((folder / cell.key / "tuning.csv").read_text())
            )
        }
        best = float(metrics["parameter"]["value"])
        assert curve[best] == min(curve.values()) == metrics["tuning"]["score"]
        assert "test" not in metrics["data"]
    assert tuning.kind.run(tuning.cells()[0], folder / "data" / "xyz", tmp_path / "new")
    table = (folder / "report" / "table.md").read_text()
    assert "particle filter, N=30" in table
    # The experiment itself, with the number left open, finds the same one.
    opened = dataclasses.replace(experiment.methods["enkf"], inflation=None)
    whole = dataclasses.replace(experiment, methods={"enkf": opened})
    [result] = run_experiment(whole, tmp_path).results
    tuned = json.loads((folder / "enkf" / "metrics.json").read_text())
    assert result.metrics["parameter"] == tuned["parameter"]
    assert result.metrics["tuning"]["scores"] == tuned["tuning"]["scores"]


def test_a_result_of_another_kind_is_not_opened(
    done: tuple[Path, list[CycledResult]],
) -> None:
    with pytest.raises(DataFileError, match=r"without trajectories.csv"):
        CycledResult.open(done[0] / "data" / "xyz")
    with pytest.raises(DataFileError, match=r"expected a tuning"):
        TunedResult.open(done[0] / "oi")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"methods": {"a": {"scheme": "enfk"}}}, r"methods.a.scheme: expected one of"),
        ({"methods": {"a": {"scheme": "oi", "n": 1}}}, r"methods.a.n: unknown key"),
        (
            {"methods": {"a": {"scheme": "pf", "n_particles": 1}}},
            "n_particles: expected",
        ),
        ({"methods": {"a": 3}}, r"methods.a: expected a table"),
        ({"methods": {"../a": {"scheme": "oi"}}}, r"methods: expected"),
        ({"data": {"n_steps": 100}}, r"data.n_steps: a cycled experiment decides it"),
        ({"data": {"sigma": 0.0}}, r"data.sigma: expected a number above 0"),
        (
            {"data": {"sigma": 2.0}, "experiment": {"sigmas": [1.0]}},
            r"data.sigma: is varied by experiment.sigmas",
        ),
        ({"experiment": {"sigmas": [1.0, 1.0]}}, r"sigmas: expected each once"),
        ({"experiment": {"measure": "crps"}}, r"measure: expected one of rms, pool"),
        ({"training": {"epochs": 3}}, r"training.epochs: a cycled experiment has no"),
        ({"cycle": {"burn_in": -1.0}}, r"burn_in: expected"),
    ],
)
def test_settings_that_make_no_sense(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny_cycled(**tables)


def test_methods_that_an_experiment_lacks() -> None:
    with pytest.raises(ConfigurationError, match=r"no method 'pff' \(it has oi, enkf"):
        tiny_cycled().only(["oi", "pff"])
    with pytest.raises(ConfigurationError, match="expected one with a number to tune"):
        tuning_of(tiny_cycled("enkf", "pf"))


def test_variants_of_a_method_are_told_apart() -> None:
    problem = problem_of(tiny_cycled().cells()[0], tiny_twin())
    labels = set()
    for variant in ("square_root", "stochastic", "finite_size"):
        table = {"scheme": "enkf", "n_members": 6, "variant": variant, "inflation": 1.0}
        method = method_from_table(table, source="a test", key="m")
        prepared = method.prepare(problem, measure="rms")
        assert isinstance(prepared.scheme, EnKF)
        assert (prepared.scheme.variant, prepared.scheme.n_members) == (variant, 6)
        labels.add(prepared.label)
    assert len(labels) == 3
