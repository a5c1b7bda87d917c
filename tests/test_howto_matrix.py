"""The page on matrices: its commands and its file are understood."""

from __future__ import annotations

import tomllib

import pytest

from cli_runs import Command
from l63fast.experiments import calibration
from l63fast.experiments.matrix import VARIED
from l63fast.experiments.presets import experiment_from_tables
from pages import blocks, page, understood

TEXT = page("howto/matrix")


def test_every_command_of_the_page_is_understood(
    l63fast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        calibration, "expected_seconds", lambda cells: 60.0 * len(cells)
    )
    told = [run.out for run in understood(TEXT, l63fast)]
    assert "dry run     24 cells, about 12 min" in told[0]
    assert "dry run     6 cells" in told[3]  # three operators, K = 3 and 1


def test_the_file_of_the_page_is_an_experiment() -> None:
    [text] = blocks(TEXT, "toml")
    experiment = experiment_from_tables("mine", tomllib.loads(text), source="the page")
    names = [cell.name for cell in experiment.cells()]
    assert len(experiment.encoders()) == 48
    assert "gru_xy_s0.1_forecast-mse_r2" in names


def test_every_axis_is_in_the_table() -> None:
    for axis in VARIED:
        assert f"| `--{axis}`" in TEXT
