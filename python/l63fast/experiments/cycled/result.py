"""The result folder of a cycled cell: what it holds, written and read back."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast.errors import DataFileError
from l63fast.experiments.cycled.settings import CycledCell, cell_from_tables
from l63fast.experiments.result import CONFIG, METRICS, TIMING
from l63fast.storage import read_bytes, verify_directory

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
        directory = _checks.path("result_dir", path)
        manifest = verify_directory(directory)
        if TRAJECTORIES not in manifest.files:
            raise DataFileError(
                f"{directory}: expected the result of a cycled method, got a folder "
                f"without {TRAJECTORIES}"
            )
        tables = tomllib.loads(read_bytes(directory, CONFIG).decode())
        return cls(
            directory,
            cell_from_tables(tables, source=str(directory / CONFIG)),
            json.loads(read_bytes(directory, METRICS)),
            json.loads(read_bytes(directory, TIMING)),
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
