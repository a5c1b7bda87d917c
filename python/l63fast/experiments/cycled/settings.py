"""The settings of cycled experiments: data, cycle, methods, and what varies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks
from l63fast.errors import ConfigurationError
from l63fast.experiments.config import ScoreSettings
from l63fast.experiments.cycled.methods import Method, method_from_table, method_table
from l63fast.experiments.settings_file import build, dump_tables, to_table
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings

if TYPE_CHECKING:
    from l63fast.experiments.kind import Kind

__all__ = [
    "MEASURES",
    "CycleSettings",
    "CycledAxes",
    "CycledCell",
    "CycledExperiment",
    "cell_from_tables",
    "experiment_from_tables",
]

MEASURES: Final = ("rms", "pool", "decibel")
_DERIVED: Final = ("n_steps", "save_every")


@dataclass(frozen=True)
class CycleSettings:
    """How long schemes are cycled and where they start.

    Attributes
    ----------
    n_cycles : int
        Scored cycles of each trajectory.
    burn_in : float
        Time before those (time units), of which nothing is scored.
    initial_spread : float
        Standard deviation of the first background's error, in every component.
    """

    n_cycles: int = 1000
    burn_in: float = 16.0
    initial_spread: float = 1.5

    def __post_init__(self) -> None:
        n_cycles = _checks.count("n_cycles", self.n_cycles, minimum=1)
        burn_in = _checks.real("burn_in", self.burn_in, minimum=0.0)
        spread = _checks.real("initial_spread", self.initial_spread, above=0.0)
        for name, value in (
            ("n_cycles", n_cycles),
            ("burn_in", burn_in),
            ("initial_spread", spread),
        ):
            object.__setattr__(self, name, value)

    def burn_in_cycles(self, data: TwinSettings) -> int:
        """Return the cycles that the burn-in takes, the last of them whole."""
        return -(-round(self.burn_in / data.dt) // data.steps_per_cycle)


@dataclass(frozen=True)
class CycledAxes:
    """What varies between the cases of an experiment; an empty axis does not.

    Attributes
    ----------
    operators : tuple of str
    sigmas : tuple of float
        Standard deviations of the observation error.
    intervals : tuple of int
        Model steps between observations.
    model_error : float
        Variance of the model error over that of the observation error, in each case;
        0 leaves Q as the data have it.
    measure : {"rms", "pool", "decibel"}
        The score that the table compares: time mean of the instantaneous root mean
        square, root of the mean square over everything, or the latter in dB.
    """

    operators: tuple[str, ...] = ()
    sigmas: tuple[float, ...] = ()
    intervals: tuple[int, ...] = ()
    model_error: float = 0.0
    measure: str = "rms"

    def __post_init__(self) -> None:
        for name in ("operators", "sigmas", "intervals"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigurationError(
                    f"{name}: expected each once, got {list(values)}"
                )
        for operator in self.operators:
            ObservationOperator(operator)
        for sigma in self.sigmas:
            _checks.real("sigmas", sigma, above=0.0)
        for interval in self.intervals:
            _checks.count("intervals", interval, minimum=1)
        _checks.real("model_error", self.model_error, minimum=0.0)
        _checks.choice("measure", self.measure, MEASURES)


@dataclass(frozen=True)
class CycledCell:
    """Everything that decides a result: one method cycled on one twin experiment.

    Attributes
    ----------
    key : str
        What the method is called in its experiment.
    case : str
        What the data are called in it.
    data : TwinSettings
    cycle : CycleSettings
    method : Method
    scores : ScoreSettings
    measure : str
        The score that decides, one of `MEASURES`.
    """

    key: str
    case: str
    data: TwinSettings
    cycle: CycleSettings
    method: Method
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    measure: str = "rms"

    def __post_init__(self) -> None:
        if self.data.sigma == 0.0:
            raise ConfigurationError(
                "data.sigma: expected a number above 0 (every scheme needs an "
                "observation error), got 0"
            )

    @property
    def name(self) -> str:
        """The cell's name in a results tree, such as "enkf-10" or "x_s1_i10-pf"."""
        return f"{self.case}-{self.key}" if self.case else self.key

    @property
    def data_name(self) -> str:
        """The folder of the data in a results tree."""
        return self.case or self.data.operator

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""
        return {
            "cell": {"key": self.key, "case": self.case, "measure": self.measure},
            "data": data_table(self.data),
            "cycle": to_table(self.cycle),
            "method": method_table(self.method),
            "scores": to_table(self.scores),
        }


@dataclass(frozen=True)
class CycledExperiment:
    """Every method on every case.

    Attributes
    ----------
    name : str
        Also the folder of its results.
    axes : CycledAxes
    data : TwinSettings
        Of which the axes replace what they vary.
    cycle : CycleSettings
    methods : dict of str to Method
    scores : ScoreSettings
    """

    name: str
    axes: CycledAxes
    data: TwinSettings
    cycle: CycleSettings
    methods: Mapping[str, Method]
    scores: ScoreSettings = field(default_factory=ScoreSettings)

    @property
    def kind(self) -> Kind:
        """How its cells are run and read."""
        from l63fast.experiments.cycled.kind import CYCLED

        return CYCLED

    def cases(self) -> dict[str, TwinSettings]:
        """Return the data of each case, by a name made of what varies."""
        axes, data = self.axes, self.data
        found = {}
        for operator, sigma, interval in product(
            axes.operators or (data.operator,),
            axes.sigmas or (data.sigma,),
            axes.intervals or (data.steps_per_cycle,),
        ):
            changes: dict[str, Any] = {
                "operator": operator,
                "sigma": sigma,
                "steps_per_cycle": interval,
            }
            if axes.model_error:
                changes["Q"] = axes.model_error * sigma**2
            parts = (
                (axes.operators, operator),
                (axes.sigmas, f"s{sigma:.4g}"),
                (axes.intervals, f"i{interval}"),
            )
            name = "_".join(part for values, part in parts if values)
            found[name] = with_cycles(data, self.cycle, **changes)
        return found

    def cells(self) -> list[CycledCell]:
        """Return the cells, all methods of one case together."""
        return [
            CycledCell(
                key, case, data, self.cycle, method, self.scores, self.axes.measure
            )
            for case, data in self.cases().items()
            for key, method in self.methods.items()
        ]

    def only(self, keys: list[str]) -> CycledExperiment:
        """Return the experiment with some of its methods, in the order given.

        Raises
        ------
        ConfigurationError
            If it has no such method.
        """
        for key in keys:
            if key not in self.methods:
                raise ConfigurationError(
                    f"methods: {self.name} has no method {key!r} (it has "
                    f"{', '.join(self.methods)})"
                )
        chosen = {key: self.methods[key] for key in keys}
        return dataclasses.replace(self, methods=chosen)

    def to_toml(self) -> str:
        """Return the experiment as TOML that `experiment_from_tables` reads."""
        return dump_tables(
            {
                "experiment": to_table(self.axes),
                "data": data_table(self.data),
                "cycle": to_table(self.cycle),
                "scores": to_table(self.scores),
                "methods": {k: method_table(m) for k, m in self.methods.items()},
            }
        )


def with_cycles(
    data: TwinSettings, cycle: CycleSettings, **changes: Any
) -> TwinSettings:
    """Return data with changes, as long as the cycles need and stored once in each."""
    # n_steps and save_every may not fit the change until they follow it.
    lap = changes.get("steps_per_cycle", data.steps_per_cycle)
    short = dataclasses.replace(data, n_steps=lap, save_every=1, **changes)
    n_cycles = cycle.burn_in_cycles(short) + cycle.n_cycles
    return dataclasses.replace(short, n_steps=n_cycles * lap, save_every=lap)


def data_table(data: TwinSettings) -> dict[str, Any]:
    """Return the settings of the data that a cycled experiment leaves open."""
    return {k: v for k, v in to_table(data).items() if k not in _DERIVED}


_SECTIONS: Final = ("experiment", "data", "cycle", "scores", "methods")


def experiment_from_tables(
    name: str, tables: Mapping[str, Any], *, source: str
) -> CycledExperiment:
    """Return an experiment from its tables.

    Raises
    ------
    ConfigurationError
        If a table or key is unknown, or a value has the wrong type or makes no sense.
    """
    _checks.file_name("name", name)
    for table, content in tables.items():
        if table not in _SECTIONS:
            key = next(iter(content), "") if isinstance(content, Mapping) else ""
            raise ConfigurationError(
                f"{source}: {table}.{key}: a cycled experiment has no such setting "
                f"(its tables are {', '.join(_SECTIONS)})"
            )
    methods = tables.get("methods", {})
    if not isinstance(methods, Mapping) or not methods:
        raise ConfigurationError(f"{source}: methods: expected at least one table")
    for key in methods:
        _checks.file_name("methods", key)
    cycle = build(CycleSettings, tables.get("cycle", {}), source=source, key="cycle")
    experiment = CycledExperiment(
        name,
        build(
            CycledAxes, tables.get("experiment", {}), source=source, key="experiment"
        ),
        _data(tables.get("data", {}), cycle, source),
        cycle,
        {
            key: method_from_table(table, source=source, key=f"methods.{key}")
            for key, table in methods.items()
        },
        build(ScoreSettings, tables.get("scores", {}), source=source, key="scores"),
    )
    try:
        experiment.cells()
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    return experiment


def cell_from_tables(tables: Mapping[str, Any], *, source: str) -> CycledCell:
    """Return the cell that the tables of its `config.toml` describe."""
    cycle = build(CycleSettings, tables["cycle"], source=source, key="cycle")
    return CycledCell(
        **tables["cell"],
        data=_data(tables["data"], cycle, source),
        cycle=cycle,
        method=method_from_table(tables["method"], source=source, key="method"),
        scores=build(ScoreSettings, tables["scores"], source=source, key="scores"),
    )


def _data(table: Any, cycle: CycleSettings, source: str) -> TwinSettings:
    for name in _DERIVED:
        if isinstance(table, Mapping) and name in table:
            raise ConfigurationError(
                f"{source}: data.{name}: a cycled experiment decides it by cycle."
                "n_cycles and cycle.burn_in"
            )
    # A length that any number of steps between observations fits, until it is known.
    given = {"n_steps": 10**9, **table} if isinstance(table, Mapping) else table
    return with_cycles(build(TwinSettings, given, source=source, key="data"), cycle)
