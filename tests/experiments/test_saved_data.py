"""Experiments on data that the user has saved: read, never written, never mixed up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l63fast as l63
from cli_runs import Command
from experiment_samples import contents, tiny_cycled, tiny_windows
from l63fast.errors import ConfigurationError, DataFileError
from l63fast.experiments.data import saved_settings
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.methods import METHODS
from l63fast.experiments.protocols import Cycles, Windows
from l63fast.experiments.published import published_for
from l63fast.experiments.results import Result
from l63fast.experiments.run_cell import run_cell
from l63fast.experiments.runner import run_cells
from l63fast.experiments.settings_file import dump_tables
from l63fast.experiments.tasks import Progress
from l63fast.twin import TwinExperiment


def long_run(seed: int, **more: Any) -> TwinExperiment:
    """Return one run cut by time: 25 cycles in each of 11 blocks."""
    truth = l63.simulate(l63.spin_up(1, seed=8)[0], n_steps=2950)
    noise = np.random.default_rng(seed).normal(size=(295, 3))
    about = {"operator": "xyz", "sigma": 1.0, "dt": 0.01, "steps_per_cycle": 10}
    sizes = {"n_train": 4, "n_val": 3, "n_test": 4, "gap": 1.0}
    seen = truth[10::10] + noise
    return TwinExperiment.from_arrays(truth, seen, **(about | sizes | more))


@pytest.fixture(scope="module")
def own() -> TwinExperiment:
    return long_run(1)


@pytest.fixture
def folder(own: TwinExperiment, tmp_path: Path) -> Path:
    own.save(tmp_path / "own")
    return tmp_path / "own"


def in_cycles(folder: Path, *without: str) -> Experiment:
    return tiny_cycled("pf", *without).updated(data={"path": str(folder)})


def noted(experiment: Experiment, root: Path, **how: Any) -> dict[str, str]:
    notes: dict[str, str] = {}
    progress = Progress(notes.__setitem__)
    run_cells(experiment.cells(), root / "tiny", progress=progress, **how)
    return notes


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [folder, *folder.rglob("*")]
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in files
    }


# What is run


def test_both_protocols_meet_the_saved_data_and_leave_them_alone(
    own: TwinExperiment, folder: Path, tmp_path: Path
) -> None:
    before = stamps(folder)
    cycled = in_cycles(folder)
    windowed = tiny_windows("gru").updated(data={"path": str(folder)})
    for experiment, n_times in ((cycled, 20), (windowed, 23)):
        results = experiment.run(tmp_path / experiment.protocol.name)
        assert set(results["data"]) == {own.hashes["test"]}
        assert set(results["trajectory"]) == {0, 1, 2, 3}
        cell = tmp_path / experiment.protocol.name / "tiny" / results["cell"][0]
        assert Result.open(cell).metrics["n_times"] == n_times
    assert stamps(folder) == before
    assert not (tmp_path / "cycles" / "tiny" / "data").exists()
    # By hand, from the arrays: the same digits.
    kind = l63.EnKF.for_twin(own, B=1.5**2 * np.eye(3), n_members=5, inflation=1.05)
    start = cycled.protocol.first_background(own, "test")
    run = l63.run_cycles(kind, own, burn_in=5, initial=start)
    truth = own.test.truth_at_observations[:, 5:]
    rmse = np.sqrt(((run.analysis - truth) ** 2).mean(axis=-1)).mean(axis=1)
    rows = Result.open(tmp_path / "cycles" / "tiny" / "enkf").trajectories
    assert np.allclose(rows["rmse_a"], rmse, rtol=1e-12)


def test_cycles_are_as_many_as_the_data_have(folder: Path) -> None:
    def n_cycles(**cycles: Any) -> int:
        experiment = in_cycles(folder).updated(cycles=cycles)
        assert isinstance(experiment.protocol, Cycles)
        return experiment.protocol.n_cycles

    assert n_cycles(n_cycles=12) == 12
    assert n_cycles(n_cycles=1000) == 20  # 25 without the burn-in of 5
    with pytest.raises(
        ConfigurationError, match=r"burn_in: expected less than the 2\.5"
    ):
        n_cycles(burn_in=2.5)


def test_an_experiment_is_made_from_a_folder_in_python_and_toml(folder: Path) -> None:
    methods = {"oi": METHODS["oi"]()}
    made = Experiment("mine", folder, Windows(window=3), methods)  # type: ignore[arg-type]
    text = made.to_toml()
    assert f'[data]\npath = "{folder}"\n' in text
    (folder.parent / "mine.toml").write_text(text)
    assert Experiment.from_toml(folder.parent / "mine.toml") == made
    assert made.cells()[0].data == saved_settings(folder)


# What is the same


def test_a_moved_folder_is_the_same_data_and_another_in_its_place_is_not(
    folder: Path, tmp_path: Path
) -> None:
    noted(in_cycles(folder), tmp_path)
    moved = folder.rename(tmp_path / "moved")
    kept = noted(in_cycles(moved), tmp_path, resume=True)
    assert all(line.endswith(", kept") for line in kept.values())
    before = contents(tmp_path / "tiny" / "oi")
    long_run(2).save(folder)
    for how in ({}, {"resume": True}):
        with pytest.raises(ConfigurationError, match=r"other settings \(data\.sha256"):
            noted(in_cycles(folder), tmp_path, **how)
    assert contents(tmp_path / "tiny" / "oi") == before
    made = noted(in_cycles(folder), tmp_path, resume=True, overwrite=True)
    assert not any("kept" in line for line in made.values())


def test_generated_data_do_not_take_the_place_of_saved_ones(tmp_path: Path) -> None:
    experiment = tiny_cycled("pf", "enkf")
    [cell] = experiment.cells()
    TwinExperiment.generate(cell.data).save(tmp_path / "own")
    noted(in_cycles(tmp_path / "own", "enkf"), tmp_path)
    with pytest.raises(ConfigurationError, match=r"data\.sha256 is \w{64}, not None"):
        noted(experiment, tmp_path)


def test_data_that_change_under_a_running_experiment_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    experiment = in_cycles(folder, "enkf")
    [cell] = experiment.cells()
    long_run(2).save(folder)
    with pytest.raises(DataFileError, match="expected the data with sha256"):
        run_cell(cell, folder, tmp_path / "cell")
    with pytest.raises(DataFileError, match="expected the data with sha256"):
        noted(experiment, tmp_path)


def test_damage_in_the_test_split_is_found_before_anything_is_run(
    folder: Path, tmp_path: Path
) -> None:
    experiment = in_cycles(folder)
    content = bytearray((folder / "test.nc").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "test.nc").write_bytes(content)
    with pytest.raises(DataFileError, match=r"test\.nc"):
        noted(experiment, tmp_path)
    assert not (tmp_path / "tiny").exists()


def test_results_are_not_written_into_the_data(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="a folder outside of the data"):
        run_cells(in_cycles(folder).cells(), folder)


def test_a_folder_of_results_names_the_data_in_it(own: Any, tmp_path: Path) -> None:
    own.save(tmp_path / "mine" / "data" / "x")
    sentence = "got the folder of an experiment's results; its data are in .*data.x$"
    with pytest.raises(DataFileError, match=sentence):
        TwinExperiment.load(tmp_path / "mine")


# What is refused


@pytest.mark.parametrize(
    ("tables", "place"),
    [
        ({"data": {"sigma": 0.5}}, r"data\.sigma"),
        ({"vary": {"sigma": [0.5, 1.0]}}, r"vary\.sigma"),
        ({"vary": {"operator": ["x"]}}, r"vary\.operator"),
        ({"vary": {"seed": [0, 1]}}, r"vary\.seed"),
        ({"experiment": {"model_error": 0.1}}, r"experiment\.model_error"),
    ],
)
def test_what_the_data_know_is_not_given_beside_them(
    folder: Path, tables: Any, place: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=f"{place}: expected none with a folder"
    ):
        in_cycles(folder).updated(**tables)


def test_an_operator_of_ones_own_is_sent_to_compare(tmp_path: Path) -> None:
    def h(states: np.ndarray) -> np.ndarray:
        return states * 1.0

    sensor = l63.ObservationOperator.custom(h, obs_dim=3, name="sensor")
    long_run(1, operator=sensor).save(tmp_path / "own")
    with pytest.raises(ConfigurationError, match=r"data\.path.*l63fast\.compare"):
        in_cycles(tmp_path / "own")


# Presets


def test_presets_bring_methods_and_protocol_and_no_published_scores(
    folder: Path,
) -> None:
    plain = Experiment.preset("sakov2012")
    at = {"path": str(folder)}
    mine = plain.updated(data=at, cycles={"burn_in": 1.0})
    assert list(mine.methods) == list(plain.methods)
    # Not even beside data that have the settings of the publication.
    known = plain.cells()[0].data
    alike = dataclasses.replace(
        saved_settings(folder),
        **{name: getattr(known, name) for name in ("sigma", "steps_per_cycle")},
        **{"n_steps": 5000, "save_every": 25},
    )
    for cell in plain.cells():
        burnt = dataclasses.replace(cell.protocol, n_cycles=100)
        on_own = dataclasses.replace(cell, data=alike, protocol=burnt)
        assert published_for(on_own) is None
    assert sum(published_for(cell) is not None for cell in plain.cells()) > 10
    # What they say of other data gives way.
    grid = Experiment.preset("grid").updated(data=at, cycles={"burn_in": 1.0})
    assert [cell.name for cell in grid.cells()] == list(grid.methods)
    knet = Experiment.preset("knet").updated(data=at, cycles={"burn_in": 1.0})
    assert knet.model_error == 0.0
    losses = Experiment.preset("windows-losses").updated(data=at)
    assert len(losses.cells()) > len(losses.methods)


def test_the_command_line_takes_a_folder(folder: Path, l63fast: Command) -> None:
    tiny = ("sakov2012", "--burn_in", 0.5, "--n_bootstrap", 20, "--methods", "oi")
    command = (*tiny, "--data", "own", "--workers", 1, "--no_report")
    run = l63fast("experiment", *command)
    assert run.code == 0, run.err
    assert "20 scored after 0.5 time units" in run.out
    assert "own, sha256 " in run.out
    assert "a run was stopped here" not in run.out
    Path("results/sakov2012/.pf.partial").mkdir()
    run = l63fast("experiment", *command)
    assert (
        "a run was stopped here; this one starts again, --resume continues" in run.out
    )
    run = l63fast("experiment", *command, "--resume")
    assert "stopped" not in run.out
    assert ", kept" in run.out
    printed = l63fast("experiment", *command, "--print_config").out
    assert '[data]\npath = "own"\n' in printed
    for flags, message in (
        (("--sigma", 2), "--sigma: expected none with a folder of saved data"),
        (("--intervals", "5,10"), "--intervals: expected none with a folder"),
        (("--seeds", "0,1"), "--seeds: expected none with a folder"),
        (("--seed", 1), "--seed: expected none with a folder"),
        (("--n_traj", 9), "--n_traj: expected none with a folder"),
        (("--model_error", 0.1), "--model_error: expected none with a folder"),
        (("--n_cycles", 21), "--n_cycles: expected at most the 20 cycles"),
    ):
        run = l63fast("experiment", *command, *flags)
        assert run.code == 2
        assert message in run.err, run.err
    # A file of other data, whose seeds become those of trainings.
    Path("mine.toml").write_text(
        '[vary]\nsigma = [1.0, 2.0]\nseed = [0, 1]\n[data]\noperator = "x"\n'
        '[windows]\nwindow = 3\n[methods]\nmlp = { scheme = "encoder", model = "mlp" }'
    )
    where = ("--config", "mine.toml", "--data", "own")
    printed = l63fast("experiment", *where, "--print_config").out
    assert "[vary]\ntraining_seed = [\n    0,\n    1,\n]\n\n[data]\npath" in printed


def test_train_takes_the_settings_of_a_cell_on_saved_data(
    folder: Path, l63fast: Command
) -> None:
    methods = {"gru": {"scheme": "encoder", "hidden": 4, "training": {"epochs": 1}}}
    tables = {"data": {"path": "own"}, "windows": {"window": 3}, "methods": methods}
    [cell] = Experiment.from_tables("mine", tables, source="a test").cells()
    Path("config.toml").write_text(dump_tables(cell.to_tables()))
    command = ("train", "--config", "config.toml", "--dry_run", "--data")
    run = l63fast(*command, "own")
    assert run.code == 0, run.err
    assert "own (found)" in run.out
    long_run(2).save("other")
    run = l63fast(*command, "other")
    assert run.code == 2
    assert "holds data of other settings (sha256 is" in run.err


def test_more_data_like_those_from_arrays_begin_on_the_attractor(
    own: TwinExperiment,
) -> None:
    """Encoders learn from fresh simulations with the settings of the twin."""
    assert own.settings.spin_up_time == 20.0
