"""Experiments with encoders: which are compared, on which data, with which recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from l63fast import _checks
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.config import CellSettings, cell_from_tables
from l63fast.experiments.settings_file import build, dump_tables, to_table
from l63fast.learning.settings import ENCODER_NAMES
from l63fast.observation import ObservationOperator

if TYPE_CHECKING:
    from l63fast.experiments.kind import Kind

__all__ = [
    "Axes",
    "EncoderExperiment",
    "checked_operators",
    "encoders_from_tables",
]


def checked_operators(operators: tuple[str, ...]) -> None:
    """Check the names of several observation operators.

    Raises
    ------
    ConfigurationError
        If one is not valid.
    """
    for operator in operators:
        try:
            ObservationOperator(operator)
        except ArgumentValueError as error:
            why = str(error).removeprefix("operator: ")
            raise ConfigurationError(f"operators: {why}") from None


@dataclass(frozen=True)
class Axes:
    """What varies between the cells of an experiment.

    Attributes
    ----------
    models : tuple of str
        Encoders.
    operators : tuple of str
        Observation operators; they share one truth.
    n_iterations : tuple of int
        Iterations K of the learned fixed point.
    """

    models: tuple[str, ...] = ("mlp", "gru", "lstm")
    operators: tuple[str, ...] = ("x", "xy", "x2")
    n_iterations: tuple[int, ...] = (3, 1)

    def __post_init__(self) -> None:
        for name in ("models", "operators", "n_iterations"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigurationError(
                    f"{name}: expected at least one, each once, got {list(values)}"
                )
        for model in self.models:
            _checks.choice("models", model, ENCODER_NAMES)
        checked_operators(self.operators)
        for n in self.n_iterations:
            _checks.count("n_iterations", n, minimum=1)


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

    def cells(self) -> list[CellSettings]:
        """Return the cells, all models of one operator together."""
        combinations = product(
            self.axes.operators, self.axes.n_iterations, self.axes.models
        )
        return [self._cell(*combination) for combination in combinations]

    def _cell(self, operator: str, n_iterations: int, model: str) -> CellSettings:
        encoder = dataclasses.replace(
            self.base.model, model=model, operator=operator, n_iterations=n_iterations
        )
        data = dataclasses.replace(self.base.data, operator=operator)
        return dataclasses.replace(self.base, data=data, model=encoder)

    def to_toml(self) -> str:
        """Return the experiment as TOML that `encoders_from_tables` reads."""
        return dump_tables({"experiment": to_table(self.axes), **to_table(self.base)})


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
    return EncoderExperiment(name, axes, cell_from_tables(rest, source=source))
