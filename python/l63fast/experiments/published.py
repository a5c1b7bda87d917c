"""Published scores, and their comparison with the scores of an experiment."""

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
    """A published score, with the settings that a cell must have to be compared.

    Attributes
    ----------
    source : str
        Publication or file.
    data : mapping
        Settings of the data that must be equal, such as "interval" (time units); "dt"
        is 0.01 if not given.
    method : mapping
        Keys of the method's table that must be equal; None means a tuned number.
    file : float
        Value in the settings file of the reference implementation (DAPPER).
    rerun : float
        Value that DAPPER 1.7.1 gives when it is run, with one seed.
    paper : float
        Value in the publication. Any of the three is NaN if there is no such value.
    monte_carlo : float
        Standard error of a published value, which comes from one trajectory.
    digit : float
        Unit of the last published digit.
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
    """Return the published score of the same method on the same data, or None.

    The seed and the numbers of trajectories and cycles may differ, and the burn-in may
    have any length from four time units on. There is none for saved data, other laws of
    errors or parameters, and another model than that of the truth.
    """
    data, protocol, table = cell.data, cell.protocol, method_table(cell.method)
    if not isinstance(protocol, Cycles) or protocol.burn_in < _BURN_IN:
        return None
    unlike = data.R or data.gaps or isinstance(data, SavedSettings)
    unlike = unlike or data.beyond_the_usual or not cell.model.is_perfect
    if data.parameters != type(data.parameters)() or unlike:
        return None
    own: dict[str, Any] = {
        "operator": data.operator_name,
        "variance": data.sigma**2,
        "interval": data.steps_per_cycle * data.dt,
        "Q": data.Q,
        "dt": data.dt,
    }
    for one in PUBLISHED:
        given = {"dt": _DT, **one.data}
        pairs = [(own[key], value) for key, value in given.items()]
        pairs += [(table.get(key), value) for key, value in one.method.items()]
        if one.measure == cell.measure and all(_equal(*pair) for pair in pairs):
            return one
    return None


def published_columns(cell: Cell, row: Any) -> dict[str, Any]:
    """Return the columns of published scores (NaN without one) and of the verdict."""
    published = published_for(cell)
    if published is None:
        return {**dict.fromkeys(SOURCES, math.nan), "verdict": ""}
    values = {name: getattr(published, name) for name in SOURCES}
    return {**values, "verdict": verdict(published, row.score, row.low, row.high)}


def _equal(own: Any, other: Any) -> bool:
    floats = isinstance(other, float) and isinstance(own, float)
    return math.isclose(own, other, rel_tol=1e-6) if floats else bool(own == other)


def range_of(*values: float) -> tuple[float, float]:
    """Return the lowest and the highest of some values; NaN values are left out."""
    known = [value for value in values if not math.isnan(value)]
    return (min(known), max(known)) if known else (math.nan, math.nan)


def verdict(published: Published, value: float, low: float, high: float) -> str:
    """Return "within", "lower", "higher" or "not finite", against published scores.

    Empty if the score has no interval, as with a single trajectory.

    The range of the published values is widened by sqrt(w^2 + (1.96 e)^2) + d/2, with
    the half-width w of the score's own interval (low to high), the Monte-Carlo error e
    of a published value and the unit d of its last digit.
    """
    if not math.isfinite(value):
        return "not finite"
    if not math.isfinite(high - low):
        return ""
    slack = math.hypot((high - low) / 2, 1.96 * published.monte_carlo)
    slack += published.digit / 2
    lowest, highest = range_of(published.file, published.rerun, published.paper)
    if value > highest + slack:
        return "higher"
    return "lower" if value < lowest - slack else "within"
