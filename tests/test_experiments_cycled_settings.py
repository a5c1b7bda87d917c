"""Figures of encoders that differ in a setting: which methods make a line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cycled_samples import tiny_cycled
from l63fast.experiments.cycled import setting_figures as module
from l63fast.experiments.cycled.groups import Group
from l63fast.experiments.cycled.presets import CYCLED
from l63fast.experiments.presets import with_preset


def drawn(
    monkeypatch: pytest.MonkeyPatch, methods: dict[str, Any]
) -> dict[str, dict[str, dict[float, float]]]:
    """Return line -> {value: score} of each figure; scores count the methods."""
    figures: dict[str, Any] = {}

    def scores_across(panels: Any, axis: str, *, label: str) -> str:
        [lines] = panels.values()
        figures[axis] = {
            name: {x: point.value for x, point in line.items()}
            for name, line in lines.items()
        }
        assert label == "rms"
        return axis

    monkeypatch.setattr(module.plotting, "scores_across", scores_across)
    cells = tiny_cycled("oi", "enkf", "pf", methods=methods).cells()
    groups, rows = [], []
    for i, cell in enumerate(cells):
        metrics = {"label": LABELS.get(cell.key, "GRU, carried"), "measure": "rms"}
        result: Any = SimpleNamespace(settings=cell, metrics=metrics)
        groups.append(Group((result,)))
        row: Any = SimpleNamespace(
            method=cell.key, measure="rms", score=float(i), low=0.0, high=9.0,
            training_seconds=100.0 + i,
        )  # fmt: skip
        rows.append(row)
    assert list(module.setting_figures(groups, rows)) == [
        (f"by_{axis}", axis) for axis in figures
    ]
    return figures


LABELS = {"w1": "GRU, L=1", "w2": "GRU, L=2", "w4": "GRU, L=4"}
GRU = {"scheme": "encoder", "hidden": 4}


def test_methods_that_differ_in_a_setting_make_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = {
        f"u{n}": {**GRU, "cycles": {"unroll": n, "first_unroll": 2, "updates": 48 // n}}
        for n in (4, 8, 16)
    }
    figures = drawn(
        monkeypatch,
        {
            **methods,
            "other": {**GRU, "hidden": 5},
            "3dvar": {"scheme": "3dvar", "B": "climatology"},
            "enkf": {"scheme": "enkf", "n_members": 5, "inflation": 1.1},
            "pf": {"scheme": "pf", "n_particles": 30},
        },
    )
    level = {4.0: 4.0, 8.0: 4.0, 16.0: 4.0}
    assert figures == {
        "unroll": {
            "GRU, carried": {4.0: 0.0, 8.0: 1.0, 16.0: 2.0},
            "3dvar": level,
            "pf": dict.fromkeys(level, 6.0),
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
    assert figures == {"n_iterations": {"GRU, carried": {1.0: 0.0, 2.0: 1.0, 4.0: 2.0}}}
    # Two of them are no curve.
    del methods["k4"]
    assert drawn(monkeypatch, methods) == {}


def test_training_time_is_that_of_methods_alike_but_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = {f"e{n}": {**GRU, "training": {"epochs": n}} for n in (1, 2, 3)}
    figures = drawn(monkeypatch, methods)
    assert figures == {
        "training_seconds": {"GRU, carried": {100.0: 0.0, 101.0: 1.0, 102.0: 2.0}}
    }


def test_windows_are_a_line_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {f"w{n}": {**GRU, "memory": "window", "window": n} for n in (1, 2, 4)}
    figures = drawn(monkeypatch, methods)
    assert figures == {"window": {"GRU": {1.0: 0.0, 2.0: 1.0, 4.0: 2.0}}}


def test_the_preset_has_a_line_for_every_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    methods = with_preset("encoders-settings", {})["methods"]
    assert {"3dvar", "pf-4000"} <= set(CYCLED["sakov2012"]["methods"])
    LABELS.update({f"gru-window-{n}": f"GRU, L={n}" for n in (1, 2, 4, 8)})
    figures = drawn(monkeypatch, methods)
    assert {axis: sorted(found["GRU, carried"]) for axis, found in figures.items()
            if axis not in ("window", "training_seconds")} == {
        "unroll": [3, 6, 12, 24, 48],
        "n_iterations": [1, 2, 4],
    }  # fmt: skip
    # Trained as long as the others, not the longest of those with this value.
    as_long = float(list(methods).index("gru-8"))
    assert figures["unroll"]["GRU, carried"][24] == as_long
    assert figures["n_iterations"]["GRU, carried"][1] == as_long
    assert sorted(figures["window"]["GRU"]) == [1, 2, 4, 8]
    assert len(figures["training_seconds"]["GRU, carried"]) == 4
