"""Experiments on observations with gaps: axes, names, tables, options, results."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l63fast as l63
from cli_runs import Command
from experiment_samples import SIZES, tiny_cycled, tiny_windows
from l63fast.errors import ConfigurationError
from l63fast.experiments.describe import describe_data
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.methods.optimum import _with_validation
from l63fast.experiments.protocols import Cycles, Problem, Windows
from l63fast.experiments.published import published_for
from l63fast.experiments.results import Result
from l63fast.experiments.settings_file import parse_tables
from l63fast.twin import TwinExperiment

RANGE = (0.1, 0.4)


def climatology(**tables: Any) -> Experiment:
    methods = {"climatology": {"scheme": "climatology"}}
    return tiny_cycled("oi", "enkf", "pf", methods=methods, **tables)


# Settings


def test_gaps_are_settings_and_axes() -> None:
    fixed = tiny_cycled(data={"missing": 0.5, "interval": list(RANGE)})
    again = Experiment.from_tables("tiny", parse_tables(fixed.to_toml()), source="it")
    assert again == fixed
    [data] = {cell.data for cell in fixed.cells()}
    assert (data.missing, data.interval, data.save_every) == (0.5, RANGE, 1)
    assert data.gaps in describe_data(data)
    axes = {"interval": [10, list(RANGE)], "missing": [0, 0.5]}
    varied = tiny_cycled(vary=axes)
    again = Experiment.from_tables("tiny", parse_tables(varied.to_toml()), source="it")
    assert again == varied == tiny_cycled().vary(interval=[10, RANGE], missing=[0, 0.5])
    by_case = {cell.case: cell.data for cell in varied.cells()}
    assert [*by_case] == ["i10_m0", "i10_m0.5", "i0.1-0.4_m0", "i0.1-0.4_m0.5"]
    assert not by_case["i10_m0"].gaps
    assert by_case["i0.1-0.4_m0.5"] == data
    notes = {cell.case: cell.note for cell in varied.cells()}
    assert notes["i10_m0.5"] == ""
    assert notes["i0.1-0.4_m0"] == "intervals of 0.1 to 0.4"
    # A regular interval, of an axis or of an update, replaces one that is drawn.
    back = {"steps_per_cycle": 10, "missing": 0.0}
    assert fixed.updated(data=back) == tiny_cycled(data=back)
    regular = fixed.vary(interval=[10]).cells()[0].data
    assert (regular.steps_per_cycle, regular.interval) == (10, None)


@pytest.mark.parametrize("burn_in", [0.0, 0.5, 3.3])
def test_cycles_begin_after_the_burn_in_and_end_with_an_observation(
    burn_in: float,
) -> None:
    experiment = tiny_cycled(
        data={"interval": [*RANGE]}, cycles={"burn_in": burn_in, "n_cycles": 7}
    )
    protocol, data = experiment.protocol, experiment.cells()[0].data
    assert isinstance(protocol, Cycles)
    first, steps = protocol.burn_in_cycles(data), data.observed_steps
    assert len(steps) == first + 7
    assert steps[-1] == data.n_steps
    before = [0, *(steps * data.dt)]
    assert before[first] >= burn_in
    assert first == 0 or before[first - 1] < burn_in


def test_times_that_are_given_limit_the_cycles() -> None:
    steps = [3, 10, 40, 45, 80]
    given = {"observation_steps": steps}
    made = tiny_cycled(data=given, cycles={"n_cycles": 3, "burn_in": 0.05})
    data = made.cells()[0].data
    assert (data.observation_steps, data.n_steps) == (tuple(steps), 80)
    with pytest.raises(ConfigurationError, match="n_cycles: expected no more than"):
        tiny_cycled(data=given, cycles={"n_cycles": 4, "burn_in": 0.05})


def test_no_published_score_is_one_of_gaps() -> None:
    sakov = l63.Experiment.preset("sakov2012").only("enkf-10")
    for values, is_known in (({}, True), ({"missing": [0.5]}, False)):
        [cell] = sakov.vary(**values).cells()
        assert (published_for(cell) is not None) == is_known


# Runs


def test_irregular_cycles_stand_in_tables_of_their_own(tmp_path: Path) -> None:
    experiment = tiny_cycled("oi", "pf").vary(interval=[10, RANGE])
    frame = experiment.run(tmp_path, keep_states=True)
    board = l63.scores(frame)
    assert set(board["case"]) == {"", "intervals of 0.1 to 0.4"}
    assert set(board["missing"]) == {0.0}
    # By hand, from the data on disk.
    folder = tmp_path / "tiny"
    twin = TwinExperiment.load(folder / "data" / "i0.1-0.4")
    scheme = l63.EnKF.for_twin(twin, B=1.5**2 * np.eye(3), n_members=5, inflation=1.05)
    protocol = experiment.protocol
    assert isinstance(protocol, Cycles)
    first = protocol.burn_in_cycles(twin.settings)
    start = protocol.first_background(twin, "test")
    run = l63.run_cycles(scheme, twin, burn_in=first, initial=start)
    estimates = Result.open(folder / "i0.1-0.4-enkf").estimates
    np.testing.assert_array_equal(estimates["analysis"], run.analysis)
    times = twin.observation_steps[first:] * 0.01
    np.testing.assert_array_equal(estimates["time"], times)


def test_values_are_counted_and_other_gaps_are_other_data(tmp_path: Path) -> None:
    holed = climatology(data={"missing": 0.5})
    frame = holed.run(tmp_path)
    assert set(frame["missing"]) == {0.5}
    counts = Result.open(tmp_path / "tiny" / "climatology").metrics["observed_values"]
    twin = TwinExperiment.load(tmp_path / "tiny" / "data" / "xyz")
    first = climatology().protocol.burn_in_cycles(twin.settings)  # type: ignore[union-attr]
    n_missing = int(np.isnan(twin.test.observations[:, first:]).sum())
    assert counts == {"given": 5 * 20 * 3 - n_missing, "missing": n_missing}
    refused = r"{}: holds .* of other settings \(.*missing is 0\.5, not None"
    with pytest.raises(l63.L63Error, match=refused.format("tiny.climatology")):
        climatology().run(tmp_path)
    shutil.rmtree(tmp_path / "tiny" / "climatology")
    with pytest.raises(l63.L63Error, match=refused.format("data.xyz")):
        climatology().run(tmp_path)
    again = climatology().run(tmp_path, overwrite=True)
    assert set(again["missing"]) == {0.0}
    whole = Result.open(tmp_path / "tiny" / "climatology").metrics
    assert "observed_values" not in whole


@pytest.mark.parametrize(
    "method",
    [{"scheme": "4dvar", "b_scale": 1.0}, {"scheme": "extkf", "inflation": 1.0}],
)
def test_windows_are_analysed_with_the_steps_between_their_observations(
    method: dict[str, Any],
) -> None:
    data = {"interval": [0.05, 0.2], "n_steps": 150}
    experiment = tiny_windows("3dvar", "gru", data=data, methods={"it": method})
    [cell] = experiment.cells()
    twin = TwinExperiment.generate(cell.data)
    protocol = cell.protocol
    assert isinstance(protocol, Windows)
    problem = Problem(twin, protocol, "rmse_a")
    fitted = cell.method.fit(problem)
    found = problem.run(fitted, "test")
    scheme: Any = fitted.scheme
    steps, drawn = twin.observation_steps, problem.drawn("test")
    for k, last in enumerate(protocol.last_observations(twin.settings)):
        state = scheme.initial(drawn[:, last - 2], np.random.default_rng(0))
        for j in range(last - 2, last + 1):
            if j > last - 2:
                state = scheme.forecast(state, int(steps[j] - steps[j - 1]))
            oldest = max(last - 2, j + 1 - scheme.window)
            seen = np.ascontiguousarray(twin.test.observations[:, oldest : j + 1])
            state, analysis = scheme.analyse(state, seen)
        np.testing.assert_allclose(found.analysis[:, k], analysis.state, atol=1e-8)


def test_few_validation_trajectories_are_cut_from_all_of_them() -> None:
    data = climatology(data={"missing": 0.2}).cells()[0].data
    twin = TwinExperiment.generate(data)
    cut = _with_validation(Problem(twin, Cycles(), "rmse_a"), 2).twin
    simulated = TwinExperiment.generate(dataclasses.replace(data, n_val=2))
    assert cut.val.hash == simulated.val.hash == cut.hashes["val"]
    assert cut.settings.n_val == 2


# The command line


def test_gaps_are_options(l63fast: Command, tmp_path: Path) -> None:
    gaps = ("--missing", 0.5, "--interval", "0.1,0.4")
    run = l63fast("simulate", *SIZES[:8], *gaps, "--data", tmp_path / "twin")
    assert run.code == 0, run.err
    assert "in intervals of 0.1 to 0.4, 50 % missing" in run.out
    settings = TwinExperiment.load(tmp_path / "twin").settings
    assert (settings.missing, settings.interval) == (0.5, RANGE)
    shards = ("--shards", 2, "--workers", 1, "--data", tmp_path / "shards")
    run = l63fast("simulate", "--n_traj", 4, "--n_steps", 60, *gaps, *shards)
    assert run.code == 0, run.err
    axes = ("--intervals", "25,0.1-0.4", "--missing_shares", "0,0.5")
    for given, n_cells in ((gaps, 1), (axes, 4)):
        words = ("experiment", "sakov2012", "--methods", "3dvar", *given, "--dry_run")
        run = l63fast(*words)
        assert run.code == 0, run.err
        assert f"dry run     {n_cells} cell" in run.out
    for words, message in (
        (("--steps_per_cycle", 20), "--steps_per_cycle: expected none where interval"),
        (("--interval", "0.1"), "--interval: expected the shortest and the longest"),
        (("--interval", "a,0.4"), "--interval"),
        (("--missing", 1), "--missing: expected a number below 1, got 1"),
    ):
        run = l63fast("simulate", *gaps, *words, "--dry_run")
        assert (run.code, message in run.err) == (2, True), run.err
    run = l63fast("train", *gaps, "--dry_run")
    assert (run.code, "50 % missing" in run.out) == (0, True), run.err
