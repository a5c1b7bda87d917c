"""The page on experiments: its commands, its file and its code do what it says."""

from __future__ import annotations

import tomllib
from typing import Any

from cli_runs import Command
from l63fast.experiments.cycled.methods import METHODS
from l63fast.experiments.presets import PRESETS, experiment_from_tables
from pages import blocks, page, printed_by, understood

TEXT = page("howto/experiments")


def test_every_command_of_the_page_is_understood(l63fast: Command) -> None:
    assert len(understood(TEXT, l63fast)) > 5


def test_the_file_of_the_page_is_an_experiment() -> None:
    [text] = blocks(TEXT, "toml")
    experiment = experiment_from_tables("mine", tomllib.loads(text), source="the page")
    assert [cell.name for cell in experiment.cells()] == ["b_c", "enkf", "best"]
    assert experiment.cells()[0].data.observation_covariance[0, 1] == 0.1


def test_the_code_of_the_page_runs() -> None:
    code, imperfect = blocks(TEXT, "python")
    names: dict[str, Any] = {}
    rmse, seconds = map(float, printed_by(code, names).split())
    assert 0.1 < rmse < 0.6
    assert seconds < 0.1
    assert "name='parameters'" in printed_by(imperfect, names)


def test_presets_and_schemes_are_all_named() -> None:
    for name in (n for n, tables in PRESETS.items() if "methods" in tables):
        assert f"| `{name}` |" in TEXT
    for name in METHODS:
        assert f"`{name}`" in TEXT
