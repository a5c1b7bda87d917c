"""Settings in files: TOML there and back, and every mistake in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from experiment_samples import TINY_GRU, tiny_cell, tiny_cycled, tiny_windows
from l63fast.errors import ConfigurationError
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.settings import Cell
from l63fast.experiments.settings_file import (
    differences,
    dump_tables,
    merged,
    read_tables,
)
from l63fast.twin import TwinSettings


def read_cell(path: Path) -> Cell:
    """Return the cell of a file, as `l63fast train --config` reads it."""
    below = {"cell": {"key": "gru"}, "windows": {}, "method": {"scheme": "encoder"}}
    return Cell.from_tables(merged(below, read_tables(path)), source=str(path))


def test_settings_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    methods = {"gru": TINY_GRU, "best": {"scheme": "optimum", "max_particles": 4000}}
    axes = {"operator": ["x", "x2"], "training_seed": [0, 7]}
    for cell in (
        tiny_cell(),
        tiny_cell(data={"operator": "x2z", "sigma": 0.1 + 0.2, "dt": 1e-3}),
        tiny_cell(data={"Q": 0.1}),
        tiny_cell(data={"Q": ((0.5, 0.2, 0.0), (0.2, 0.3, 0.0), (0.0, 0.0, 0.0))}),
        tiny_cell(data={"sigma": 1.0, "R": ((1.5, 0.2), (0.2, 0.5))}),
        *tiny_cycled(methods=methods, vary=axes).cells(),
        *tiny_cycled().tuning().cells(),
        *tiny_windows().vary(window=[2, 3], regime=["mean:var3d"], seed=[3]).cells(),
    ):
        path.write_text(dump_tables(cell.to_tables()))
        again = Cell.from_tables(read_tables(path), source=str(path))
        assert again == cell
        assert again.name == cell.name


def test_a_matrix_in_a_file_is_the_matrix_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[data]\nQ = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0]]")
    asked = read_tables(path)["data"]
    have = dataclasses.asdict(TwinSettings(Q=np.diag([1.0, 2.0, 0.0])))
    assert differences(have, asked) == []
    assert len(differences({**have, "Q": 0.0}, asked)) == 1


MISTAKES = [
    ("[data]\nsigma = 'one'", "data.sigma: expected a valid number, got 'one'"),
    ("[data]\nn_train = 1.5", "data.n_train: expected a valid integer, got 1.5"),
    ("[data]\nn_train = true", "data.n_train: expected a valid integer, got True"),
    ("[data]\nsigma = nan", "data.sigma: expected a finite number, got nan"),
    ("[data]\nsigma = -1", "data.sigma: expected at least 0, got -1.0"),
    ("[data]\nsigmo = 1", "data.sigmo: unknown key; did you mean 'sigma'?"),
    ("[data.parameters]\nrha = 1", "data.parameters.rha: unknown key"),
    ("[data]\nsigma=1\nsigma=2", "line 3: the key 'sigma' is given twice"),
    ("[data]\n[data]", "line 2: the table [data] is given twice"),
    ("[data\n", "not valid TOML"),
    ("[dada]\nsigma = 1", "dada.sigma: unknown table [dada]; did you mean [data]? ("),
    ("data = 3", "data: expected a table [data]"),
    ("[windows]\nwindow = 101", "windows.window: expected at most the 100"),
    ("[windows]\nbackground = 'good'", "background: expected one of mean, independent"),
    ("[cycles]", "expected one of the tables [windows] and [cycles], got both"),
]
# As `train --config` and `experiment --config` read them.
OF_CELLS = [
    ("[method]\noperator = 'x'", "method.operator: unknown key"),
    ("[method.training]\nloss = 'mae'", "loss: expected one of mse, distance"),
    ("method = 3", "method: expected a table [method]"),
    ("[cell]\nkey = 3", "cell.key: expected a valid string, got 3"),
    ("[cell]\nkey = '../a'", "key: expected"),
    ("[cell]\nkex = 'a'", "cell.kex: unknown key; did you mean 'key'?"),
    ("[cell]\ntune_only = 'no'", "cell.tune_only: expected a valid boolean, got 'no'"),
    ("[cell]\nmeasure = 'rms'", "measure: expected one of rmse_a, rmse_pooled_a, dec"),
    ("cell = 3", "cell: expected a table [cell]"),
]
OF_EXPERIMENTS = [
    ("[vary]\noperator = 'x'", "vary.operator: expected a valid array, got 'x'"),
    ("[vary]\nsigma = [0.5, 'b']", "vary.sigma.1: expected a valid number, got 'b'"),
    ("[vary]\nsigma = [0.5, -1.0]", "sigma: expected a number above 0, got -1.0"),
    ("[experiment]\nmeasure = 'rms'", "measure: expected one of rmse_a, rmse_pooled"),
    ("[experiment]\nmodel_error = -1", "model_error: expected at least 0"),
    ("[methods.a]\nscheme = 'enfk'", "methods.a.scheme: expected one of background"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES + OF_CELLS + OF_EXPERIMENTS)
@pytest.mark.promise("I17", "one line with file and key")
def test_a_mistake_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    if (text, message) not in OF_EXPERIMENTS:
        assert_told(lambda: read_cell(path), path, message)
    if (text, message) not in OF_CELLS:
        whole = '[methods.oi]\nscheme = "oi"\n'
        path.write_text(text + ("" if "[windows]" in text else "\n[windows]"))
        lines = path.read_text()
        path.write_text(lines if "not valid" in message else f"{lines}\n{whole}")
        assert_told(lambda: Experiment.from_toml(path), path, message)


def assert_told(read, path: Path, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read()
    told = str(caught.value)
    assert told.startswith(f"{path}: ")
    assert message in told
    assert "\n" not in told


@pytest.mark.parametrize("read", [read_cell, Experiment.from_toml])
def test_a_file_that_cannot_be_read_is_named(read, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: .*No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"binary\.toml: .*not UTF-8"):
        read(tmp_path / "binary.toml")


def test_a_cell_without_its_key_is_refused() -> None:
    tables = tiny_cell().to_tables()
    del tables["cell"]["key"]
    with pytest.raises(
        ConfigurationError, match=r"a file: cell\.key: expected a value, got none"
    ):
        Cell.from_tables(tables, source="a file")


def test_merging_goes_key_by_key_and_changes_nothing_given() -> None:
    below = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(below, {"a": {"y": 5}, "c": 6}) == {
        "a": {"x": 1, "y": 5},
        "b": 3,
        "c": 6,
    }
    assert below == {"a": {"x": 1, "y": 2}, "b": 3}
