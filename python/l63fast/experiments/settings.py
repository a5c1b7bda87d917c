"""The settings of a cell, and the axes along which cells of an experiment vary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from l63fast import _checks
from l63fast._user_code import file_name
from l63fast.assimilation.backgrounds import KINDS
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.data import SavedSettings, saved_settings
from l63fast.experiments.methods import (
    Method,
    TrainedEncoder,
    method_from_table,
    method_table,
)
from l63fast.experiments.protocols import PROTOCOLS, Cycles, Protocol
from l63fast.experiments.settings_file import (
    Checked,
    build,
    limited,
    refuse,
    refuse_unknown_tables,
    to_table,
)
from l63fast.learning.settings import LOSS_NAMES
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin import TwinSettings
from l63fast.verification import decibel

# Folders of an experiment beside its cells.
DATA: Final = "data"
REPORT: Final = "report"
NO_CELLS: Final = (DATA, REPORT)
TUNABLE: Final = ("b_scale", "inflation", "regularisation")


@dataclass(frozen=True)
class Measure:
    """What a score is.

    Attributes
    ----------
    name : str
    column : str
        Of the results: the time mean that it is made of.
    kind : {"rmse_a", "rmse_pooled_a"}
        The mean of these, or its root.
    in_decibel : bool
        Whether it is shown as 20 log10 of itself.
    """

    name: str
    column: str
    kind: str
    in_decibel: bool = False

    def shown(self, mirror_aware: bool) -> str:
        """Return what tables call it."""
        return f"mirror-aware {self.name}" if mirror_aware else self.name

    def value(self, score: float) -> float:
        """Return a score as it is shown."""
        return decibel(score) if self.in_decibel else score


MEASURES: Final = {
    measure.name: measure
    for measure in (
        Measure("rmse_a", "rmse_a", "rmse_a"),
        Measure("rmse_pooled_a", "mse_a", "rmse_pooled_a"),
        Measure("decibel", "mse_a", "rmse_pooled_a", in_decibel=True),
    )
}


@dataclass(frozen=True)
class ScoreSettings(Checked):
    """How the scores are made.

    Attributes
    ----------
    n_bootstrap : int
        Resamples of the trajectories behind every interval.
    seed : int
        Of the resampling.
    """

    n_bootstrap: int = limited(1000, _checks.count, minimum=1)
    seed: int = limited(0, _checks.seed)


def _operator(name: str, value: Any) -> None:
    try:
        as_operator(value)
    except ArgumentValueError as error:
        why = str(error).removeprefix("operator: ")
        raise ConfigurationError(f"{name}: {why}") from None


def _regime(name: str, value: str) -> None:
    background, colon, loss = value.partition(":")
    pair = "a background and a loss, such as 'mean:var3d'"
    refuse(not colon, name, pair, repr(value))
    _background(name, background)
    _loss(name, loss)


_background = partial(_checks.choice, allowed=KINDS)
_loss = partial(_checks.choice, allowed=LOSS_NAMES)
_positive = partial(_checks.count, minimum=1)


def _axis(check: Callable[[str, Any], Any], tag: str, *places: str) -> Any:
    """Return an axis: the check of its values, how they stand in names, what they set.

    A place is the table and the key of a setting that the axis replaces.
    """
    metadata = {"of_each": check, "tag": tag, "places": places}
    return field(default=(), metadata=metadata)


@dataclass(frozen=True)
class Vary:
    """What varies between the cells of an experiment; an empty axis does not.

    Attributes
    ----------
    operator : tuple of str
        Observation operators; cases share one truth, whatever is observed.
    sigma : tuple of float
        Standard deviations of the observation error.
    interval : tuple of int
        Model steps between observations.
    window : tuple of int
        Of windows: observations in each; all are scored at the same times.
    background : tuple of str
        Of windows: which backgrounds are drawn.
    regime : tuple of str
        Of windows: a background and a loss of the encoders, such as "mean:var3d".
    seed : tuple of int
        Repetitions of everything: of data, and of the training of encoders.
    loss, n_iterations : tuple
        Of every encoder.
    training_seed : tuple of int
        Repetitions of the training of encoders alone, all of them on the same data.
    """

    # The first ones make cases, the last ones variants of every encoder.
    operator: tuple[str, ...] = _axis(_operator, "{}", "data.operator")
    sigma: tuple[float, ...] = _axis(
        partial(_checks.real, above=0.0), "s{:.6g}", "data.sigma"
    )
    interval: tuple[int, ...] = _axis(_positive, "i{}", "data.steps_per_cycle")
    window: tuple[int, ...] = _axis(_positive, "w{}", "windows.window")
    background: tuple[str, ...] = _axis(_background, "{}", "windows.background")
    regime: tuple[str, ...] = _axis(
        _regime, "{}", "windows.background", "training.loss"
    )
    seed: tuple[int, ...] = _axis(_checks.seed, "r{}", "data.seed", "training.seed")
    loss: tuple[str, ...] = _axis(_loss, "{}", "training.loss")
    n_iterations: tuple[int, ...] = _axis(_positive, "k{}", "method.n_iterations")
    training_seed: tuple[int, ...] = _axis(_checks.seed, "t{}", "training.seed")

    def __post_init__(self) -> None:
        named = (
            o.by_name().name if isinstance(o, ObservationOperator) else o
            for o in self.operator
        )
        object.__setattr__(self, "operator", tuple(named))
        for axis in dataclasses.fields(self):
            name, values = axis.name, getattr(self, axis.name)
            twice = len(set(values)) != len(values)
            refuse(twice, name, "each once", list(values))
            for value in values:
                axis.metadata["of_each"](name, value)
        several = {"regime": ("background", "loss"), "training_seed": ("seed",)}
        for one, others in several.items():
            values = list(getattr(self, one))
            for other in others:
                both = values and getattr(self, other)
                none = f"none beside {other}, which it varies as well"
                refuse(both, one, none, values)
        alike = len({f"{value:.6g}" for value in self.sigma}) < len(self.sigma)
        differ = "errors that differ in their first 6 digits"
        refuse(alike, "sigma", differ, list(self.sigma))


# Which settings each axis replaces, and how it stands in the names of cells.
AXES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    axis.name: (axis.metadata["places"], axis.metadata["tag"])
    for axis in dataclasses.fields(Vary)
}


@dataclass(frozen=True, kw_only=True)
class _About(Checked):
    """What the table [cell] says."""

    key: str = limited(dataclasses.MISSING, _checks.file_name)
    measure: str = limited("", _checks.choice, allowed=MEASURES)
    case: str = ""
    repeat: str = ""
    note: str = ""
    tune_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell(_About):
    """Everything that decides a result: one method on one twin experiment.

    Attributes
    ----------
    key : str
        What the method is called in its experiment.
    data : TwinSettings
    protocol : Windows or Cycles
    method : Method
    scores : ScoreSettings
    measure : str
        The score that decides, a name in `MEASURES`.
    case : str
        What is special about data and protocol, as it stands in names.
    repeat : str
        Which training of the method it is, as it stands in names.
    note : str
        What is special about the case besides operator, sigma and interval, in words.
    data_name : str
        The folder of the data, in that of the experiment; it decides nothing.
    tune_only : bool
        Fit the method and leave the test split closed.
    """

    data: TwinSettings
    protocol: Protocol
    method: Method
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    data_name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "data", with_operator_by_name(self.data))
        error = "a number above 0 (every method needs an observation error)"
        refuse(self.data.sigma == 0.0, "data.sigma", error, 0)
        for name, value in (
            ("measure", self.measure or self.protocol.measure),
            ("data", self.protocol.completed(self.data)),
            ("data_name", self.data_name or folder_of(self.data)),
        ):
            object.__setattr__(self, name, value)
        if isinstance(self.method, TrainedEncoder):
            self.method.settings(self.data.operator, self.protocol)

    @property
    def name(self) -> str:
        """The cell's name in a results tree, such as "enkf-10" or "x_s1_i10-gru-t0"."""
        return "-".join(part for part in (self.case, self.key, self.repeat) if part)

    def imported(self) -> Cell:
        """Return the cell ready to run: what is the user's own has been imported.

        It still goes by its name, and the hash of its source is known.
        """
        operator, method = as_operator(self.data.operator).imported(), self.method
        if isinstance(method, TrainedEncoder):
            method = method.imported()
        data = dataclasses.replace(self.data, operator=operator.by_name())
        return dataclasses.replace(self, data=data, method=method)

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""
        own = [f.name for f in dataclasses.fields(_About)]
        return {
            "cell": {name: getattr(self, name) for name in own},
            "data": data_table(self.data, self.protocol),
            self.protocol.name: to_table(self.protocol),
            "method": method_table(self.method),
            "scores": to_table(self.scores),
        }

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], *, source: str) -> Cell:
        """Return the cell that the tables of its `config.toml` describe.

        Raises
        ------
        ConfigurationError
            If a table or key is missing or unknown, or a value makes no sense.
        """
        with said_of(source):
            common = common_settings(tables, ("cell",), "method", source)
            about = build(_About, tables.get("cell", {}), source=source, key="cell")
            protocol, table = common["protocol"].name, tables.get("method")
            method = method_from_table(table, protocol, source=source, key="method")
            return cls(**vars(about), method=method, **common)


@contextmanager
def said_of(source: str) -> Iterator[None]:
    """Let what is refused name the file, once, that has it."""
    try:
        yield
    except ArgumentValueError as error:
        text = str(error).removeprefix(f"{source}: ")
        raise ConfigurationError(f"{source}: {text}") from None


def common_settings(
    tables: Mapping[str, Any], before: tuple[str, ...], methods: str, source: str
) -> dict[str, Any]:
    """Return data, protocol and scores, which both experiments and cells have.

    Tables are refused other than theirs, those `before` and that of the methods.
    """
    given = [name for name in PROTOCOLS if name in tables]
    one, got = "one of the tables [windows] and [cycles]", "both" if given else "none"
    refuse(len(given) != 1, source, one, got)
    [name] = given
    refuse_unknown_tables(tables, (*before, "data", name, methods, "scores"), source)
    protocol: Protocol = build(PROTOCOLS[name], tables[name], source=source, key=name)
    table, scores = tables.get("data", {}), tables.get("scores", {})
    if isinstance(operator := table.get("operator"), ObservationOperator):
        table = {**table, "operator": operator.by_name().to_table()}
    data: TwinSettings
    if "path" in table:
        for key, value in table.items():
            refuse(key != "path", f"{source}: data.{key}", BESIDE_PATH, repr(value))
        data = saved_settings(table["path"])
    elif "sha256" in table:
        data = build(SavedSettings, table, source=source, key="data")
    elif isinstance(protocol, Cycles):
        none = "none beside cycles, whose n_cycles and burn_in decide it"
        for key in _DECIDED:
            refuse(key in table, f"{source}: data.{key}", none, repr(table.get(key)))
        # A length that any number of steps between observations fits, for now.
        table = {"n_steps": 10**9, **table}
        data = build(TwinSettings, table, source=source, key="data")
        data = protocol.completed(data)
    else:
        data = build(TwinSettings, table, source=source, key="data")
    return {
        "data": data,
        "protocol": protocol,
        "scores": build(ScoreSettings, scores, source=source, key="scores"),
    }


def with_operator_by_name(data: TwinSettings) -> TwinSettings:
    """Return settings whose operator, if it is the user's own, goes by its name."""
    return dataclasses.replace(data, operator=as_operator(data.operator).by_name())


def data_table(data: TwinSettings, protocol: Protocol) -> dict[str, Any]:
    """Return the settings of the data that the protocol leaves open.

    Of saved data all but where they are.
    """
    left_out: tuple[str, ...] = _DECIDED if isinstance(protocol, Cycles) else ()
    if isinstance(data, SavedSettings):
        left_out = ("path",)
    return {k: v for k, v in to_table(data).items() if k not in left_out}


def folder_of(data: TwinSettings) -> str:
    """Return where data are, seen from the folder of data of an experiment."""
    if isinstance(data, SavedSettings) and data.path:
        return str(Path(data.path).expanduser().absolute())
    return file_name(data.operator_name)


_DECIDED: Final = ("n_steps", "save_every")  # by cycles
BESIDE_PATH: Final = "none beside the folder of the data, which has settings of its own"
