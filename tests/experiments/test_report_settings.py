"""Figures of networks that differ in a setting: which of them make a line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from experiment_samples import tiny_cycled
from l63fast.experiments.report import scores as module
from l63fast.experiments.settings_file import preset_tables
from l63fast.plotting._style import kind_of

GRU = {"scheme": "encoder", "hidden": 4}
Lines = dict[str, dict[float, float]]


def drawn(monkeypatch: pytest.MonkeyPatch, methods: dict[str, Any]) -> dict[str, Lines]:
    """Return line -> {value: score} of each figure; scores count the methods."""
    figures: dict[str, Lines] = {}

    def scores_across(
        panels: Any, axis: str, *, label: str, in_decibel: bool, among: dict[str, str]
    ) -> str:
        [lines] = panels.values()
        kinds = {kind_of(name, among) for name in lines}
        assert kinds <= {"gru", "oi", "3dvar", "optimum"}
        figures[axis] = {
            name: {x: point.value for x, point in line.items()}
            for name, line in lines.items()
        }
        assert (label, in_decibel) == ("rmse_a", False)
        return axis

    monkeypatch.setattr(module.plotting, "scores_across", scores_across)
    monkeypatch.setattr(module, "samples", lambda summary, rows: "")
    cells = {c.key: c for c in tiny_cycled("oi", "enkf", "pf", methods=methods).cells()}
    rows = [
        SimpleNamespace(
            **{"label": key, "scheme": cell.method.scheme, "role": cell.method.role},
            **{"score": float(i), "low": 0.0, "high": 9.0, "cell": key, "case": ""},
            **{"missing": 0.0},
            **{"operator": "xyz", "sigma": 1.0, "interval": 0.1, "mirror_aware": False},
        )
        for i, (key, cell) in enumerate(cells.items())
    ]
    shown = SimpleNamespace(shown=lambda mirror_aware: "rmse_a", in_decibel=False)
    summary: Any = SimpleNamespace(
        measure=shown,
        suffix=lambda rows: "",
        kinds={
            key: getattr(cell.method, "model", cell.method.scheme)
            for key, cell in cells.items()
        },
        cell=lambda row: SimpleNamespace(settings=cells[row.cell]),
    )
    pictures = list(module.by_settings(summary, rows))
    assert [picture.name for picture in pictures] == [f"by_{axis}" for axis in figures]
    return figures


def test_methods_that_differ_in_a_setting_make_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = {
        f"u{n}": {**GRU, "cycles": {"unroll": n, "first_unroll": 2, "updates": 48 // n}}
        for n in (4, 8, 16)
    }
    others = {
        "other": {**GRU, "hidden": 5},
        "3dvar": {"scheme": "3dvar", "B": "climatology"},
        "enkf": {"scheme": "enkf", "n_members": 5, "inflation": 1.1},
        "best": {"scheme": "optimum"},
    }
    level = dict.fromkeys((4.0, 8.0, 16.0), 4.0)
    assert drawn(monkeypatch, {**methods, **others}) == {
        "unroll": {
            "GRU": {4.0: 0.0, 8.0: 1.0, 16.0: 2.0},
            "3dvar": level,
            "best": dict.fromkeys(level, 6.0),
        }
    }


def test_iterations_are_compared_whatever_the_length_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = {
        f"k{k}": {**GRU, "n_iterations": k, "training": {"epochs": 8 // k}}
        for k in (1, 2, 4)
    }
    figures = drawn(monkeypatch, methods)
    assert figures == {"n_iterations": {"GRU": {1.0: 0.0, 2.0: 1.0, 4.0: 2.0}}}
    # Two of them are no curve.
    del methods["k4"]
    assert drawn(monkeypatch, methods) == {}


def test_lines_are_told_apart_by_what_they_differ_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = {
        f"w{n}h{h}": {**GRU, "memory": "window", "window": n, "hidden": h}
        for h in (4, 8)
        for n in (1, 2, 4)
    }
    assert drawn(monkeypatch, methods) == {
        "window": {
            "GRU, hidden 4": {1.0: 0.0, 2.0: 1.0, 4.0: 2.0},
            "GRU, hidden 8": {1.0: 3.0, 2.0: 4.0, 4.0: 5.0},
        }
    }


def test_the_preset_has_a_line_for_every_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = preset_tables("encoders-settings")["methods"]
    figures = drawn(monkeypatch, methods)
    lines = {
        axis: next(line for name, line in found.items() if "GRU" in name)
        for axis, found in figures.items()
    }
    assert sorted(lines["unroll"]) == [3, 6, 12, 24, 48]
    assert sorted(lines["n_iterations"]) == [1, 2, 4]
    assert sorted(lines["window"]) == [1, 2, 4, 8]
    assert len(lines["epochs"]) == 4
    # Trained as long as the others, not the longest of those with this value.
    as_long = float(list(methods).index("gru-8"))
    assert lines["unroll"][24] == as_long
    assert lines["n_iterations"][1] == as_long
