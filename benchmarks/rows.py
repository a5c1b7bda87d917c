"""The rows of the tables: goals, limits, peers and growth, as plain data for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Goal:
    """A figure to reach.

    `value` and `limit` are in `unit`; `ratio` is what the goal speaks of, to be at
    least `goal`, or at most where `at_most`.
    """

    what: str
    value: float
    unit: str
    limit: float
    limit_name: str
    goal: float
    at_most: bool = False

    @property
    def ratio(self) -> float:
        return self.value / self.limit

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal


@dataclass(frozen=True)
class Limit:
    """A rate of the machine at one instruction set."""

    level: str
    what: str
    value: float
    unit: str


@dataclass(frozen=True)
class Rival:
    """A peer's rate, and how many times slower it was than l63fast in turns with it."""

    group: str
    name: str
    rate: float
    unit: str
    times_slower: float


@dataclass(frozen=True)
class Growth:
    """The cost of one unit of work at one size."""

    function: str
    axis: str
    size: int
    seconds: float


Row = Goal | Limit | Rival | Growth
KINDS = {kind.__name__.lower(): kind for kind in (Goal, Limit, Rival, Growth)}


def to_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON holds it."""
    return {"kind": type(row).__name__.lower(), **asdict(row)}


def from_json(data: dict[str, Any]) -> Row:
    """Return the row that `to_json` made this of."""
    fields = {key: value for key, value in data.items() if key != "kind"}
    return KINDS[data["kind"]](**fields)
