"""The page on experiments: its commands, its files and its code do what it says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cli_runs import Command
from l63fast.cli.command_line import OPTIONS
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.methods import METHODS
from l63fast.experiments.settings import AXES, TUNABLE
from l63fast.experiments.settings_file import PRESETS, WINDOW_PRESETS
from pages import blocks, page, printed_by, understood

TEXT = page("howto/experiments")


def test_every_command_of_the_page_is_understood(l63fast: Command) -> None:
    told = [run.out for run in understood(TEXT, l63fast)]
    assert len(told) > 8
    # Three operators and seeds; two encoders of two variants, and 3D-Var.
    assert sum("dry run     45 cells" in out for out in told) == 1


def test_the_files_of_the_page_are_experiments() -> None:
    in_cycles, in_windows = (
        Experiment.from_tables("mine", tomllib.loads(text), source="the page").cells()
        for text in blocks(TEXT, "toml")
    )
    keys = ("b_c", "enkf", "gru", "best")
    assert [c.name for c in in_cycles] == [f"s{s}-{k}" for s in (0.5, 1) for k in keys]
    assert in_cycles[0].data.Q == 0.01
    assert "x_mean-var3d_r1-mlp" in {cell.name for cell in in_windows}
    assert len(in_windows) == 2 * 2 * 3 * 3


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment, schemes, imperfect = blocks(TEXT, "python")
    names: dict[str, Any] = {}
    printed = printed_by(experiment, names)
    assert printed.startswith("['s0.5-3dvar', 's0.5-enkf-10', 's1-3dvar', 's1-enkf")
    ratios = names["board"].set_index(["sigma", "method"])["ratio_to_3dvar"]
    assert (ratios[:, "enkf-10"] < 1.0).all()
    rmse, seconds = map(float, printed_by(schemes, names).split())
    assert 0.1 < rmse < 0.6
    assert seconds < 0.1
    assert "name='parameters'" in printed_by(imperfect, names)


def test_presets_and_schemes_are_all_named() -> None:
    in_cycles, in_windows = TEXT.split("\n| in windows |")
    for name in PRESETS:
        table = in_windows if name in WINDOW_PRESETS else in_cycles
        assert f"\n| `{name}` | " in table
    for name, method in METHODS.items():
        assert f"`{name}`" in TEXT
        tuned = {f.name for f in fields(method) if f.default is None} & set(TUNABLE)
        row = re.search(rf"^\| `{name}` \| .*$", in_windows, re.MULTILINE)
        assert not tuned or all(f"`{number}`*" in row[0] for number in tuned)


def test_every_axis_is_in_the_table() -> None:
    flags = {option.target: option.name for option in OPTIONS["experiment"]}
    for axis, (places, form) in AXES.items():
        start = re.escape(f"| `--{flags[f'vary.{axis}']}`")
        [row] = re.findall(rf"^{start}.*$", TEXT, re.MULTILINE)
        assert f" `{axis}` |" in row
        [name] = re.findall(r"\| `([^`]*)` \|$", row)
        assert re.fullmatch(re.sub(r"\{.*\}", r"[\\w.-]+", form), name)
        assert len(places) > 1 or f"{places[0].split('.')[1]}`" in row or "same" in row
