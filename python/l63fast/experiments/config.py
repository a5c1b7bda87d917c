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
    "SampleSettings",
    "ScoreSettings",
    "analysis_time",
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
    b_scale : float, optional
        What multiplies the error covariance of these backgrounds to give the B of
        3D-Var and of the variational losses; tuned on the validation split by default.
    """

    kind: str = "forecast"
    b_scale: float | None = None

    def __post_init__(self) -> None:
        _checks.choice("kind", self.kind, KINDS)
        if self.b_scale is not None:
            _checks.real("b_scale", self.b_scale, above=0.0)


@dataclass(frozen=True)
class SampleSettings:
    """Which windows of a trajectory are samples, to learn from and to be scored.

    Attributes
    ----------
    stride : int
        Observations from the end of one window to the end of the next.
    start : int
        Observations before and in the first window, at least; a common one lets
        encoders of different windows be scored at the same times.
    fresh : int
        Trajectories that are simulated anew for each epoch, to learn from in place of
        the training split; 0: the training split.
    """

    stride: int = 1
    start: int = 1
    fresh: int = 0

    def __post_init__(self) -> None:
        _checks.count("stride", self.stride, minimum=1)
        _checks.count("start", self.start, minimum=1)
        _checks.count("fresh", self.fresh)


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

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The arguments that every function of `verification` with intervals takes."""
        return {"n_bootstrap": self.n_bootstrap, "seed": self.seed}


@dataclass(frozen=True)
class CellSettings:
    """Everything that decides a result: one encoder on one twin experiment.

    Attributes
    ----------
    data, background, samples, model, training, scores
        The sections of a `config.toml`.
    name, data_name : str
        What the cell and its data are called in a results tree; they decide nothing.
    """

    data: TwinSettings = field(default_factory=TwinSettings)
    background: BackgroundSettings = field(default_factory=BackgroundSettings)
    samples: SampleSettings = field(default_factory=SampleSettings)
    model: EncoderSettings = field(default_factory=EncoderSettings)
    training: TrainSettings = field(default_factory=TrainSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    name: str = field(default="", compare=False)
    data_name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        model = self.model
        names = {
            "name": f"{model.model}_{model.operator}_k{model.n_iterations}",
            "data_name": model.operator,
        }
        for field_name, default in names.items():
            object.__setattr__(self, field_name, getattr(self, field_name) or default)
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
        wanted = analysis_time(self.training.loss)
        if wanted == "first" != model.analysis_at:
            raise ConfigurationError(
                "model.analysis_at: expected 'first' for training.loss "
                f"{self.training.loss!r}, got {model.analysis_at!r}"
            )
        n_observations = self.data.n_steps // self.data.steps_per_cycle
        for name, length in (
            ("model.window", self.model.window),
            ("samples.start", self.samples.start),
        ):
            if length > n_observations:
                raise ConfigurationError(
                    f"{name}: expected at most the {n_observations} observations of "
                    f"a trajectory, got {length}"
                )

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""
        tables = {name: to_table(getattr(self, name)) for name in SECTIONS}
        del tables["model"]["operator"]
        return tables


def analysis_time(loss: str) -> str:
    """Return at which observation of its window an encoder's analysis is by default."""
    return "first" if loss == "var3d_window" else "last"


SECTIONS: Final[dict[str, type[Any]]] = {
    "data": TwinSettings,
    "background": BackgroundSettings,
    "samples": SampleSettings,
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

    The encoder's operator is that of the data and the time of its analysis follows from
    the loss; a file need not say it twice.

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
            loss = tables.get("training", {}).get("loss", TrainSettings.loss)
            table.setdefault("analysis_at", analysis_time(loss))
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
