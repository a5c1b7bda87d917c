"""The settings of a cycled cell: data, cycle and method, and their tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from l63fast import _checks
from l63fast.errors import ConfigurationError
from l63fast.experiments.config import ScoreSettings
from l63fast.experiments.cycled.encoders import TrainedEncoder, of_training
from l63fast.experiments.cycled.methods import method_from_table, method_table
from l63fast.experiments.cycled.prepared import Method
from l63fast.experiments.settings_file import build, to_table
from l63fast.twin import TwinSettings

__all__ = [
    "MEASURES",
    "CycleSettings",
    "CycledCell",
    "cell_from_tables",
    "data_from_table",
    "data_table",
    "with_cycles",
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
    def method_key(self) -> str:
        """What the method is called, whichever training of it the cell is."""
        if not isinstance(self.method, TrainedEncoder):
            return self.key
        return self.key.removesuffix(of_training("", self.method.training.seed))

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


def with_cycles(
    data: TwinSettings, cycle: CycleSettings, **changes: Any
) -> TwinSettings:
    """Return data with changes, as long as the cycles need and stored once in each."""
    # n_steps and save_every may not fit the change until they follow it.
    steps = changes.get("steps_per_cycle", data.steps_per_cycle)
    short = dataclasses.replace(data, n_steps=steps, save_every=1, **changes)
    n_cycles = cycle.burn_in_cycles(short) + cycle.n_cycles
    return dataclasses.replace(short, n_steps=n_cycles * steps, save_every=steps)


def data_table(data: TwinSettings) -> dict[str, Any]:
    """Return the settings of the data that a cycled experiment leaves open."""
    return {k: v for k, v in to_table(data).items() if k not in _DERIVED}


def cell_from_tables(tables: Mapping[str, Any], *, source: str) -> CycledCell:
    """Return the cell that the tables of its `config.toml` describe."""
    cycle = build(CycleSettings, tables["cycle"], source=source, key="cycle")
    return CycledCell(
        **tables["cell"],
        data=data_from_table(tables["data"], cycle, source),
        cycle=cycle,
        method=method_from_table(tables["method"], source=source, key="method"),
        scores=build(ScoreSettings, tables["scores"], source=source, key="scores"),
    )


def data_from_table(table: Any, cycle: CycleSettings, source: str) -> TwinSettings:
    """Return the data that a table and the cycles describe."""
    for name in _DERIVED:
        if isinstance(table, Mapping) and name in table:
            raise ConfigurationError(
                f"{source}: data.{name}: a cycled experiment decides it by cycle."
                "n_cycles and cycle.burn_in"
            )
    # A length that any number of steps between observations fits, until it is known.
    given = {"n_steps": 10**9, **table} if isinstance(table, Mapping) else table
    return with_cycles(build(TwinSettings, given, source=source, key="data"), cycle)
