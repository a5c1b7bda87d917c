"""The finished cells in the folder of an experiment, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from l63fast import _checks
from l63fast.errors import DataFileError, L63Error
from l63fast.experiments.cycled.kind import CYCLED
from l63fast.experiments.cycled.result import TRAJECTORIES, CycledResult
from l63fast.experiments.encoder_kind import ENCODERS
from l63fast.experiments.result import CONFIG
from l63fast.storage import MANIFEST

__all__ = ["Source"]

_NO_CELLS: Final = ("data", "summary", "report")


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

    @property
    def name(self) -> str:
        """What the experiment is called."""
        return self.folder.resolve().name

    @property
    def is_cycled(self) -> bool:
        """Whether methods were cycled, and not tried on single backgrounds."""
        return isinstance(self.results[0], CycledResult)


def _is_cell(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in _NO_CELLS
    return not hidden and path.is_dir() and any((path / n).exists() for n in _MARKS)


_MARKS: Final = (MANIFEST, CONFIG)


def _opened(cell: Path) -> Any:
    kind = CYCLED if (cell / TRAJECTORIES).exists() else ENCODERS
    return kind.open(cell)


def _hint(folder: Path) -> str:
    if _is_cell(folder):
        return f"; it is a cell itself: give {folder.parent}"
    inner = sorted(p.name for p in folder.iterdir() if (p / "summary").is_dir())
    return f"; choose one of {', '.join(inner)} in it" if inner else ""


def _ordered(results: list[Any]) -> list[Any]:
    """Return results by what they were given, then as they were finished."""

    def place(result: Any) -> tuple[Any, ...]:
        data = result.settings.data
        operator = (len(data.operator), data.operator)
        return (*operator, data.steps_per_cycle, data.sigma, result.timing["started"])

    return sorted(results, key=place)
