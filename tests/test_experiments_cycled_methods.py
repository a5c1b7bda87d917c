"""Methods of cycled experiments: the scheme has the numbers that the report gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cycled_samples import rows_of, tiny_cycled
from l63fast.errors import ConfigurationError
from l63fast.experiments import runner
from l63fast.experiments.cycled.cell import problem_of
from l63fast.experiments.cycled.methods import method_from_table
from l63fast.experiments.cycled.prepared import Prepared
from l63fast.experiments.cycled.problem import CycledProblem
from l63fast.experiments.cycled.tuning import tuning_of
from l63fast.experiments.runner import run_experiment
from l63fast.twin import TwinExperiment
from l63fast.verification import compare, nearer, pool, rms, score, spread_skill


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> CycledProblem:
    """Return a problem whose test split is not there."""
    cell = tiny_cycled().cells()[0]
    folder = tmp_path_factory.mktemp("data") / "twin"
    TwinExperiment.generate(cell.data).save(folder)
    (folder / "test.nc").unlink()
    return problem_of(cell, TwinExperiment.load(folder))


def prepared(problem: CycledProblem, measure: str = "rms", **table: Any) -> Prepared:
    method = method_from_table(table, source="a test", key="m")
    return method.prepare(problem, measure=measure)


@pytest.mark.parametrize("scheme", ["3dvar", "4dvar"])
def test_the_scale_is_applied_once(problem: CycledProblem, scheme: str) -> None:
    base = prepared(problem, scheme=scheme, b_scale=1.0)
    half = prepared(problem, scheme=scheme, b_scale=0.5)
    np.testing.assert_allclose(half.scheme.B, 0.5 * base.scheme.B, rtol=1e-14)
    tuned = prepared(problem, scheme=scheme)
    np.testing.assert_allclose(tuned.scheme.B, tuned.value * base.scheme.B, rtol=1e-14)
    assert tuned.tuning is not None
    assert tuned.value == tuned.tuning.scale


def test_background_errors_are_of_the_forecasts_or_of_the_climate(
    problem: CycledProblem,
) -> None:
    climate = prepared(problem, scheme="3dvar", B="climatology", b_scale=0.2)
    C = problem.twin.climatology.covariance
    np.testing.assert_allclose(climate.scheme.B, 0.2 * C, rtol=1e-14)
    errors = problem.three_d_var
    own = prepared(problem, scheme="3dvar", b_scale=errors.tuning.scale)
    np.testing.assert_allclose(own.scheme.B, errors.scheme.B, rtol=1e-14)
    window = prepared(problem, scheme="4dvar", window=2, b_scale=1.0)
    np.testing.assert_allclose(window.scheme.B, errors.background, rtol=1e-14)
    assert window.scheme.window == 2


@pytest.mark.parametrize("measure", ["rms", "pool", "decibel"])
@pytest.mark.parametrize(
    "table",
    [
        {"scheme": "3dvar"},
        {"scheme": "extkf"},
        {"scheme": "pf", "n_particles": 20},
        {"scheme": "optimum", "n_particles": 10, "max_particles": 20},
    ],
    ids=lambda table: table["scheme"],
)
def test_numbers_are_tuned_by_the_measure_that_decides(
    problem: CycledProblem, table: dict[str, Any], measure: str
) -> None:
    found = prepared(problem, measure, **table)
    result = problem.run(found.scheme, "val")
    truth = problem.twin.val.truth_at_observations[:, result.scored]
    expected = (rms if measure == "rms" else pool)(result.analysis, truth)
    if found.tuning is not None:
        assert found.tuning.score == pytest.approx(expected, rel=1e-12)
    else:
        assert found.convergence is not None
        assert found.convergence.stages[-1].score == pytest.approx(expected, rel=1e-12)


def test_settings_reach_the_scheme(problem: CycledProblem) -> None:
    particles = prepared(
        problem, scheme="pf", n_particles=30, threshold=0.6, regularisation=1.7
    ).scheme
    assert (particles.n_particles, particles.threshold) == (30, 0.6)
    assert particles.regularisation == 1.7
    best = prepared(
        problem, scheme="optimum", n_particles=10, max_particles=20, threshold=0.4
    )
    assert best.scheme.threshold == 0.4
    assert best.scheme.regularisation == best.value
    stages = best.convergence.stages if best.convergence else ()
    assert best.scheme.n_particles == stages[-1].n_particles
    extended = prepared(problem, scheme="extkf", inflation=1.3).scheme
    assert extended.inflation == 1.3
    np.testing.assert_array_equal(extended.B, problem.initial_covariance)


def test_scores_and_claims_of_a_mirror_blind_operator(tmp_path: Path) -> None:
    methods = {
        "4dvar": {"scheme": "4dvar", "window": 2, "b_scale": 0.1},
        "best": {"scheme": "optimum", "n_particles": 400, "max_particles": 400},
    }
    experiment = tiny_cycled(
        "oi", "enkf", "pf", data={"operator": "x2"}, methods=methods
    )
    results = {r.settings.key: r for r in run_experiment(experiment, tmp_path).results}
    twin = TwinExperiment.load(tmp_path / "tiny" / "data" / "x2")
    truth = twin.test.truth_at_observations[:, 5:]
    result = results["4dvar"]
    problem = problem_of(result.settings, twin)
    scheme = result.settings.method.prepare(problem, measure="rms").scheme
    cycles = problem.run(scheme, "test")
    expected = score(cycles.analysis, truth, mirror_aware=True, n_bootstrap=50)
    scores = result.metrics["scores"]
    for name in ("mirror_rms", "rms_x", "median", "divergence_rate"):
        assert scores[name] == getattr(expected, name)
    assert scores["rms_x"] != score(cycles.analysis, truth, n_bootstrap=0).rms_x
    judged = nearer(cycles.analysis, truth)
    skill = spread_skill(judged, cycles.spread, truth, n_bootstrap=50)
    assert result.metrics["spread"]["ratio"] == skill.ratio
    rows = rows_of(list(results.values()))
    columns = [results[key].trajectories["mirror_square"] for key in ("4dvar", "best")]
    expected = compare(*columns).ratio
    assert rows["4dvar"].ratio_to_optimum == pytest.approx(expected, rel=1e-12)
    assert rows["4dvar"].mirror_aware


def test_a_diverged_score_in_decibels_is_not_a_number(tmp_path: Path) -> None:
    lost = {"enkf": {"scheme": "enkf", "n_members": 4, "inflation": 1e200}}
    experiment = tiny_cycled(
        "pf", "oi", methods=lost, experiment={"measure": "decibel"}
    )
    outcome = run_experiment(experiment, tmp_path)
    row = rows_of(outcome.results)["enkf"]
    assert np.isnan([row.score, row.low]).all()
    assert outcome.report is not None
    assert " diverged |" in (outcome.report / "tables" / "table.md").read_text()


def test_methods_of_one_label_are_told_apart(tmp_path: Path) -> None:
    twice = {"a": {"scheme": "oi"}, "b": {"scheme": "oi"}}
    experiment = tiny_cycled("enkf", "pf", methods=twice)
    rows = rows_of(run_experiment(experiment, tmp_path).results)
    assert {key: row.label for key, row in rows.items()} == {
        key: f"optimal interp. [{key}]" for key in ("oi", "a", "b")
    }


def test_every_setting_of_a_filter_reaches_it(problem: CycledProblem) -> None:
    table = {"scheme": "enkf", "n_members": 3, "variant": "finite_size"}
    finite_size = prepared(problem, **table, inflation=1.0, prior_certainty=2.0).scheme
    assert (finite_size.n_members, finite_size.prior_certainty) == (3, 2.0)
    for rescue in (True, False):
        bootstrap = {"scheme": "pf", "n_particles": 9, "regularisation": 1.0}
        optimum = {"scheme": "optimum", "n_particles": 9, "max_particles": 9}
        for table in (bootstrap, optimum):
            assert prepared(problem, **table, rescue=rescue).scheme.rescue is rescue


def test_methods_that_rescue_report_the_share_of_it(tmp_path: Path) -> None:
    few = {"scheme": "pf", "n_particles": 30, "regularisation": 1.0}
    experiment = tiny_cycled(
        "enkf",
        methods={"pf": few, "stubborn": {**few, "rescue": False}},
        data={"operator": "x3y3z3", "steps_per_cycle": 5, "Q": 0.01},
    )
    results = run_experiment(experiment, tmp_path).results
    found = {result.settings.key: result.metrics for result in results}
    share = found["pf"]["status"]["diverged"] / (5 * 20)
    assert found["pf"]["rescued"] == share > 0.05
    assert found["stubborn"]["status"]["diverged"] > 0
    assert "rescued" not in {**found["stubborn"], **found["oi"]}


def test_a_model_error_matrix_is_the_same_the_second_time(tmp_path: Path) -> None:
    Q = [[0.1, 0.05, 0.0], [0.05, 0.1, 0.0], [0.0, 0.0, 0.2]]
    experiment = tiny_cycled("enkf", "pf", data={"Q": Q})
    run_experiment(experiment, tmp_path)
    notes: list[str] = []
    run_experiment(
        experiment, tmp_path, resume=True, note=lambda _, line: notes.append(line)
    )
    assert notes[0].endswith("kept")


def test_data_under_finished_results_are_not_replaced(tmp_path: Path) -> None:
    run_experiment(tiny_cycled("enkf", "pf"), tmp_path)
    other = tiny_cycled("oi", "pf", data={"sigma": 3.0})
    with pytest.raises(ConfigurationError, match=r"sigma is 1\.0, not 3\.0.*--name"):
        run_experiment(other, tmp_path)


def test_a_tuning_is_kept_on_resume_unless_its_data_or_versions_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = tuning_of(tiny_cycled("oi", "pf"))
    run_experiment(tuning, tmp_path)

    def again() -> str:
        notes: list[str] = []
        run_experiment(
            tuning, tmp_path, resume=True, note=lambda _, line: notes.append(line)
        )
        return notes[0].rsplit(", ", 1)[1]

    assert again() == "kept"
    with monkeypatch.context() as patch:
        patch.setattr(runner, "versions", lambda: {"l63fast": "9.9"})
        assert again().endswith(" s")

    class Changed:
        @staticmethod
        def load(path: Path) -> Any:
            twin = TwinExperiment.load(path)
            hashes = {**twin.hashes, "val": "0" * 64}
            return type("Twin", (), {"hashes": hashes})

    with monkeypatch.context() as patch:
        patch.setattr(runner, "TwinExperiment", Changed)
        assert again().endswith(" s")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"experiment": {"sigmas": [1.00000001, 1.00000002]}}, "sigmas: expected err"),
        ({"methods": {"report": {"scheme": "oi"}}}, "methods.report: expected anoth"),
        ({"methods": {"a": {"scheme": ["oi"]}}}, r"methods.a.scheme: expected one of"),
    ],
)
def test_settings_that_make_no_sense(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        tiny_cycled(**tables)


def test_the_start_is_of_the_spread_asked_for(problem: CycledProblem) -> None:
    wide = dataclasses.replace(problem, initial_spread=3.0)
    errors = [
        one.start("val")["initial"] - one.twin.val.initial_state
        for one in (problem, wide)
    ]
    np.testing.assert_allclose(errors[1], 2.0 * errors[0], rtol=1e-10)
    assert wide.initial_covariance[0, 0] == 9.0
