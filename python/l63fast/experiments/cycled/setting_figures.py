"""Scores of encoders against a setting in which the methods of an experiment differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from statistics import median
from typing import Any, Final

from l63fast import plotting
from l63fast.experiments.cycled.encoders import TrainedEncoder
from l63fast.experiments.cycled.groups import Group
from l63fast.experiments.cycled.methods import method_table
from l63fast.experiments.cycled.rows import CycledRow
from l63fast.experiments.settings_file import dump_tables

__all__ = ["setting_figures"]

# Methods that differ in such a setting, and at most in how long they were trained, make
# a line, so that settings are compared at about equal cost.
_SETTINGS: Final = {
    "unroll": ("cycles", "unroll"),
    "n_iterations": ("", "n_iterations"),
    "window": ("", "window"),
    "training_seconds": ("training", "epochs"),
}
_HOW_LONG: Final = (
    ("training", "epochs"),
    ("cycles", "updates"),
    ("cycles", "first_unroll"),
)
_LEVEL: Final = ("3dvar", "4dvar")
_FEWEST: Final = 3

Line = dict[float, plotting.MethodScore]
# What training cost, and the score, of each method that could stand at a value.
Candidates = dict[float, list[tuple[float, plotting.MethodScore]]]


def setting_figures(
    groups: Sequence[Group], rows: Sequence[CycledRow]
) -> Iterator[tuple[str, Any]]:
    """Yield name and figure for each setting of which an encoder has several values.

    Parameters
    ----------
    groups : sequence of Group
        The methods of one case.
    rows : sequence of CycledRow
        Theirs.
    """
    level = {
        row.method: _score(row)
        for group, row in zip(groups, rows, strict=True)
        if row.role == "optimum" or group.first.settings.method.scheme in _LEVEL
    }
    for axis in _SETTINGS:
        lines = _lines(groups, rows, axis)
        if not lines:
            continue
        values = sorted({value for line in lines.values() for value in line})
        for name, score in level.items():
            lines[name] = dict.fromkeys(values, score)
        panels = {("", ""): lines}
        label = rows[0].measure
        yield f"by_{axis}", plotting.scores_across(panels, axis, label=label)


def _lines(
    groups: Sequence[Group], rows: Sequence[CycledRow], axis: str
) -> dict[str, Line]:
    """Return score by value of a setting, by what encoders are called without it."""
    found: dict[str, tuple[str, Candidates]] = {}
    for group, row in zip(groups, rows, strict=True):
        method = group.first.settings.method
        if isinstance(method, TrainedEncoder):
            table = method_table(method)
            section, name = _SETTINGS[axis]
            value = (table[section] if section else table)[name]
            x = row.training_seconds if axis == "training_seconds" else float(value)
            _, line = found.setdefault(_rest(table, axis), (_name(group, axis), {}))
            line.setdefault(x, []).append((_cost(table), _score(row)))
    return {
        label: _at_one_cost(candidates)
        for label, candidates in found.values()
        if len(candidates) >= _FEWEST
    }


def _at_one_cost(candidates: Candidates) -> Line:
    """Return one score per value: of several, that of the cost usual at the others."""
    alone = [some[0][0] for some in candidates.values() if len(some) == 1]
    usual = median(alone or [cost for some in candidates.values() for cost, _ in some])

    def distance(candidate: tuple[float, plotting.MethodScore]) -> float:
        return abs(log(candidate[0] / usual))

    return {x: min(some, key=distance)[1] for x, some in candidates.items()}


def _cost(table: dict[str, Any]) -> float:
    """Return about what a training costs: an iteration half of what is read once."""
    cycles, training = table["cycles"], table["training"]
    n_cycles = training["epochs"] * cycles["updates"] * cycles["unroll"]
    return float(n_cycles * (2 + table["n_iterations"]))


def _name(group: Group, axis: str) -> str:
    label = str(group.first.metrics["label"])
    return label.partition(", L=")[0] if axis == "window" else label


def _rest(table: dict[str, Any], axis: str) -> str:
    """Return the settings of a method that its line has in common."""
    left_out = {_SETTINGS[axis], *(_HOW_LONG if axis != "training_seconds" else ())}
    kept: dict[str, Any] = {}
    for section, value in table.items():
        if isinstance(value, dict):
            kept[section] = {
                k: v
                for k, v in value.items()
                if (section, k) not in left_out and k != "seed"
            }
        elif ("", section) not in left_out:
            kept[section] = value
    return dump_tables({"method": kept})


def _score(row: CycledRow) -> plotting.MethodScore:
    return plotting.MethodScore(row.score, (row.low, row.high))
