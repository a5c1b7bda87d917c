"""What cases and encoders are called: by the settings in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from l63fast.experiments.config import analysis_time
from l63fast.experiments.result import Result

__all__ = ["case_notes", "method_names"]

_CASE: Final = ("data", "background")
_METHOD: Final = ("model", "training")
# They stand in a name of their own, or make no other method.
_ELSEWHERE: Final = (
    "data.operator",
    "data.sigma",
    "data.steps_per_cycle",
    "data.seed",
    "model.model",
    "training.seed",
)
_WORDS: Final = {
    "model.n_iterations": "K={}",
    "model.window": "L={}",
    "model.hidden": "{} units",
    "model.memory": "memory {}",
    "model.iteration": "{}",
    "training.loss": "{}",
    "training.epochs": "{} epochs",
    "background.kind": "background {}",
    "data.Q": "Q {}",
}


def method_names(results: Sequence[Result]) -> dict[int, str]:
    """Return what the encoder of each result is called, by the result's `id`."""
    flat = _flat(results, _METHOD)
    for row in flat.values():
        if row["model.analysis_at"] == analysis_time(row["training.loss"]):
            del row["model.analysis_at"]  # the loss says it
    differing = _differing(flat, always=("model.n_iterations",))
    return {
        key: ", ".join([str(row["model.model"]).upper(), *_said(row, differing)])
        for key, row in flat.items()
    }


def case_notes(results: Sequence[Result]) -> dict[int, str]:
    """Return what the case of each result differs in besides the usual, by `id`."""
    flat = _flat(results, _CASE)
    differing = _differing(flat)
    return {key: ", ".join(_said(row, differing)) for key, row in flat.items()}


def _flat(
    results: Sequence[Result], sections: Sequence[str]
) -> dict[int, dict[str, Any]]:
    rows = {}
    for result in results:
        tables = result.settings.to_tables()
        rows[id(result)] = {
            f"{section}.{name}": value
            for section in sections
            for name, value in tables[section].items()
            if not isinstance(value, Mapping)
        }
    return rows


def _differing(
    flat: Mapping[int, Mapping[str, Any]], always: tuple[str, ...] = ()
) -> list[str]:
    rows = list(flat.values())
    names = dict.fromkeys(name for row in rows for name in row)
    return [
        name
        for name in names
        if name not in _ELSEWHERE
        and (name in always or len({str(row.get(name)) for row in rows}) > 1)
    ]


def _said(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        _WORDS.get(name, name.split(".")[1].replace("_", " ") + " {}").format(row[name])
        for name in names
        if name in row
    ]
