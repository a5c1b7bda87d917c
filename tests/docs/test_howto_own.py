"""The pages on comparisons and on an operator, data and encoder of one's own."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_runs import Command
from experiment_samples import weights_only
from l63fast.experiments.experiment import Experiment
from l63fast.learning.export import load_weights
from pages import blocks, page, printed_by, understood

SCORE = re.compile(r"^(.*?) +(\d\.\d+) ", re.MULTILINE)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def modules_forgotten() -> Iterator[None]:
    yield
    for name in ("nets", "sensors"):
        sys.modules.pop(name, None)


def printed_by_page(name: str) -> tuple[str, str]:
    """Return what the blocks of a page print one after the other, and should.

    One that begins with a docstring is the module that the page says.
    """
    text, names, printed = page(name), dict[str, Any](), ""
    [*modules] = re.findall(r"Save this as `(\w+\.py)`", text)
    for code in blocks(text, "python"):
        if code.startswith('"""'):
            Path(modules.pop(0)).write_text(code)
        else:
            printed += printed_by(code, names)
    return printed, "".join(blocks(text, "text"))


@pytest.mark.usefixtures("one_thread", "modules_forgotten")
def test_the_page_on_operators_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, l63fast: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    printed, expected = printed_by_page("howto/operator")
    assert printed.split() == expected.split()
    told = [run.out for run in understood(page("howto/operator"), l63fast)]
    assert "observed: sensors:saturating" in told[0]
    assert "2 cases: x, sensors-square" in told[1]
    assert all("observed: sensors:saturating" in out for out in told[2:])


def test_the_page_on_own_data_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, l63fast: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    printed, expected = printed_by_page("howto/own_data")
    assert printed.split() == expected.split()
    assert (tmp_path / "data" / "many" / "manifest.json").exists()
    text = page("howto/own_data")
    cycles = [said.out.split("cycles      ")[-1] for said in understood(text, l63fast)]
    assert cycles[0].startswith("72 scored after 16 ")
    assert cycles[2].startswith("152 scored after 8 ")
    [mine] = blocks(text, "toml")
    experiment = Experiment.from_tables("mine", tomllib.loads(mine), source="the page")
    assert [cell.name for cell in experiment.cells()] == ["3dvar", "enkf-10"]


def test_the_page_on_comparisons_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed, expected = map(without_times, printed_by_page("howto/compare"))
    assert printed.split() == expected.split()


def without_times(text: str) -> str:
    """Return a page's output without microseconds, and rules as wide as they need."""
    return re.sub(r"(?<= 0)  +[\d.,]+$|─+", "", text, flags=re.MULTILINE)


@pytest.mark.usefixtures("one_thread")
def test_the_page_on_encoders_comes_to_what_it_says() -> None:
    with torch.random.fork_rng(devices=[]):
        found, expected = (
            [float(number) for number in re.findall(r"-?\d\.\d+", text)]
            for text in printed_by_page("howto/encoder")
        )
    assert found == pytest.approx(expected, abs=0.05)
    three_d_var, own, enkf = found[:3]
    assert enkf < own < three_d_var


@pytest.mark.usefixtures("one_thread", "modules_forgotten")
def test_the_page_on_training_ones_own_encoder_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, l63fast: Command
) -> None:
    text, names = page("howto/own_encoder"), dict[str, Any]()
    module, *code = blocks(text, "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nets.py").write_text(module)
    with weights_only():
        printed = [printed_by(block, names) for block in code]
    expected = blocks(text, "text")
    assert printed[-1] == expected[-1]
    for found, said in zip(printed[:2], expected[:2], strict=True):
        ours, theirs = (
            {label.strip(): float(score) for label, score in SCORE.findall(table)}
            for table in (found, said)
        )
        assert ours == pytest.approx(theirs, abs=0.04)
        assert ours.pop("3D-Var") > max(ours.values())
    (tmp_path / "mine.toml").write_text(*blocks(text, "toml"))
    told = [run.out for run in understood(text, l63fast)]
    assert "3 cells" in told[0]
    assert all("nets:Net, 64 hidden" in out for out in told[1:])
    encoder, card = load_weights(
        tmp_path / "results/in_windows/mine", model=names["Net"]
    )
    assert card["encoder"]["model"] == "nets:Net"
    assert card["n_parameters"] == sum(p.numel() for p in encoder.parameters())
