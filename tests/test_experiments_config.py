"""Settings of experiments: composition, TOML, and every mistake in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiment_samples import tiny_cell
from l63fast.errors import ConfigurationError
from l63fast.experiments.config import CellSettings, cell_to_toml, merged, read_cell
from l63fast.experiments.encoder_experiment import Axes
from l63fast.experiments.presets import PRESETS, experiment_from_tables
from l63fast.experiments.settings_file import differences, read_tables
from l63fast.learning.settings import ENCODER_NAMES
from l63fast.twin import TwinSettings


def test_settings_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for cell in (
        CellSettings(),
        tiny_cell(data={"operator": "x2z", "sigma": 0.1 + 0.2, "dt": 1e-3}),
        tiny_cell(data={"Q": 0.1}),
        tiny_cell(data={"Q": ((0.5, 0.2, 0.0), (0.2, 0.3, 0.0), (0.0, 0.0, 0.0))}),
    ):
        path.write_text(cell_to_toml(cell))
        assert read_cell(path) == cell


def test_a_matrix_in_a_file_is_the_matrix_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[data]\nQ = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0]]")
    asked = read_tables(path)["data"]
    have = dataclasses.asdict(TwinSettings(Q=np.diag([1.0, 2.0, 0.0])))
    assert differences(have, asked) == []
    assert len(differences({**have, "Q": 0.0}, asked)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\nsigma = 'one'", "data.sigma: expected number, got 'one'"),
        ("[data]\nn_train = 1.5", "data.n_train: expected integer, got 1.5"),
        ("[data]\nn_train = true", "data.n_train: expected integer, got True"),
        ("[data]\nsigma = nan", "data.sigma: expected a finite number, got nan"),
        ("[data]\nsigma = -1", "[data] sigma: expected at least 0, got -1.0"),
        ("[data]\nsigmo = 1", "data.sigmo: unknown key; did you mean 'sigma'?"),
        ("[data.parameters]\nrha = 1", "data.parameters.rha: unknown key"),
        ("[data]\nsigma=1\nsigma=2", "line 3: the key 'sigma' stands twice"),
        ("[data]\n[data]", "line 2: the table [data] stands twice"),
        ("[data\n", "not valid TOML"),
        (
            "[dada]\nsigma = 1",
            "dada.sigma: unknown table [dada] in the training of an encoder (known",
        ),
        ("data = 3", "data: expected a table [data]"),
        ("[model]\nwindow = 101", "model.window: expected at most the 100"),
        ("[model]\noperator = 'x'", "model.operator: expected that of the data"),
        ("[background]\nkind = 'good'", "kind: expected one of mean, independent"),
    ],
)
@pytest.mark.promise("I17", "one line with file and key")
def test_a_mistake_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_cell(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert message in told
    assert "\n" not in told


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_cell(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_cell(tmp_path / "binary.toml")


def test_merging_goes_key_by_key_and_changes_nothing_given() -> None:
    below = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(below, {"a": {"y": 5}, "c": 6}) == {
        "a": {"x": 1, "y": 5},
        "b": 3,
        "c": 6,
    }
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}


def test_quick_compares_all_encoders_on_three_operators() -> None:
    quick = experiment_from_tables("quick", PRESETS["quick"], source="the preset")
    cells = quick.cells()
    assert quick.axes.models == ENCODER_NAMES
    assert len(cells) == len({cell.name for cell in cells}) == 18
    assert {cell.data.operator for cell in cells} == {"x", "xy", "x2"}
    assert {cell.model.n_iterations for cell in cells} == {1, 3}
    # Everything but what is compared is the same, above all truth and budget.
    assert len({cell.training for cell in cells}) == 1
    assert len({cell.data for cell in cells}) == 3
    assert {cell.data.seed for cell in cells} == {0}


@pytest.mark.parametrize(
    "axes",
    [
        {"models": ("gru", "gru")},
        {"operators": ("yx",)},
        {"sigmas": (0.0,)},
        {"losses": ("mae",)},
        {"regimes": ("mean-var3d",)},
        {"regimes": ("mean:var3d",), "losses": ("mse",)},
    ],
)
def test_axes_that_make_no_sense(axes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Axes(**axes)
