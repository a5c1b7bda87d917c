"""Tiny experiments, cells and twin experiments, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest.mock import patch

from l63fast.experiments import report
from l63fast.experiments.experiment import Experiment
from l63fast.experiments.results import Source
from l63fast.experiments.runner import Outcome, run_cells
from l63fast.experiments.scoring import Summary
from l63fast.experiments.settings import Cell
from l63fast.experiments.settings_file import merged
from l63fast.storage import read_manifest

# A cell: an encoder on windows.
TINY: dict[str, Any] = {
    "cell": {"key": "gru"},
    "data": {"n_train": 12, "n_val": 6, "n_test": 6, "n_steps": 60},
    "windows": {"window": 3},
    "method": {
        "scheme": "encoder",
        "hidden": 8,
        "training": {"epochs": 2, "batch_size": 32},
    },
    "scores": {"n_bootstrap": 50},
}
# The same as flags of `l63fast train` and `l63fast experiment`.
FLAGS = (
    *("--train", 12, "--val", 6, "--test", 6, "--n_steps", 60, "--window", 3),
    *("--hidden", 8, "--epochs", 2, "--batch_size", 32, "--n_bootstrap", 50),
)
SIZES = FLAGS[:8]
# Methods of a tiny experiment in windows, and of one in cycles.
IN_WINDOWS: dict[str, Any] = {
    "3dvar": {"scheme": "3dvar"},
    "gru": TINY["method"],
}
TINY_CYCLES: dict[str, Any] = {
    "data": {"operator": "xyz", "n_train": 6, "n_val": 4, "n_test": 5},
    "cycles": {"n_cycles": 20, "burn_in": 0.5},
    "scores": {"n_bootstrap": 50},
}
IN_CYCLES: dict[str, Any] = {
    "oi": {"scheme": "oi"},
    "enkf": {"scheme": "enkf", "n_members": 5, "inflation": 1.05},
    "pf": {"scheme": "pf", "n_particles": 30, "regularisation": 1.5},
}
# An encoder in cycles that learns nothing, in a moment.
TINY_GRU: dict[str, Any] = {
    "scheme": "encoder",
    "hidden": 4,
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.003},
    "cycles": {"updates": 2, "unroll": 3, "first_unroll": 2},
}


def tiny_cell(**tables: dict[str, Any]) -> Cell:
    """Return a cell in windows that takes a moment."""
    return Cell.from_tables(merged(deepcopy(TINY), tables), source="a test")


def tiny_windows(*without: str, **tables: dict[str, Any]) -> Experiment:
    """Return an experiment in windows that takes a moment; `methods` are added."""
    below = {k: v for k, v in TINY.items() if k not in ("cell", "method")}
    return _tiny(below, IN_WINDOWS, without, tables)


def tiny_cycled(*without: str, **tables: dict[str, Any]) -> Experiment:
    """Return an experiment in cycles that takes a moment; `methods` are added."""
    return _tiny(TINY_CYCLES, IN_CYCLES, without, tables)


def _tiny(
    below: dict[str, Any], methods: Any, without: tuple[str, ...], tables: Any
) -> Experiment:
    kept = {k: m for k, m in methods.items() if k not in without}
    whole = merged(merged(deepcopy(below), {"methods": kept}), tables)
    if "operator" in whole.get("vary", {}):
        whole["data"].pop("operator", None)
    return Experiment.from_tables("tiny", whole, source="a test")


def rows_of(results: list[Any]) -> dict[str, Any]:
    """Return the row of each method of a single case, by its key, best first."""
    [rows] = Summary(Source.of(results)).cases
    return {row.method: row for row in rows}


def contents(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file of a result that promises to be the same."""
    files = read_manifest(directory).files
    return {name: file.sha256 for name, file in files.items() if name != "timing.json"}


def particle_cells(n_methods: int, n_cycles: int) -> list[Cell]:
    """Return cells that take a moment each, in cycles."""
    methods = {
        f"pf{k}": {"scheme": "pf", "n_particles": 200 + k, "regularisation": 1.5}
        for k in range(n_methods)
    }
    cycles = {"n_cycles": n_cycles}
    return tiny_cycled("oi", "enkf", "pf", cycles=cycles, methods=methods).cells()


def run_without_tables(chosen: list[Cell], root: Path, **where: Any) -> Outcome:
    """Run cells without their tables, which take longer than tiny cells."""
    with patch.object(report, "write_summary"):
        return run_cells(chosen, root / "tiny", **where)


def whole(root: Path) -> dict[str, dict[str, str]]:
    """Return the `contents` of every result below a folder, by its path."""
    return {
        str(path.parent.relative_to(root)): contents(path.parent)
        for path in root.glob("**/manifest.json")
    }


@contextmanager
def weights_only() -> Iterator[None]:
    """Let encoders write their weights only: compiling the programs takes seconds."""
    from l63fast.learning import export

    only = {"safetensors": export._WRITE["safetensors"]}
    with patch.object(export, "_WRITE", only):
        yield
