"""The result folder of a cycled cell: what it holds, written and read back."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast.experiments.cycled.settings import CycledCell, cell_from_tables
from l63fast.experiments.result import opened
from l63fast.storage import read_bytes

__all__ = ["COLUMNS", "TRAJECTORIES", "CycledResult", "trajectories_csv"]

TRAJECTORIES: Final = "trajectories.csv"
COLUMNS: Final = ("rms", "square", "mirror_rms", "mirror_square")


@dataclass(frozen=True)
class CycledResult:
    """A finished result folder, verified against its manifest when it is opened."""

    directory: Path
    settings: CycledCell
    metrics: Mapping[str, Any]
    timing: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> CycledResult:
        """Return the result in a folder.

        Raises
        ------
        DataFileError
            If it is missing or damaged, or is not the result of a cycled method.
        """
        found = opened(path, "the result of a cycled method", TRAJECTORIES)
        return cls(
            found.directory,
            cell_from_tables(found.tables, source=found.source),
            found.metrics,
            found.timing(),
        )

    @cached_property
    def trajectories(self) -> dict[str, np.ndarray]:
        """Time means (n_trajectories,), by the names in `COLUMNS`."""
        text = read_bytes(self.directory, TRAJECTORIES).decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        return {name: np.array([float(r[name]) for r in rows]) for name in COLUMNS}


def trajectories_csv(means: np.ndarray) -> str:
    """Return time means (n_trajectories, 4), ordered as `COLUMNS`, as CSV text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("trajectory", *COLUMNS))
    writer.writerows((i, *map(repr, map(float, row))) for i, row in enumerate(means))
    return out.getvalue()
