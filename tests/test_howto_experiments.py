"""The page on experiments: its commands, its file and its code do what it says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from cli_runs import Command
from l63fast.experiments.cycled.methods import METHODS
from l63fast.experiments.presets import PRESETS, experiment_from_tables

PAGE = Path(__file__).resolve().parents[1] / "docs" / "howto" / "experiments.md"
TEXT = PAGE.read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_every_command_of_the_page_is_understood(l63fast: Command) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line, comments=True)
        to_file = words.index(">") if ">" in words else len(words)
        asked = () if "--print_config" in words else ("--dry_run",)
        run = l63fast(*words[1:to_file], *asked)
        assert run.code == 0, (line, run.err)
        if to_file < len(words):
            Path(words[to_file + 1]).write_text(run.out)


def test_the_file_of_the_page_is_an_experiment() -> None:
    [text] = blocks("toml")
    experiment = experiment_from_tables("mine", tomllib.loads(text), source="the page")
    assert [cell.name for cell in experiment.cells()] == ["b_c", "enkf", "best"]
    assert experiment.cells()[0].data.observation_covariance[0, 1] == 0.1


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("python")
    exec(code, {})
    rmse, seconds = map(float, capsys.readouterr().out.split())
    assert 0.1 < rmse < 0.6
    assert seconds < 0.1


def test_presets_and_schemes_are_all_named() -> None:
    for name in (n for n, tables in PRESETS.items() if "methods" in tables):
        assert f"| `{name}` |" in TEXT
    for name in METHODS:
        assert f"`{name}`" in TEXT
