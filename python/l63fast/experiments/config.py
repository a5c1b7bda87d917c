"""The settings of a cell, composed of the layers' own, and their TOML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from l63fast import _checks
from l63fast.assimilation.backgrounds import KINDS
from l63fast.errors import ConfigurationError
from l63fast.experiments.settings_file import (
    build,
    dump_tables,
    read_tables,
    to_table,
)
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.twin import TwinSettings

__all__ = [
    "BackgroundSettings",
    "CellSettings",
    "ScoreSettings",
    "cell_from_tables",
    "cell_to_toml",
    "first_key",
    "merged",
    "read_cell",
    "sections_from_tables",
]

Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class BackgroundSettings:
    """Which backgrounds the encoder and 3D-Var are given.

    Attributes
    ----------
    kind : str
        One of `l63fast.assimilation.backgrounds.KINDS`.
    """

    kind: str = "forecast"

    def __post_init__(self) -> None:
        _checks.choice("kind", self.kind, KINDS)


@dataclass(frozen=True)
class ScoreSettings:
    """How the scores are made.

    Attributes
    ----------
    n_bootstrap : int
        Resamples of the trajectories behind every interval.
    seed : int
        Of the resampling.
    """

    n_bootstrap: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.count("n_bootstrap", self.n_bootstrap, minimum=1)
        _checks.seed("seed", self.seed)


@dataclass(frozen=True)
class CellSettings:
    """Everything that decides a result: one encoder on one twin experiment."""

    data: TwinSettings = field(default_factory=TwinSettings)
    background: BackgroundSettings = field(default_factory=BackgroundSettings)
    model: EncoderSettings = field(default_factory=EncoderSettings)
    training: TrainSettings = field(default_factory=TrainSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)

    def __post_init__(self) -> None:
        if self.model.operator != self.data.operator:
            raise ConfigurationError(
                f"model.operator: expected that of the data, {self.data.operator!r}, "
                f"got {self.model.operator!r}"
            )
        if self.data.sigma == 0.0:
            raise ConfigurationError(
                "data.sigma: expected a number above 0 (3D-Var, to compare with, needs "
                "an observation error), got 0"
            )
        n_observations = self.data.n_steps // self.data.steps_per_cycle
        if self.model.window > n_observations:
            raise ConfigurationError(
                f"model.window: expected at most the {n_observations} observations of "
                f"a trajectory, got {self.model.window}"
            )

    @property
    def name(self) -> str:
        """The cell's name in a results tree, such as "gru_xy_k3"."""
        model = self.model
        return f"{model.model}_{model.operator}_k{model.n_iterations}"

    @property
    def data_name(self) -> str:
        """The folder of the data in a results tree."""
        return self.data.operator

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""
        tables = {name: to_table(getattr(self, name)) for name in SECTIONS}
        del tables["model"]["operator"]
        return tables


SECTIONS: Final[dict[str, type[Any]]] = {
    "data": TwinSettings,
    "background": BackgroundSettings,
    "model": EncoderSettings,
    "training": TrainSettings,
    "scores": ScoreSettings,
}


def merged(tables: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with the keys of `over` laid over them, table by table."""
    result = dict(tables)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def first_key(name: str, table: Any) -> str:
    """Return the place of a table's first key, so that a flag that set it is found."""
    keys = list(table) if isinstance(table, Mapping) else []
    return f"{name}.{keys[0]}" if keys else name


def sections_from_tables(tables: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Return the settings of each section, by its name; they may not fit together.

    The encoder's operator is that of the data; a file need not say it twice.

    Raises
    ------
    ConfigurationError
        If a table or key is unknown, or a value has the wrong type or makes no sense.
    """
    for name, table in tables.items():
        if name not in SECTIONS:
            raise ConfigurationError(
                f"{source}: {first_key(name, table)}: unknown table [{name}] in the "
                f"training of an encoder (known: {', '.join(SECTIONS)})"
            )
        if not isinstance(table, Mapping):
            raise ConfigurationError(f"{source}: {name}: expected a table [{name}]")
    parts: dict[str, Any] = {}
    for name, settings in SECTIONS.items():
        table = dict(tables.get(name, {}))
        if name == "model":
            table.setdefault("operator", parts["data"].operator)
        parts[name] = build(settings, table, source=source, key=name)
    return parts


def cell_from_tables(tables: Mapping[str, Any], *, source: str) -> CellSettings:
    """Return the settings that tables describe, defaults for what they leave out.

    Raises
    ------
    ConfigurationError
        As `sections_from_tables`, or if the sections do not fit together.
    """
    parts = sections_from_tables(tables, source=source)
    try:
        return CellSettings(**parts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


def cell_to_toml(settings: CellSettings) -> str:
    """Return the settings as the text of a `config.toml`."""
    return dump_tables(settings.to_tables())


def read_cell(path: str | Path) -> CellSettings:
    """Return the settings in a `config.toml`."""
    return cell_from_tables(read_tables(path), source=str(path))
