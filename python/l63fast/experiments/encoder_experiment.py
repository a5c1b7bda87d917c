"""Experiments with encoders: which are compared, on which data, with which recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from l63fast import _checks
from l63fast.errors import ConfigurationError
from l63fast.experiments.config import CellSettings, cell_from_tables
from l63fast.experiments.matrix import VARIED, Axes, combinations, first_value
from l63fast.experiments.optimum import OptimumCell, optimum_of
from l63fast.experiments.settings_file import build, dump_tables, to_table

if TYPE_CHECKING:
    from l63fast.experiments.kind import Kind

__all__ = ["Axes", "EncoderExperiment", "encoders_from_tables"]


@dataclass(frozen=True)
class EncoderExperiment:
    """A list of cells: every combination of the axes, the rest as in `base`.

    Attributes
    ----------
    name : str
        Also the folder of its results.
    axes : Axes
    base : CellSettings
    """

    name: str
    axes: Axes = field(default_factory=Axes)
    base: CellSettings = field(default_factory=CellSettings)

    @property
    def kind(self) -> Kind:
        """How its cells are run and read."""
        from l63fast.experiments.encoder_kind import ENCODERS

        return ENCODERS

    def encoders(self) -> list[CellSettings]:
        """Return the cells that train an encoder, those of the same data together.

        Raises
        ------
        ConfigurationError
            If two would have the same name, or settings do not fit together.
        """
        cells = list(combinations(self.axes, self.base))
        names = [cell.name for cell in cells]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                "sigmas: expected errors that differ in their first 6 digits, got "
                f"{list(self.axes.sigmas)}"
            )
        return cells

    def cells(self) -> list[CellSettings | OptimumCell]:
        """Return all cells, each optimum after the last encoder of its windows."""
        encoders = self.encoders()
        if not self.axes.optimum:
            return [*encoders]
        how = self.axes.optimum, self.axes.optimum_trajectories
        optima = {e: optimum_of(e, *how) for e in encoders}
        last = {optimum: encoder for encoder, optimum in optima.items() if optimum}
        cells: list[CellSettings | OptimumCell] = []
        for encoder in encoders:
            cells.append(encoder)
            optimum = optima[encoder]
            if optimum is not None and last[optimum] is encoder:
                cells.append(optimum)
        return cells

    def to_toml(self) -> str:
        """Return the experiment as TOML that `encoders_from_tables` reads."""
        tables = self.base.to_tables()
        for place in _varied(self.axes):
            section, key = place.split(".")
            tables[section].pop(key, None)
        axes = {k: v for k, v in to_table(self.axes).items() if v}
        return dump_tables({"experiment": axes, **tables})


def _varied(axes: Axes) -> dict[str, str]:
    """Return the axis by each setting that it replaces."""
    return {
        place: axis
        for axis, places in VARIED.items()
        if getattr(axes, axis)
        for place in places
    }


def encoders_from_tables(
    name: str, tables: Mapping[str, Any], *, source: str
) -> EncoderExperiment:
    """Return an experiment from tables: [experiment] for the axes, the rest for cells.

    Raises
    ------
    ConfigurationError
        If a table or key is unknown, or a value has the wrong type or makes no sense.
    """
    _checks.file_name("name", name)
    rest = dict(tables)
    axes = build(Axes, rest.pop("experiment", {}), source=source, key="experiment")
    for place, axis in _varied(axes).items():
        section, key = place.split(".")
        table = rest.get(section, {})
        if not isinstance(table, Mapping):
            continue  # refused below, where sections are read
        if key in table:
            raise ConfigurationError(
                f"{source}: {place}: is varied by experiment.{axis}: give that one"
            )
        # A default might not fit the rest; a value of the axis must.
        rest[section] = {**table, key: first_value(axes, axis, place)}
    experiment = EncoderExperiment(name, axes, cell_from_tables(rest, source=source))
    try:
        experiment.cells()
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    return experiment
