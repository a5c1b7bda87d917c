"""What a runner must know of a kind of experiment: how its cells are run and read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from l63fast.twin import TwinSettings

__all__ = ["Cell", "CellResult", "Experiment", "Kind"]


class Cell(Protocol):
    """Everything that decides one result."""

    @property
    def name(self) -> str:
        """The cell's name, and that of its folder."""

    @property
    def data(self) -> TwinSettings:
        """The twin experiment that it needs."""

    @property
    def data_name(self) -> str:
        """The name of those data, the same for all cells that share them."""

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""


class CellResult(Protocol):
    """A finished result folder."""

    @property
    def settings(self) -> Any:
        """The cell that was run."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """With the keys "data" (hashes) and "versions" among others."""


@dataclass(frozen=True)
class Kind:
    """Functions of a module, so that worker processes can be told which.

    Attributes
    ----------
    run : callable
        Takes a cell, the folder of its data, its result folder and `resume`; gives
        metrics.
    open : callable
        Takes a result folder; gives a verified `CellResult`.
    describe : callable
        Takes metrics; gives one line.
    alike : callable
        Takes a cell; gives the same for cells that take about as long.
    announce : callable
        Takes an experiment; gives the lines that say what will be done.
    summarise : callable
        Takes results and a folder, and writes tables and figures into it.
    table : callable
        Takes results; gives their table for a terminal.
    expect : callable, optional
        Takes cells; gives the seconds that they would take one after the other, and
        what that leaves out.
    """

    run: Callable[..., Mapping[str, Any]]
    open: Callable[[Path], Any]
    describe: Callable[[Mapping[str, Any]], str]
    alike: Callable[[Any], Hashable]
    announce: Callable[[Any], list[str]]
    summarise: Callable[[Sequence[Any], Path], None]
    table: Callable[[Sequence[Any]], Any]
    expect: Callable[[Sequence[Any]], tuple[float, str]] | None = None


class Experiment(Protocol):
    """A list of cells of one kind."""

    @property
    def name(self) -> str:
        """Also the folder of its results."""

    @property
    def kind(self) -> Kind:
        """How its cells are run and read."""

    def cells(self) -> Sequence[Any]:
        """Return the cells, each of them a `Cell`."""

    def to_toml(self) -> str:
        """Return the whole experiment as TOML."""
