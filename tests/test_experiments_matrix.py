"""The matrix: its cells and names, what may be said together, what is reused."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from experiment_samples import TINY, contents
from l63fast.errors import ConfigurationError
from l63fast.experiments import calibration, runner
from l63fast.experiments.calibration import expected_seconds
from l63fast.experiments.cell import run_cell
from l63fast.experiments.config import CellSettings, merged
from l63fast.experiments.describe import counted, shown_change
from l63fast.experiments.encoder_experiment import (
    EncoderExperiment,
    encoders_from_tables,
)
from l63fast.experiments.matrix import VARIED
from l63fast.experiments.optimum import OptimumCell
from l63fast.experiments.presets import (
    OF_WINDOWS,
    PRESETS,
    experiment_from_tables,
    with_preset,
)
from l63fast.experiments.runner import run_experiment
from l63fast.experiments.source import Source
from l63fast.experiments.tables import Summary
from l63fast.twin import TwinExperiment


def matrix(tables: dict[str, Any] | None = None, **axes: Any) -> EncoderExperiment:
    """Return an experiment of small cells."""
    base = deepcopy(TINY)
    if "windows" in axes:
        del base["model"]["window"]
    both = merged(merged(base, {"experiment": axes}), tables or {})
    return encoders_from_tables("tiny", both, source="a test")


@pytest.fixture
def weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from l63fast.learning import export

    monkeypatch.setattr(export, "_WRITE", {"safetensors": export._WRITE["safetensors"]})


def test_the_cells_are_all_combinations_and_named_by_the_axes_that_are_given() -> None:
    axes = {
        "models": ("mlp", "gru"),
        "sigmas": (0.5, 1.0),
        "intervals": (10, 20),
        "windows": (2, 3),
        "backgrounds": ("forecast", "mean"),
        "losses": ("mse", "var3d"),
        "seeds": (0, 7),
    }
    cells = matrix(**axes).encoders()
    assert len(cells) == len({cell.name for cell in cells}) == 2**7
    last = cells[-1]
    assert last.name == "gru_xy_s1_i20_w3_mean_var3d_r7"
    assert last.data_name == "xy_s1_i20_r7"
    assert (last.data.seed, last.training.seed, last.data.sigma) == (7, 7, 1.0)
    assert (last.data.steps_per_cycle, last.model.window) == (20, 3)
    assert (last.background.kind, last.training.loss) == ("mean", "var3d")
    # Data are made once for all cells that share them, which run one after the other.
    names = [cell.data_name for cell in cells]
    assert len(set(names)) == 2**3
    assert sum(a != b for a, b in pairwise(names)) == 2**3 - 1
    # Encoders of different windows are scored at the same times.
    assert {cell.samples.start for cell in cells} == {3}
    # A value that is added renames nothing.
    more = {cell.name for cell in matrix(**axes | {"sigmas": (0.5, 1.0, 2.0)}).cells()}
    assert more > {cell.name for cell in cells}


def test_an_axis_that_is_not_given_is_not_in_names() -> None:
    [cell] = matrix().cells()
    assert (cell.name, cell.data_name) == ("gru_xy", "xy")
    assert matrix(n_iterations=(2,)).cells()[0].name == "gru_xy_k2"


def test_regimes_are_pairs() -> None:
    cells = matrix(regimes=("mean:var3d", "none:mse")).cells()
    assert [c.name for c in cells] == ["gru_xy_mean-var3d", "gru_xy_none-mse"]
    assert [(c.background.kind, c.training.loss) for c in cells] == [
        ("mean", "var3d"),
        ("none", "mse"),
    ]


@pytest.mark.parametrize("name", OF_WINDOWS)
def test_a_preset_survives_its_file(name: str) -> None:
    preset = experiment_from_tables(name, PRESETS[name], source="the preset")
    text = preset.to_toml()
    again = experiment_from_tables(name, tomllib.loads(text), source="its file")
    assert again.cells() == preset.cells()
    assert [c.name for c in again.cells()] == [c.name for c in preset.cells()]


def test_a_number_of_things_agrees_with_them() -> None:
    assert counted(1, "cell") == "1 cell"
    assert counted(0, "cell") == "0 cells"
    assert counted(1, "analysis", "analyses") == "1 analysis"
    assert counted(40, "analysis", "analyses") == "40 analyses"


def test_the_study_is_the_original_one() -> None:
    for name, n_cells in (("seed-published", 108), ("seed-forecast", 36)):
        study = experiment_from_tables(name, PRESETS[name], source="the preset")
        cells = study.encoders()
        assert len(cells) == n_cells
        assert len(study.cells()) == n_cells + 12  # an optimum for each data set
        for cell in cells:
            data, training = cell.data, cell.training
            assert (data.n_train, data.n_val, data.n_steps) == (1000, 500, 200)
            assert (data.steps_per_cycle, cell.model.window) == (1, 5)
            assert (cell.samples.stride, cell.model.hidden) == (5, 64)
            assert (training.epochs, training.batch_size) == (30, 256)
            assert (training.learning_rate, training.optimiser) == (1e-3, "adam")
        assert len({cell.data_name for cell in cells}) == 12


@pytest.mark.parametrize("axis", VARIED)
def test_a_setting_that_is_varied_is_not_fixed_as_well(axis: str) -> None:
    values: dict[str, Any] = {
        "regimes": ("mean:var3d",),
        "operators": ("x",),
        "backgrounds": ("mean",),
        "losses": ("mse",),
        "models": ("mlp",),
    }
    section, key = VARIED[axis][0].split(".")
    fixed = {section: {key: "none"}}
    with pytest.raises(ConfigurationError, match=f"{section}.{key}: is varied by"):
        matrix(fixed, **{axis: values.get(axis, (1,))})
    # Of a preset, what a file fixes gives way.
    merged_ = with_preset("quick", {"data": {"operator": "xyz"}})
    quick = experiment_from_tables("quick", merged_, source="a file")
    assert {cell.data.operator for cell in quick.cells()} == {"xyz"}


def test_sigmas_that_would_share_a_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="first 6 digits"):
        matrix(sigmas=(0.1, 0.1000000001))


@pytest.mark.usefixtures("weights_only")
def test_some_cells_alone_and_then_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = matrix(models=("mlp", "gru"), operators=("x",), sigmas=(0.5, 1.0))
    with pytest.raises(ConfigurationError, match="only: expected a pattern"):
        run_experiment(experiment, tmp_path, only="lstm*")
    run_experiment(experiment, tmp_path, only="*_s1")
    before = contents(tmp_path / "tiny" / "gru_x_s1")
    notes: list[str] = []
    outcome = run_experiment(
        experiment, tmp_path, only="mlp*_s0.5", note=lambda cell, _: notes.append(cell)
    )
    assert notes == ["mlp_x_s0.5"]
    # What was made before is in the table, as it is still what is asked for.
    names = [result.metrics["cell"] for result in outcome.results]
    assert names == ["mlp_x_s0.5", "mlp_x_s1", "gru_x_s1"]
    assert contents(tmp_path / "tiny" / "gru_x_s1") == before
    text = (tmp_path / "tiny" / "report" / "tables" / "table.md").read_text()
    assert "x observed with σ = 0.5" in text
    # A result of a newer version is replaced only by force.
    monkeypatch.setattr(runner, "versions", lambda: {"l63fast": "0.0.9"})
    with pytest.raises(ConfigurationError, match=r"newer l63fast .*--force"):
        run_experiment(experiment, tmp_path, only="mlp*_s1")
    run_experiment(experiment, tmp_path, only="mlp*_s1", force=True)


@pytest.mark.usefixtures("weights_only")
def test_seeds_are_repetitions_with_one_row_and_a_rank(tmp_path: Path) -> None:
    experiment = matrix(
        {"samples": {"stride": 2}}, models=("mlp", "gru"), seeds=(0, 1, 2), optimum=8192
    )
    outcome = run_experiment(experiment, tmp_path)
    assert outcome.failures == {}
    assert sum(isinstance(c, OptimumCell) for c in experiment.cells()) == 3
    [case] = Summary(Source.of(outcome.results)).cases
    rows = {row.method: row for row in case}
    assert set(rows) == {
        *("climatology", "background", "3dvar", "mlp-k3", "gru-k3", "optimum")
    }
    assert {row.n_data for row in case} == {3}
    cells = [r for r in outcome.results if r.metrics["cell"].startswith("gru")]
    pools = [r.metrics["scores"]["analysis"]["pool"] for r in cells]
    square = sum(pool**2 for pool in pools) / 3
    assert rows["gru-k3"].rmse_pooled_a == pytest.approx(square**0.5)
    assert rows["gru-k3"].low < rows["gru-k3"].score
    competing = [rows[name] for name in ("3dvar", "mlp-k3", "gru-k3")]
    assert min(row.rank for row in competing) == 1
    assert {row.rank for row in case if row not in competing} == {None}
    assert [row.n_trainings for row in competing] == [0, 3, 3]
    assert rows["3dvar"].ratio_to_optimum > 1.0
    # Each seed has a truth of its own.
    truths = {
        TwinExperiment.load(tmp_path / "tiny" / "data" / f"xy_r{seed}").hashes["train"]
        for seed in (0, 1, 2)
    }
    assert len(truths) == 3
    # A finished optimum is kept.
    notes: dict[str, str] = {}
    run_experiment(
        experiment, tmp_path, resume=True, only="opt*", note=notes.__setitem__
    )
    assert all(line.endswith("kept") for line in notes.values())


def test_a_change_of_nothing_has_one_sign() -> None:
    assert [shown_change(p) for p in (-12.3, -1.26, -0.01, 0.01)] == [
        "-12 %", "-1.3 %", "+0.0 %", "+0.0 %",
    ]  # fmt: skip


@pytest.mark.usefixtures("weights_only")
def test_the_time_that_is_foreseen_grows_with_the_work() -> None:
    [short] = matrix().cells()
    assert isinstance(short, CellSettings)
    [long] = matrix({"training": {"epochs": 4000}}).cells()
    once, often = expected_seconds([short]), expected_seconds([long])
    assert 0.0 < once < often
    assert expected_seconds([]) == 0.0
    [window] = matrix({"training": {"loss": "var3d_window"}}).cells()
    assert isinstance(window, CellSettings)
    assert expected_seconds([window]) > 0.0


@pytest.mark.usefixtures("weights_only")
def test_the_time_that_is_foreseen_counts_what_is_simulated_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def recorded(cell: CellSettings, *where: Any) -> None:
        tried.append(cell.samples.fresh)
        run_cell(cell, *where)

    monkeypatch.setattr(calibration, "run_cell", recorded)
    [few] = matrix({"samples": {"fresh": 8}}).cells()
    [many] = matrix({"samples": {"fresh": 200_000}}).cells()
    assert isinstance(few, CellSettings)
    assert isinstance(many, CellSettings)
    assert expected_seconds([many]) > 10.0 * expected_seconds([few])
    # What a cell takes besides its training is tried without all of those.
    assert max(tried) <= 8
