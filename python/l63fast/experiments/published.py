"""Published scores: of which method, on which data, by whom."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from l63fast.experiments.data import SavedSettings
from l63fast.experiments.methods import method_table
from l63fast.experiments.protocols import Cycles
from l63fast.experiments.settings import Cell

SOURCES: Final = ("file", "rerun", "paper")


@dataclass(frozen=True)
class Published:
    """A published score, for any cell that is the same experiment.

    Attributes
    ----------
    source : str
    data : mapping
        Settings of the data that must be equal, "interval" (time units) among them.
    method : mapping
        Keys of the method's table that must be equal; None is a number that was tuned.
    file : float
        The value that the settings file of the reference implementation gives.
    rerun : float
        What that implementation (DAPPER 1.7.1) gives when it is run, one seed.
    paper : float
        The value of the publication. NaN where a source gives none.
    monte_carlo : float
        Standard error of a published value, which is of one trajectory.
    digit : float
        Unit of the last digit given.
    measure : {"rmse_a", "decibel"}
    """

    source: str
    data: Mapping[str, Any]
    method: Mapping[str, Any]
    file: float = math.nan
    rerun: float = math.nan
    paper: float = math.nan
    monte_carlo: float = 0.02
    digit: float = 0.01
    measure: str = "rmse_a"


_DT: Final = 0.01
_BURN_IN: Final = 4.0


PUBLISHED: Final = tuple(
    Published(**experiment, **score)
    for experiment in tomllib.loads(
        (files("l63fast.experiments") / "published.toml").read_text("utf-8")
    )["experiment"]
    for score in experiment.pop("scores")
)


def published_for(cell: Cell) -> Published | None:
    """Return the published score of the same method on the same data, if there is one.

    The number of trajectories and cycles and the seed may differ, and how long the
    start is forgotten, from four time units on. No score is that of saved data.
    """
    data, protocol, table = cell.data, cell.protocol, method_table(cell.method)
    if not isinstance(protocol, Cycles) or protocol.burn_in < _BURN_IN:
        return None
    unlike = data.R or isinstance(data, SavedSettings)
    if data.parameters != type(data.parameters)() or data.dt != _DT or unlike:
        return None
    ours: dict[str, Any] = {
        "operator": data.operator_name,
        "variance": data.sigma**2,
        "interval": data.steps_per_cycle * data.dt,
        "Q": data.Q,
    }
    for one in PUBLISHED:
        pairs = [(ours[key], value) for key, value in one.data.items()]
        pairs += [(table.get(key), value) for key, value in one.method.items()]
        if one.measure == cell.measure and all(_equal(*pair) for pair in pairs):
            return one
    return None


def beside_published(cell: Cell, row: Any) -> dict[str, Any]:
    """Return the published scores of a row's method, NaN without, and the verdict."""
    found = published_for(cell)
    if found is None:
        return {**dict.fromkeys(SOURCES, math.nan), "verdict": ""}
    values = {name: getattr(found, name) for name in SOURCES}
    return {**values, "verdict": verdict(found, row.score, row.low, row.high)}


def _equal(ours: Any, theirs: Any) -> bool:
    floats = isinstance(theirs, float) and isinstance(ours, float)
    return math.isclose(ours, theirs, rel_tol=1e-6) if floats else bool(ours == theirs)


def range_of(*values: float) -> tuple[float, float]:
    """Return the lowest and the highest value that a source gives; NaN without one."""
    known = [value for value in values if not math.isnan(value)]
    return (min(known), max(known)) if known else (math.nan, math.nan)


def verdict(published: Published, value: float, low: float, high: float) -> str:
    """Return how a score compares: "within", "lower", "higher" or "diverged".

    Empty where the score has no interval, as of a single trajectory.

    The values of the sources are widened by the half-width of the interval of the
    score, low to high, and by 1.96 of their own Monte-Carlo errors, both together as
    independent errors, and by half a unit of the last digit given.
    """
    if not math.isfinite(value):
        return "diverged"
    if not math.isfinite(high - low):
        return ""
    slack = math.hypot((high - low) / 2, 1.96 * published.monte_carlo)
    slack += published.digit / 2
    lowest, highest = range_of(published.file, published.rerun, published.paper)
    if value > highest + slack:
        return "higher"
    return "lower" if value < lowest - slack else "within"
