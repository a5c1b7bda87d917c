"""Reads a cycled experiment from the tables of a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from l63fast import _checks
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.config import ScoreSettings, first_key
from l63fast.experiments.cycled.experiment import (
    CycledAxes,
    CycledExperiment,
    varied,
)
from l63fast.experiments.cycled.methods import method_from_table
from l63fast.experiments.cycled.settings import CycleSettings, data_from_table
from l63fast.experiments.result import NO_CELLS
from l63fast.experiments.settings_file import build

__all__ = ["experiment_from_tables"]

_SECTIONS: Final = ("experiment", "data", "cycle", "scores", "methods")


def _check_key(key: str, source: str) -> None:
    try:
        _checks.file_name("methods", key)
    except ArgumentValueError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    if key in NO_CELLS:
        raise ConfigurationError(
            f"{source}: methods.{key}: expected another name: the experiment has a "
            "folder of its own of that name"
        )


def experiment_from_tables(
    name: str, tables: Mapping[str, Any], *, source: str
) -> CycledExperiment:
    """Return an experiment from its tables.

    Raises
    ------
    ConfigurationError
        If a table or key is unknown, or a value has the wrong type or makes no sense.
    """
    _checks.file_name("name", name)
    for table, content in tables.items():
        if table not in _SECTIONS:
            raise ConfigurationError(
                f"{source}: {first_key(table, content)}: a cycled experiment has no "
                f"such setting (its tables are {', '.join(_SECTIONS)}; those of an "
                "encoder are in its method, such as [methods.gru.training])"
            )
    methods = tables.get("methods", {})
    if not isinstance(methods, Mapping) or not methods:
        raise ConfigurationError(f"{source}: methods: expected at least one table")
    for key in methods:
        _check_key(key, source)
    cycle = build(CycleSettings, tables.get("cycle", {}), source=source, key="cycle")
    axes = build(
        CycledAxes, tables.get("experiment", {}), source=source, key="experiment"
    )
    data = tables.get("data", {})
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{source}: data: expected a table [data]")
    for key, axis in varied(axes).items():
        if key in data:
            raise ConfigurationError(
                f"{source}: data.{key}: is varied by experiment.{axis}: give that one"
            )
    experiment = CycledExperiment(
        name,
        axes,
        data_from_table(data, cycle, source),
        cycle,
        {
            key: method_from_table(table, source=source, key=f"methods.{key}")
            for key, table in methods.items()
        },
        build(ScoreSettings, tables.get("scores", {}), source=source, key="scores"),
    )
    try:
        experiment.cells()
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    return experiment
