"""The page on matrices: its commands and its file are understood."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from cli_runs import make_command
from l63fast.experiments import calibration
from l63fast.experiments.matrix import VARIED
from l63fast.experiments.presets import experiment_from_tables

PAGE = Path(__file__).resolve().parents[1] / "docs" / "howto" / "matrix.md"
TEXT = PAGE.read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_every_command_of_the_page_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        calibration, "expected_seconds", lambda cells: 60.0 * len(cells)
    )
    l63fast = make_command(monkeypatch, capsys)
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    told = []
    for line in lines:
        words = shlex.split(line, comments=True)
        to_file = words.index(">") if ">" in words else len(words)
        asked = () if "--print_config" in words else ("--dry_run",)
        run = l63fast(*words[1:to_file], *asked)
        assert run.code == 0, (line, run.err)
        if to_file < len(words):
            Path(words[to_file + 1]).write_text(run.out)
        told.append(run.out)
    assert "dry run     24 cells, about 12 min" in told[0]
    assert "dry run     6 cells" in told[3]  # three operators, K = 3 and 1


def test_the_file_of_the_page_is_an_experiment() -> None:
    [text] = blocks("toml")
    experiment = experiment_from_tables("mine", tomllib.loads(text), source="the page")
    names = [cell.name for cell in experiment.cells()]
    assert len(experiment.encoders()) == 48
    assert "gru_xy_s0.1_forecast-mse_r2" in names


def test_every_axis_is_in_the_table() -> None:
    for axis in VARIED:
        assert f"| `--{axis}`" in TEXT
