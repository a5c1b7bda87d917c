"""The files of a result folder: what a cell writes and every later command reads."""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks
from l63fast.errors import DataFileError
from l63fast.experiments.config import CellSettings, cell_from_tables
from l63fast.storage import (
    Manifest,
    read_bytes,
    read_dataset,
    verify_directory,
    verify_file,
    write_bytes,
    write_dataset,
)
from l63fast.verification import trajectory_means

if TYPE_CHECKING:
    import xarray

__all__ = [
    "CONFIG",
    "DATA",
    "ESTIMATES",
    "HISTORY",
    "LOG",
    "METRICS",
    "METRICS_TABLE",
    "NO_CELLS",
    "REPORT",
    "TIMING",
    "VARIABLES",
    "Result",
    "csv_text",
    "timing",
    "versions",
    "write_estimates",
    "write_text",
]

# Folders of an experiment beside its cells.
DATA: Final = "data"
REPORT: Final = "report"
NO_CELLS: Final = (DATA, REPORT)

CONFIG: Final = "config.toml"
METRICS: Final = "metrics.json"
METRICS_TABLE: Final = "metrics.csv"
HISTORY: Final = "history.csv"
LOG: Final = "train.log"
TIMING: Final = "timing.json"
ESTIMATES: Final = "test.nc"

# What each method's states are called in `test.nc`.
VARIABLES: Final = {
    "truth": "truth",
    "background": "background",
    "3D-Var": "three_d_var",
    "4D-Var": "four_d_var",
    "analysis": "analysis",
}


@dataclass(frozen=True)
class Opened:
    """What every finished folder holds, verified against its manifest.

    Attributes
    ----------
    directory : Path
    manifest : Manifest
    tables : dict
        Of its `config.toml`.
    metrics : dict
    """

    directory: Path
    manifest: Manifest
    tables: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def source(self) -> str:
        """Where the tables are from, for messages about them."""
        return str(self.directory / CONFIG)

    def timing(self) -> dict[str, Any]:
        """Return when and where it was made, and how long that took."""
        content: dict[str, Any] = json.loads(read_bytes(self.directory, TIMING))
        return content


def opened(path: str | Path, what: str, *files: str) -> Opened:
    """Return the contents of a finished folder, `what` it is being told by its files.

    Raises
    ------
    DataFileError
        If it is missing or damaged, or lacks one of these files.
    """
    import tomllib

    directory = _checks.path("result_dir", path)
    manifest = verify_directory(directory)
    if not set(files) <= set(manifest.files):
        raise DataFileError(
            f"{directory}: expected {what}, got a folder without {' and '.join(files)}"
        )
    return Opened(
        directory,
        manifest,
        tomllib.loads(read_bytes(directory, CONFIG).decode()),
        json.loads(read_bytes(directory, METRICS)),
    )


@dataclass(frozen=True)
class Result:
    """A finished result folder, verified against its manifest when it is opened."""

    directory: Path
    manifest: Manifest
    settings: CellSettings
    metrics: Mapping[str, Any]
    timing: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Result:
        """Return the result in a folder.

        Raises
        ------
        DataFileError
            If it is missing or damaged, or is not the result of a training.
        """
        found = opened(path, "the result of a training", CONFIG, METRICS)
        return cls(
            found.directory,
            found.manifest,
            cell_from_tables(found.tables, source=found.source),
            found.metrics,
            found.timing(),
        )

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch of the training."""
        text = read_bytes(self.directory, HISTORY).decode()
        rows = csv.DictReader(io.StringIO(text))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    @cached_property
    def estimates(self) -> xarray.Dataset:
        """Truth, observations and every method's states on the test split."""
        verify_file(self.directory, ESTIMATES, self.manifest)
        return read_dataset(self.directory / ESTIMATES)

    @cached_property
    def trajectory_means(self) -> dict[str, np.ndarray]:
        """As `verification.trajectory_means` (n, 4), by method, on the test split."""
        estimates = self.estimates
        truth = estimates["truth"].to_numpy()
        states = {
            method: estimates[variable].to_numpy()
            for method, variable in VARIABLES.items()
            if method != "truth" and variable in estimates
        }
        mean = estimates["climatology"].to_numpy()
        states["climatology"] = np.broadcast_to(mean, truth.shape)
        return {name: trajectory_means(x, truth) for name, x in states.items()}


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same keys as CSV text, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_estimates(
    folder: Path,
    estimates: Mapping[str, np.ndarray],
    times: np.ndarray,
    settings: CellSettings,
) -> None:
    """Write what every method made of the test split as `test.nc`.

    Parameters
    ----------
    folder : Path
    estimates : dict of (n_trajectories, n_times, 3); "observations" (..., obs_dim)
    times : (n_times,) time since the start of a trajectory (time units)
    settings : CellSettings
    """
    import xarray as xr

    dims = ("trajectory", "time", "component")
    variables: dict[str, Any] = {
        variable: (
            dims,
            estimates[method],
            {"long_name": f"{method} state", "units": "1"},
        )
        for method, variable in VARIABLES.items()
        if method in estimates
    }
    variables["observations"] = (
        ("trajectory", "time", "observed"),
        estimates["observations"],
        {"long_name": "observations at the analysis time", "units": "1"},
    )
    variables["climatology"] = (
        ("component",),
        estimates["climatology"][0, 0],
        {"long_name": "mean of the training truth", "units": "1"},
    )
    coordinates = {
        "time": ("time", times, {"long_name": "model time", "units": "1"}),
        "component": ("component", list("xyz")),
    }
    attributes = {
        "Conventions": "CF-1.11",
        "title": f"Analyses of the test split by {settings.name}",
        "source": "l63fast",
        "operator": settings.data.operator,
    }
    dataset = xr.Dataset(variables, coordinates, attributes)
    write_dataset(dataset, folder / ESTIMATES)


def write_text(folder: Path, name: str, text: str) -> None:
    """Write a text file of a result folder."""
    write_bytes(folder / name, text.encode())


def versions() -> dict[str, str]:
    """Return the versions that decide a result, by package."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("l63fast", "numpy", "torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def timing(started: datetime, seconds: dict[str, Any]) -> dict[str, Any]:
    """Return when and where a cell ran and how long; apart from all else it made."""
    from l63fast._kernels import backend_info

    backend = backend_info()
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "machine": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "backend": f"{backend.name} ({backend.instruction_set})",
    }
