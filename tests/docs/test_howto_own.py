"""The pages on comparisons and on an operator, data and encoder of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pages import blocks, page, printed_by


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def printed_by_page(name: str) -> tuple[str, str]:
    """Return what the blocks of a page print one after the other, and should."""
    text, names = page(name), dict[str, Any]()
    printed = "".join(printed_by(code, names) for code in blocks(text, "python"))
    return printed, "".join(blocks(text, "text"))


def test_the_page_on_operators_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed, expected = printed_by_page("howto/operator")
    assert printed.split() == expected.split()
    assert (tmp_path / "data" / "own" / "manifest.json").exists()


def test_the_page_on_comparisons_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed, expected = map(without_times, printed_by_page("howto/compare"))
    assert printed.split() == expected.split()


def without_times(text: str) -> str:
    """Return a page's output without microseconds, and rules as wide as they need."""
    return re.sub(r"(?<= 0)  +[\d.]+$|─+", "", text, flags=re.MULTILINE)


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
