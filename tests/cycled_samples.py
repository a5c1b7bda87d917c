"""Tiny cycled experiments for tests."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from l63fast.experiments.config import merged
from l63fast.experiments.cycled.experiment import CycledExperiment
from l63fast.experiments.cycled.reading import experiment_from_tables
from l63fast.experiments.source import Source
from l63fast.experiments.tables import Summary

TINY: dict[str, Any] = {
    "data": {"operator": "xyz", "n_train": 6, "n_val": 4, "n_test": 5},
    "cycle": {"n_cycles": 20, "burn_in": 0.5},
    "scores": {"n_bootstrap": 50},
}
METHODS: dict[str, Any] = {
    "oi": {"scheme": "oi"},
    "enkf": {"scheme": "enkf", "n_members": 5, "inflation": 1.05},
    "pf": {"scheme": "pf", "n_particles": 30, "regularisation": 1.5},
}


def tiny_cycled(*without: str, **tables: dict[str, Any]) -> CycledExperiment:
    """Return a cycled experiment that takes a moment; `methods` are added."""
    methods = {k: m for k, m in METHODS.items() if k not in without}
    all_tables = merged(merged(deepcopy(TINY), {"methods": methods}), tables)
    if "operators" in all_tables.get("experiment", {}):
        del all_tables["data"]["operator"]
    return experiment_from_tables("tiny", all_tables, source="a test")


def rows_of(results: list[Any]) -> dict[str, Any]:
    """Return the row of each method of a single case, by its key, best first."""
    [rows] = Summary(Source.of(results)).cases
    return {row.method: row for row in rows}
