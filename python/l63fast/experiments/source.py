"""The finished cells in the folder of an experiment, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from l63fast import _checks
from l63fast.errors import DataFileError, L63Error
from l63fast.experiments.cycled.result import TRAJECTORIES, CycledResult
from l63fast.experiments.optimum import OPTIMUM, OptimumResult
from l63fast.experiments.result import CONFIG, NO_CELLS, REPORT, Result
from l63fast.storage import MANIFEST

__all__ = ["Source"]


@dataclass(frozen=True)
class Source:
    """An experiment as its folder shows it.

    Attributes
    ----------
    folder : Path
    results : list of Result, or of CycledResult
        Verified against their manifests.
    left_out : dict of str
        Why a cell is not among them, by its name.
    """

    folder: Path
    results: list[Any]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: str | Path, failures: Mapping[str, str] | None = None
    ) -> Source:
        """Return the experiment in a folder; `failures` are cells known to be missing.

        Raises
        ------
        DataFileError
            If the folder is none of an experiment, or no cell in it can be read.
        """
        folder = _checks.path("results", path)
        if not folder.is_dir():
            raise DataFileError(
                f"{folder}: expected the folder of an experiment, got "
                f"{'a file' if folder.exists() else 'nothing'}"
            )
        cells = sorted(p for p in folder.iterdir() if _is_cell(p))
        if not cells:
            raise DataFileError(
                f"{folder}: expected the folder of an experiment, got one without "
                f"cells{_hint(folder)}"
            )
        results, left_out = [], dict(failures or {})
        for cell in cells:
            try:
                results.append(_opened(cell))
            except L63Error as error:
                left_out[cell.name] = " ".join(str(error).split())
        if not results:
            why = "; ".join(left_out.values())
            raise DataFileError(f"{folder}: no cell can be read: {why}")
        if len({isinstance(result, CycledResult) for result in results}) > 1:
            raise DataFileError(
                f"{folder}: expected cells of one kind of experiment, got cycled ones "
                "and others"
            )
        return cls(folder, _ordered(results), left_out)

    @classmethod
    def of(cls, results: Sequence[Any]) -> Source:
        """Return an experiment of cells that were opened before."""
        return cls(results[0].directory.parent, _ordered(list(results)))

    @property
    def name(self) -> str:
        """What the experiment is called."""
        return self.folder.resolve().name

    @property
    def cells(self) -> dict[str, Any]:
        """The results by the names of their folders."""
        return {result.directory.name: result for result in self.results}

    @property
    def measure(self) -> str:
        """The name of the measure that decides."""
        first = self.results[0]
        chosen = first.settings.measure if isinstance(first, CycledResult) else "pool"
        return {"rms": "rmse_a", "pool": "rmse_pooled_a"}.get(chosen, chosen)


def _is_cell(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in NO_CELLS
    return not hidden and path.is_dir() and any((path / n).exists() for n in _MARKS)


_MARKS: Final = (MANIFEST, CONFIG)


def _opened(cell: Path) -> Any:
    if (cell / TRAJECTORIES).exists():
        return CycledResult.open(cell)
    return (OptimumResult if (cell / OPTIMUM).exists() else Result).open(cell)


def _hint(folder: Path) -> str:
    if _is_cell(folder):
        return f"; it is a cell itself: give {folder.parent}"
    inner = sorted(p.name for p in folder.iterdir() if (p / REPORT).is_dir())
    return f"; choose one of {', '.join(inner)} in it" if inner else ""


def _ordered(results: list[Any]) -> list[Any]:
    """Return results by what they were given, then by their names, run after run."""

    def place(result: Any) -> tuple[Any, ...]:
        data = result.settings.data
        operator = (len(data.operator), data.operator)
        return (*operator, data.steps_per_cycle, data.sigma, result.directory.name)

    return sorted(results, key=place)
