"""Everything a report is made of, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from l63fast.experiments.diagnostics import DIAGNOSTICS, diagnose
from l63fast.experiments.reporting.answer import Finding, findings
from l63fast.experiments.reporting.entries import Case, Entry, contenders
from l63fast.experiments.reporting.reading import entries_of
from l63fast.experiments.reporting.source import Source
from l63fast.experiments.result import VARIABLES, Result
from l63fast.storage import read_dataset

if TYPE_CHECKING:
    import xarray

__all__ = ["Subject"]


@dataclass(frozen=True, eq=False)
class Subject:
    """An experiment, the entries made of it, and what they show."""

    source: Source
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, source: Source) -> Subject:
        """Return the subject of a report on an experiment."""
        return cls(source, tuple(entries_of(source)))

    @cached_property
    def methods(self) -> list[str]:
        """Every method, so that each looks alike in all figures."""
        return list(dict.fromkeys(entry.method for entry in self.entries))

    @cached_property
    def findings(self) -> list[Finding]:
        """One per case."""
        return findings(self.entries)

    @cached_property
    def featured(self) -> list[Finding]:
        """The cases whose states are shown: one per operator, that in its middle."""
        by_operator: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_operator.setdefault(finding.case.operator, []).append(finding)
        return [found[len(found) // 2] for found in by_operator.values()]

    def suffix(self, case: Case) -> str:
        """Return what tells the files of a featured case apart; empty for one case."""
        return f"_{case.operator}" if len(self.featured) > 1 else ""

    def diagnostics(self, entry: Entry) -> xarray.Dataset | None:
        """Return the diagnostics of an entry, of its first seed, if there are any.

        Cycled cells store them; those of encoders are made from the states they store.
        """
        if entry not in self._diagnostics:
            self._diagnostics[entry] = _diagnostics_of(entry)
        return self._diagnostics[entry]

    @cached_property
    def _diagnostics(self) -> dict[Entry, xarray.Dataset | None]:
        return {}

    def diagnosed(
        self, finding: Finding, most: int, *, having: str = "lead"
    ) -> dict[str, xarray.Dataset]:
        """Return the diagnostics of at most so many methods of a case, by method.

        The best, 3D-Var, encoders and the optimum come before others; they stand in
        the order of the case.
        """
        found = {}
        for entry in _by_interest(finding):
            data = self.diagnostics(entry)
            if data is not None and having in data:
                found[entry.method] = data
            if len(found) == most:
                break
        order = [entry.method for entry in finding.entries]
        return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def _by_interest(finding: Finding) -> list[Entry]:
    ranked = contenders(finding.entries)
    first = [e for e in finding.entries if e is finding.best or e.scheme == "3dvar"]
    first += [e for e in finding.entries if e.scheme == "encoder"]
    first += [e for e in finding.entries if e.role == "optimum"]
    rest = [e for e in finding.entries if e.role == "method" and not e.is_finite]
    return list(dict.fromkeys([*first, *ranked, *rest]))


def _diagnostics_of(entry: Entry) -> xarray.Dataset | None:
    result = entry.results[0]
    if not isinstance(result, Result):  # cycled, or an optimum, which keeps none
        path = result.directory / DIAGNOSTICS
        return read_dataset(path) if path.exists() else None
    if entry.shown_in == "climatology":
        return None
    stored = result.estimates
    return diagnose(
        stored["truth"].to_numpy(),
        stored["background"].to_numpy(),
        stored[VARIABLES[entry.shown_in]].to_numpy(),
        stored["observations"].to_numpy(),
        stored["time"].to_numpy(),
        result.settings.data,
    )


def samples_of(data: Sequence[xarray.Dataset]) -> str:
    """Return on how many samples diagnostics are based, in words."""
    sizes = {(int(d.attrs["n_trajectories"]), int(d.attrs["n_times"])) for d in data}
    n, n_times = max(sizes)
    total = f"{n * n_times:,}".replace(",", "\u202f")
    return f"{total} analyses ({n} test trajectories, {n_times} times)"


def as_float(data: xarray.Dataset, name: str) -> np.ndarray:
    """Return a variable as float64."""
    return np.asarray(data[name].to_numpy(), dtype=float)
