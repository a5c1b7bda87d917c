"""Tables as text: numbers are never cut, whatever the width of the terminal."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from l63fast.cli.output import print_whole
from l63fast.experiments.describe import (
    Table,
    decimals,
    describe_outcome,
)

HEADER = ("method", "score", "95 %", "again")
LINES = [
    ("MLP, K=3, var3d_window", "0.585", "0.581–0.589", "0.423"),
    ("3D-Var", "1.051", "1.046–1.055", "0.851"),
]


def shown(width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(Table(HEADER, LINES, "xy").rich())
    return out.getvalue().splitlines()


def test_a_wide_terminal_shows_a_line_for_each_row() -> None:
    lines = [line.split("  ") for line in shown(80)]
    assert lines[0][0].strip() == "xy"
    assert [word.strip() for word in lines[4][:2]] == [
        "MLP, K=3, var3d_window",
        "0.585",
    ]


def test_a_narrow_terminal_breaks_words_and_keeps_numbers() -> None:
    text = "\n".join(shown(42))
    assert "…" not in text
    for line in LINES:
        for number in line[1:]:
            assert number in text
    assert "MLP, K=3, var3d_window" not in text  # it is on two lines
    assert "var3d_window" in text  # but words are whole


def test_a_table_that_is_too_wide_for_its_terminal_is_printed_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_whole(Table(HEADER, LINES).rich())
    text = capsys.readouterr().out
    assert "…" not in text
    assert all(cell in text for line in LINES for cell in line[1:])
    assert max(map(len, text.splitlines())) > 30
    print_whole(Table(HEADER[:2], [line[:2] for line in LINES]).rich())
    assert max(map(len, capsys.readouterr().out.splitlines())) == 30


def test_markdown_puts_numbers_to_the_right() -> None:
    assert Table(HEADER, LINES[1:]).markdown().splitlines() == [
        "| method | score | 95 % | again |",
        "|---|--:|--:|--:|",
        "| 3D-Var | 1.051 | 1.046–1.055 | 0.851 |",
    ]


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (8.53, "8.530"),
        (0.1, "0.100"),
        (0.09996, "0.1000"),
        (0.0217, "0.0217"),
        (0.00343, "0.00343"),
        (0.0, "0.000"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_small_scores_keep_three_digits(score: float, text: str) -> None:
    assert f"{score:.{decimals(score)}f}" == text


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, "GRU, L=3: rmse_pooled_a 0.02168"),
        ({"measure": "rmse_a"}, "GRU, L=3: rmse_a 0.01234"),
        ({"measure": "decibel"}, "GRU, L=3: decibel -33.28"),
        ({"mirror_aware": True}, "GRU, L=3: mirror-aware rmse_pooled_a not finite"),
    ],
)
def test_a_finished_cell_is_told_in_a_line(facts: dict[str, Any], told: str) -> None:
    scores = {
        "rmse_a": 0.0123412,
        "rmse_pooled_a": 0.0216812,
        "mirror_rmse_pooled_a": math.nan,
    }
    metrics = {"label": "GRU, L=3", "measure": "rmse_pooled_a", "mirror_aware": False}
    assert describe_outcome({**metrics, "scores": scores, **facts}) == told


@pytest.mark.parametrize(
    ("is_bracketed", "end"), [(True, ""), (False, " (at the end of the range tried)")]
)
def test_what_was_tuned_is_told_in_a_line(is_bracketed: bool, end: str) -> None:
    metrics = {
        **{"label": "3D-Var", "measure": "rmse_a", "mirror_aware": False},
        "tuning": {"score": 0.56789, "is_bracketed": is_bracketed},
        "parameter": {"name": "b", "value": 0.123456},
    }
    assert describe_outcome(metrics) == f"3D-Var, b 0.1235{end}: rmse_a 0.5679"
