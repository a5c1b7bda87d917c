"""The settings of a cell, and the axes along which the cells of an experiment vary."""

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
from l63fast.twin import ForecastModel, TwinSettings
from l63fast.twin.gaps import share
from l63fast.verification import decibel

# Folders of an experiment that are no cells.
DATA: Final = "data"
REPORT: Final = "report"
RESERVED_NAMES: Final = (DATA, REPORT)
TUNABLE: Final = ("b_scale", "inflation", "regularisation", "walk")


@dataclass(frozen=True)
class Measure:
    """How a score is computed from time means, and how it is shown.

    Attributes
    ----------
    name : str
    column : str
        The column of the results with the time mean of each trajectory. Those of
        distributions are empty for a method that estimates none.
    kind : {"rmse_a", "rmse_pooled_a"}
        The score is the mean of this column, or the square root of the mean. Tuning
        uses this score of the analyses.
    in_decibel : bool
        Show 20 log10 of the score.
    smoothed : bool
        Of smoothed states.
    """

    name: str
    column: str
    kind: str
    in_decibel: bool = False
    smoothed: bool = False

    def shown(self, mirror_aware: bool) -> str:
        """Return the name of the score in tables."""
        return f"mirror-aware {self.name}" if mirror_aware else self.name

    def value(self, score: float) -> float:
        """Return a score as it is shown, in decibel where `in_decibel` is set."""
        return decibel(score) if self.in_decibel else score


MEASURES: Final = {
    measure.name: measure
    for measure in (
        Measure("rmse_a", "rmse_a", "rmse_a"),
        Measure("rmse_pooled_a", "mse_a", "rmse_pooled_a"),
        Measure("decibel", "mse_a", "rmse_pooled_a", in_decibel=True),
        Measure("crps", "crps", "rmse_a"),
        Measure("energy", "energy", "rmse_a"),
        Measure("rmse_s", "rmse_s", "rmse_a", smoothed=True),
        Measure("rmse_pooled_s", "mse_s", "rmse_pooled_a", smoothed=True),
    )
}


@dataclass(frozen=True)
class ScoreSettings(Checked):
    """Settings of the confidence intervals.

    Attributes
    ----------
    n_bootstrap : int
        Number of bootstrap resamples of the trajectories.
    seed : int
        Seed of the resampling.
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


def _interval(name: str, value: Any) -> None:
    if not isinstance(value, tuple):
        _positive(name, value)
        return
    rising = len(value) == 2 and 0.0 < _checks.real(name, value[0]) <= value[1]
    refuse(not rising, name, "two rising times, such as 0.1 and 0.4", list(value))


_background = partial(_checks.choice, allowed=KINDS)
_loss = partial(_checks.choice, allowed=LOSS_NAMES)
_positive = partial(_checks.count, minimum=1)


def _axis(check: Callable[[str, Any], Any], tag: str, *places: str) -> Any:
    """Return an axis: the check of a value, its form in names, what it replaces.

    A place is the table and the key of such a setting, as in "data.sigma".
    """
    metadata = {"of_each": check, "tag": tag, "places": places}
    return field(default=(), metadata=metadata)


@dataclass(frozen=True)
class Vary:
    """The settings that vary between the cells of an experiment.

    An empty axis does not vary.

    Attributes
    ----------
    operator : tuple of str
        Observation operators; all of them observe the same truth.
    sigma : tuple of float
        Standard deviations of the observation error.
    interval : tuple of int, or of pairs of float
        Model steps between observations; or the shortest and the longest time (time
        units) between observations whose times are drawn.
    missing : tuple of float
        Probabilities that a value is not observed.
    window : tuple of int
        Observations in a window; all lengths are scored at the same times. For windows
        only.
    background : tuple of str
        Kinds of background. For windows only.
    regime : tuple of str
        Pairs of a background and a loss of the encoders, such as "mean:var3d". For
        windows only.
    seed : tuple of int
        Seeds of data and training: each repeats the whole experiment.
    loss, n_iterations : tuple
        Losses, and numbers of iterations, of every encoder.
    training_seed : tuple of int
        Seeds of the training of encoders: each repeats it on the same data.
    """

    # The axes up to `seed` make cases, the others make variants of every encoder.
    operator: tuple[str, ...] = _axis(_operator, "{}", "data.operator")
    sigma: tuple[float, ...] = _axis(
        partial(_checks.real, above=0.0), "s{:.6g}", "data.sigma"
    )
    interval: tuple[Any, ...] = _axis(
        _interval, "i{}", "data.steps_per_cycle", "data.interval"
    )
    missing: tuple[float, ...] = _axis(share, "m{:.6g}", "data.missing")
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
        given: tuple[str | ObservationOperator, ...] = self.operator
        named = (
            o.by_name().name if isinstance(o, ObservationOperator) else o for o in given
        )
        object.__setattr__(self, "operator", tuple(named))
        # TOML has lists where the settings have pairs.
        pairs = (tuple(i) if isinstance(i, list) else i for i in self.interval)
        object.__setattr__(self, "interval", tuple(pairs))
        for axis in dataclasses.fields(self):
            name, values = axis.name, getattr(self, axis.name)
            twice = len(set(values)) != len(values)
            refuse(twice, name, "each value once", list(values))
            for value in values:
                axis.metadata["of_each"](name, value)
        several = {"regime": ("background", "loss"), "training_seed": ("seed",)}
        for one, others in several.items():
            values = list(getattr(self, one))
            for other in others:
                both = values and getattr(self, other)
                none = f"none together with {other}, which varies the same"
                refuse(both, one, none, values)
        # The names of cells hold six digits.
        same = len({f"{value:.6g}" for value in self.sigma}) < len(self.sigma)
        differ = "errors that differ in their first 6 digits"
        refuse(same, "sigma", differ, list(self.sigma))


# The settings that each axis replaces, and its form in the names of cells.
AXES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    axis.name: (axis.metadata["places"], axis.metadata["tag"])
    for axis in dataclasses.fields(Vary)
}


@dataclass(frozen=True, kw_only=True)
class _CellTable(Checked):
    """The settings in the table [cell]."""

    key: str = limited(dataclasses.MISSING, _checks.file_name)
    measure: str = limited("", _checks.choice, allowed=MEASURES)
    case: str = ""
    repeat: str = ""
    note: str = ""
    tune_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell(_CellTable):
    """All settings that decide a result: one method on one twin experiment.

    Attributes
    ----------
    key : str
        Name of the method in its experiment.
    data : TwinSettings
    protocol : Windows or Cycles
    method : Method
    model : ForecastModel
        The model that the method forecasts with, by default that of the truth.
    scores : ScoreSettings
    measure : str
        The score by which methods are ranked, a name in `MEASURES`; by default that of
        the protocol.
    case : str
        The part of the cell's name that the axes of data and protocol give.
    repeat : str
        The part of the cell's name that the seed of the training gives.
    note : str
        Words for tables: the case's values besides operator, sigma and interval.
    data_name : str
        Folder of the data in the data folder of the experiment; no result depends on
        it.
    tune_only : bool
        Tune the method only; the test split is not read.
    """

    data: TwinSettings
    protocol: Protocol
    method: Method
    model: ForecastModel = field(default_factory=ForecastModel)
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
        self.model.steps(self.data, self.data.cycle_steps)
        if isinstance(self.method, TrainedEncoder):
            self.method.settings(self.data.operator, self.protocol)

    @property
    def name(self) -> str:
        """The cell's name in a results tree, such as "enkf-10" or "x_s1_i10-gru-t0"."""
        return "-".join(part for part in (self.case, self.key, self.repeat) if part)

    def imported(self) -> Cell:
        """Return the cell ready to run: the user's own code has been imported.

        The settings still hold the names of operator and model, and now the hashes of
        their sources too.

        Raises
        ------
        ArgumentValueError
            If something cannot be imported, or its source has changed.
        """
        operator, method = as_operator(self.data.operator).imported(), self.method
        if isinstance(method, TrainedEncoder):
            method = method.imported()
        data = dataclasses.replace(self.data, operator=operator.by_name())
        return dataclasses.replace(self, data=data, method=method)

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""
        own = [f.name for f in dataclasses.fields(_CellTable)]
        return {
            "cell": {name: getattr(self, name) for name in own},
            "data": data_table(self.data, self.protocol),
            **model_table(self.model),
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
            If a table or a key is missing or unknown, or a value is not allowed.
        """
        with naming_source(source):
            common = common_settings(tables, ("cell",), "method", source)
            about = build(_CellTable, tables.get("cell", {}), source=source, key="cell")
            protocol, table = common["protocol"].name, tables.get("method")
            method = method_from_table(table, protocol, source=source, key="method")
            return cls(**vars(about), method=method, **common)


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Begin the message of an error with the source, such as a file, once."""
    try:
        yield
    except ArgumentValueError as error:
        text = str(error).removeprefix(f"{source}: ")
        raise ConfigurationError(f"{source}: {text}") from None


def common_settings(
    tables: Mapping[str, Any], before: tuple[str, ...], methods: str, source: str
) -> dict[str, Any]:
    """Return data, model, protocol and scores, which both experiments and cells have.

    Other tables are refused, except for those named in `before` and that of the
    methods.
    """
    given = [name for name in PROTOCOLS if name in tables]
    known = (*before, "data", "model", *(given or PROTOCOLS), methods, "scores")
    if len(given) < 2:  # both of them is what is said first
        refuse_unknown_tables(tables, known, source)
    one, got = "one of the tables [windows] and [cycles]", "both" if given else "none"
    refuse(len(given) != 1, source, one, got)
    [name] = given
    protocol: Protocol = build(PROTOCOLS[name], tables[name], source=source, key=name)
    table, scores = tables.get("data", {}), tables.get("scores", {})
    if isinstance(operator := table.get("operator"), ObservationOperator):
        table = {**table, "operator": operator.by_name().to_table()}
    data: TwinSettings
    if "path" in table:
        for key, value in table.items():
            refuse(key != "path", f"{source}: data.{key}", NONE_WITH_PATH, repr(value))
        data = saved_settings(table["path"])
    elif "sha256" in table:
        data = build(SavedSettings, table, source=source, key="data")
    elif isinstance(protocol, Cycles):
        none = "none with [cycles], whose n_cycles and burn_in decide it"
        for key in _SET_BY_CYCLES:
            refuse(key in table, f"{source}: data.{key}", none, repr(table.get(key)))
        # For now a length at which any number of steps between observations is allowed;
        # `completed` replaces it.
        table = {"n_steps": 10**9, **table}
        data = build(TwinSettings, table, source=source, key="data")
        data = protocol.completed(data)
    else:
        data = build(TwinSettings, table, source=source, key="data")
    model = tables.get("model", {})
    return {
        "data": data,
        "model": build(ForecastModel, model, source=source, key="model"),
        "protocol": protocol,
        "scores": build(ScoreSettings, scores, source=source, key="scores"),
    }


def with_operator_by_name(data: TwinSettings) -> TwinSettings:
    """Return settings that hold the name of an operator of the user's own."""
    return dataclasses.replace(data, operator=as_operator(data.operator).by_name())


def data_table(data: TwinSettings, protocol: Protocol) -> dict[str, Any]:
    """Return the settings of the data as a table, without those that cycles decide.

    The table of saved data has all settings except for the path.
    """
    left_out: tuple[str, ...] = _SET_BY_CYCLES if isinstance(protocol, Cycles) else ()
    if isinstance(data, SavedSettings):
        left_out = ("path",)
    return {k: v for k, v in to_table(data).items() if k not in left_out}


def model_table(model: ForecastModel) -> dict[str, Any]:
    """Return the table [model]; none for the model of the truth."""
    return {} if model.is_perfect else {"model": to_table(model)}


def folder_of(data: TwinSettings) -> str:
    """Return the folder of data, relative to the data folder of an experiment."""
    if isinstance(data, SavedSettings) and data.path:
        return str(Path(data.path).expanduser().absolute())
    return file_name(data.operator_name)


_SET_BY_CYCLES: Final = ("n_steps", "save_every")
# Expected of a setting of the data where their folder is given.
NONE_WITH_PATH: Final = "none with a folder of saved data, which has its own settings"
