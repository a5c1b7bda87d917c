"""What the figures of a report are drawn from, and a figure with its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast.experiments.diagnostics import DIAGNOSTICS
from l63fast.experiments.tables import Summary
from l63fast.storage import read_dataset

if TYPE_CHECKING:
    import xarray

__all__ = ["Chapter", "Picture", "Rows", "Scene", "as_float", "samples_of"]

Rows = Sequence[Any]
# Before others in figures that cannot hold all methods.
_INTERESTING: Final = ("3dvar", "encoder", "optimum")


@dataclass(frozen=True)
class Picture:
    """A figure and its words.

    Attributes
    ----------
    name : str
        Of its files, without suffix.
    figure : Figure, or list of frames of an animation
    caption : str
        What is shown and on how many samples.
    summary : str
        For readers who do not see it, and the line it folds under if `folded`.
    folded : bool
        Whether the page shows it only when asked.
    """

    name: str
    figure: Any
    caption: str
    summary: str
    folded: bool = False


@dataclass
class Chapter:
    """The figures of a section, and what is missing in it."""

    pictures: list[Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Scene:
    """The summary of an experiment, and the files of its cells."""

    summary: Summary

    @cached_property
    def cases(self) -> list[list[Any]]:
        """The rows of each case, best first."""
        return self.summary.cases

    @cached_property
    def rows(self) -> list[Any]:
        """The rows of all cases."""
        return [row for rows in self.cases for row in rows]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Every method and its kind, so that each looks alike in all figures."""
        return {row.label: self._kind(row) for row in self.rows}

    def _kind(self, row: Any) -> str:
        method: Any = self.summary.cell(row).settings.method
        return str(method.model if row.scheme == "encoder" else row.scheme)

    @cached_property
    def featured(self) -> list[list[Any]]:
        """The cases whose states are shown: one per operator, that in its middle."""
        by_operator: dict[str, list[list[Any]]] = {}
        for rows in self.cases:
            by_operator.setdefault(rows[0].operator, []).append(rows)
        return [found[len(found) // 2] for found in by_operator.values()]

    def suffix(self, rows: Rows) -> str:
        """Return what tells the files of a featured case apart; empty for one case."""
        return f"_{rows[0].operator}" if len(self.featured) > 1 else ""

    def best(self, rows: Rows) -> Any:
        """Return the row of lowest score among those that compete; None without one."""
        able = [r for r in rows if r.role == "method" and np.isfinite(r.score)]
        return next(iter(able), None)

    def metrics(self, row: Any) -> Any:
        """Return the metrics of a row's own cell, of its first seed."""
        return self.summary.cell(row).metrics

    def data(self, row: Any) -> Any:
        """Return the settings of the data of a row."""
        return self.summary.cell(row).settings.data

    def diagnostics(self, row: Any) -> xarray.Dataset:
        """Return the diagnostics of a row, of its first seed."""
        if row.cell not in self._diagnostics:
            path = self.summary.cell(row).directory / DIAGNOSTICS
            self._diagnostics[row.cell] = read_dataset(path)
        return self._diagnostics[row.cell]

    @cached_property
    def _diagnostics(self) -> dict[str, xarray.Dataset]:
        return {}

    def diagnosed(
        self, rows: Rows, most: int, *, having: str = "lead"
    ) -> dict[str, xarray.Dataset]:
        """Return the diagnostics of at most so many methods of a case, by label.

        The best, 3D-Var, networks and the optimum come before others; they stand in the
        order of the case.
        """
        best = self.best(rows)
        first = [r for r in rows if r is best or r.scheme in _INTERESTING]
        rest = [r for r in rows if r not in first and r.role == "method"]
        found = {}
        for row in [*first, *rest]:
            data = self.diagnostics(row)
            if having in data:
                found[row.label] = data
            if len(found) == most:
                break
        return {row.label: found[row.label] for row in rows if row.label in found}


def samples_of(data: Sequence[xarray.Dataset]) -> str:
    """Return on how many samples diagnostics are based, in words."""
    sizes = {(int(d.attrs["n_trajectories"]), int(d.attrs["n_times"])) for d in data}
    n, n_times = max(sizes)
    total = f"{n * n_times:,}".replace(",", "\u202f")
    return f"{total} analyses ({n} test trajectories, {n_times} times)"


def as_float(data: xarray.Dataset, name: str) -> np.ndarray:
    """Return a variable as float64."""
    return np.asarray(data[name].to_numpy(), dtype=float)
