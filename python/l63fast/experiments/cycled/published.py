"""Published scores: of which method, on which data, by whom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from l63fast.experiments.cycled.methods import method_table
from l63fast.experiments.cycled.settings import CycledCell

__all__ = ["PUBLISHED", "Published", "published_for", "verdict"]


@dataclass(frozen=True)
class Published:
    """A published score, for any cell that is the same experiment.

    Attributes
    ----------
    source : str
    data : mapping
        Settings of the data that must be equal, "interval" (time units) among them.
    method : mapping
        Keys of the method's table that must be equal, or one of several values; None
        is a number that was tuned.
    low, high : float
        The range given; one value twice where there is one.
    measure : {"rms", "decibel"}
    tolerance : float
        How far outside a score may be besides its own uncertainty: half a unit of the
        last digit given, or what differs between the protocols.
    """

    source: str
    data: Mapping[str, Any]
    method: Mapping[str, Any]
    low: float
    high: float
    measure: str = "rms"
    tolerance: float = 0.0


_DT: Final = 0.01
_BURN_IN: Final = 4.0
_SAKOV: Final = {"operator": "xyz", "variance": 2.0, "interval": 0.25, "Q": 0.0}
_WILJES: Final = {"operator": "x", "variance": 8.0, "interval": 0.12, "Q": 0.0}
_DAPPER: Final = "DAPPER, mods/Lorenz63/{}.py (Raanes et al. 2024)"
_ROOT: Final = {"scheme": "enkf", "variant": "square_root", "rotation": True}
_STOCHASTIC: Final = {
    "scheme": "enkf",
    "variant": "stochastic",
    "inflation": (None, 1.0),
}


def _dapper(
    file: str,
    data: Mapping[str, Any],
    rows: list[tuple[Mapping[str, Any], tuple[float, float], float]],
) -> list[Published]:
    source = _DAPPER.format(file)
    return [
        Published(source, data, method, low, high, tolerance=digit / 2)
        for method, (low, high), digit in rows
    ]


def _knet() -> list[Published]:
    """KalmanNet, Revach et al. (2022), linear observations of Lorenz-63, table III."""
    scores = {0: -10.45, 10: -20.37, 20: -30.40, 30: -40.39, 40: -49.89}
    found = []
    for level, value in scores.items():
        variance = 10.0 ** (-level / 10)
        data = {
            "operator": "xyz",
            "variance": variance,
            "interval": 0.02,
            "Q": variance / 100,
        }
        found.append(
            Published(
                "KalmanNet (Revach et al. 2022), extended Kalman filter",
                data,
                {"scheme": "extkf", "inflation": (None, 1.0)},
                value,
                value,
                measure="decibel",
                tolerance=0.2,
            )
        )
    return found


PUBLISHED: Final[tuple[Published, ...]] = (
    *_dapper(
        "sakov2012",
        _SAKOV,
        [
            ({"scheme": "climatology"}, (7.6, 7.6), 0.1),
            ({"scheme": "oi"}, (1.23, 1.25), 0.01),
            ({"scheme": "3dvar", "b_scale": (None, 0.1)}, (1.03, 1.04), 0.01),
            ({"scheme": "extkf", "inflation": (None,)}, (0.87, 0.92), 0.01),
            ({**_ROOT, "n_members": 10, "inflation": (None, 1.02)}, (0.54, 0.60), 0.01),
            (
                {**_STOCHASTIC, "n_members": 100},
                (0.53, 0.56),
                0.01,
            ),
            ({"scheme": "pf", "n_particles": 100}, (0.35, 0.38), 0.01),
            ({"scheme": "pf", "n_particles": 800}, (0.25, 0.28), 0.01),
            ({"scheme": "pf", "n_particles": 4000}, (0.27, 0.27), 0.01),
        ],
    ),
    *_dapper(
        "wiljes2017",
        _WILJES,
        [
            ({"scheme": "oi"}, (5.3, 5.4), 0.1),
            ({"scheme": "3dvar", "b_scale": (None,)}, (3.0, 3.3), 0.1),
            (
                {"scheme": "enkf", "variant": "finite_size", "n_members": 30},
                (2.4, 2.5),
                0.1,
            ),
            ({**_ROOT, "n_members": 30, "inflation": (None, 1.04)}, (2.4, 2.5), 0.1),
            ({"scheme": "pf", "n_particles": (1000, 4000)}, (1.75, 2.05), 0.01),
        ],
    ),
    *_knet(),
)


def published_for(cell: CycledCell) -> Published | None:
    """Return the published score of the same method on the same data, if there is one.

    The number of trajectories and cycles and the seed may differ, and how long the
    start is forgotten, from four time units on.
    """
    data, table = cell.data, method_table(cell.method)
    plain = data.parameters == type(data.parameters)() and data.dt == _DT
    plain = plain and data.R is None
    if not plain or cell.cycle.burn_in < _BURN_IN:
        return None
    ours: dict[str, Any] = {
        "operator": data.operator,
        "variance": data.sigma**2,
        "interval": data.steps_per_cycle * data.dt,
        "Q": data.Q,
    }
    for one in PUBLISHED:
        same = all(_equal(ours[key], value) for key, value in one.data.items())
        asked = all(_among(table.get(key), v) for key, v in one.method.items())
        if same and asked and one.measure == cell.measure:
            return one
    return None


def _among(ours: Any, theirs: Any) -> bool:
    values = theirs if isinstance(theirs, tuple) else (theirs,)
    return any(_equal(ours, value) for value in values)


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, float) and isinstance(ours, float):
        return math.isclose(ours, theirs, rel_tol=1e-6)
    return bool(ours == theirs)


def verdict(published: Published, value: float, low: float, high: float) -> str:
    """Return how a score compares: "within", "lower", "higher" or "diverged".

    Empty where the score has no interval, as of a single trajectory.

    The published range is widened by twice the half-width of the score's own interval,
    low to high, and by the tolerance.
    """
    if not math.isfinite(value):
        return "diverged"
    if not math.isfinite(high - low):
        return ""
    slack = (high - low) + published.tolerance
    if value > published.high + slack:
        return "higher"
    return "lower" if value < published.low - slack else "within"
