"""Tiny settings and twin experiments for tests of cells and commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l63fast.experiments.config import CellSettings, cell_from_tables, merged
from l63fast.storage import read_manifest

TINY: dict[str, Any] = {
    "data": {"n_train": 12, "n_val": 6, "n_test": 6, "n_steps": 60},
    "model": {"window": 3, "hidden": 8},
    "training": {"epochs": 2, "batch_size": 32},
    "scores": {"n_bootstrap": 50},
}
FLAGS = (
    *("--train", 12, "--val", 6, "--test", 6, "--n_steps", 60, "--window", 3),
    *("--hidden", 8, "--epochs", 2, "--batch_size", 32, "--n_bootstrap", 50),
)
SIZES = FLAGS[:8]


def tiny_cell(**tables: dict[str, Any]) -> CellSettings:
    """Return the settings of a cell that takes a moment."""
    return cell_from_tables(merged(TINY, tables), source="a test")


def contents(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file of a result that promises to be the same."""
    files = read_manifest(directory).files
    return {name: file.sha256 for name, file in files.items() if name != "timing.json"}
