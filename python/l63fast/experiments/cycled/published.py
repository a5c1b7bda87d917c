"""Published scores: of which method, on which data, by whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from l63fast.experiments.cycled.methods import method_table
from l63fast.experiments.cycled.settings import CycledCell

__all__ = ["PUBLISHED", "Published", "published_for", "range_of", "verdict"]


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
    measure : {"rms", "decibel"}
    """

    source: str
    data: Mapping[str, Any]
    method: Mapping[str, Any]
    file: float = math.nan
    rerun: float = math.nan
    paper: float = math.nan
    monte_carlo: float = 0.02
    digit: float = 0.01
    measure: str = "rms"


_DT: Final = 0.01
_BURN_IN: Final = 4.0
_SAKOV: Final = {"operator": "xyz", "variance": 2.0, "interval": 0.25, "Q": 0.0}
_WILJES: Final = {"operator": "x", "variance": 8.0, "interval": 0.12, "Q": 0.0}


def _square_root(n: int, inflation: float, *, rotation: bool) -> dict[str, Any]:
    return {
        "scheme": "enkf",
        "variant": "square_root",
        "n_members": n,
        "inflation": inflation,
        "rotation": rotation,
    }


def _stochastic(n: int, inflation: float) -> dict[str, Any]:
    return {
        "scheme": "enkf",
        "variant": "stochastic",
        "n_members": n,
        "inflation": inflation,
    }


def _finite_size(n: int, *, rotation: bool) -> dict[str, Any]:
    return {
        "scheme": "enkf",
        "variant": "finite_size",
        "n_members": n,
        "inflation": 1.0,
        "rotation": rotation,
    }


def _particles(n: int, regularisation: float, threshold: float) -> dict[str, Any]:
    return {
        "scheme": "pf",
        "n_particles": n,
        "regularisation": regularisation,
        "threshold": threshold,
    }


def _climatological(b_scale: float) -> dict[str, Any]:
    return {"scheme": "3dvar", "B": "climatology", "b_scale": b_scale}


# The file inflates P, per unit time; ours is of standard deviations, per forecast.
_EXTKF_INFLATION: Final = 180.0 ** (0.25 / 2.0)

# Table: settings of the method, file, rerun, unit of the last digit.
_SAKOV_SCORES: Final = (
    ({"scheme": "climatology"}, 7.6, 7.6, 0.1),
    ({"scheme": "oi"}, 1.25, 1.23, 0.01),
    (_climatological(0.1), 1.04, 1.03, 0.01),
    ({"scheme": "extkf", "inflation": _EXTKF_INFLATION}, 0.92, 0.87, 0.01),
    (_square_root(3, 1.30, rotation=False), 0.80, 0.70, 0.01),
    (_square_root(10, 1.02, rotation=True), 0.60, 0.57, 0.01),
    (_stochastic(10, 1.04), 0.65, 0.56, 0.01),
    (_stochastic(100, 1.01), 0.56, 0.53, 0.01),
    (_finite_size(3, rotation=False), 0.60, 0.62, 0.01),
    (_finite_size(10, rotation=True), 0.54, 0.54, 0.01),
    (_particles(100, 2.4, 0.3), 0.38, 0.35, 0.01),
    (_particles(800, 0.9, 0.2), 0.28, 0.25, 0.01),
    (_particles(4000, 0.7, 0.05), 0.27, math.nan, 0.01),
)
# The file runs 100 cycles only, so its own error is larger than what is allowed here.
# The paper's own scores are of other methods, or of a particle filter whose settings it
# does not give, and stand beside none of ours.
_WILJES_SCORES: Final = (
    ({"scheme": "oi"}, 5.4, 5.3, 0.1),
    (_climatological(0.3), 3.0, 3.3, 0.1),
    (_finite_size(5, rotation=False), 2.68, 2.9, 0.01),
    (_finite_size(30, rotation=True), 2.52, 2.4, 0.01),
    (_particles(35, 1.4, 0.3), 2.05, 1.75, 0.01),
)
# Revach et al. (2022), table III: mean squared errors in dB at 1 / r^2 in dB.
_KNET_SCORES: Final = {0: -10.45, 10: -20.37, 20: -30.40, 30: -40.39, 40: -49.89}


def _dapper(
    file: str, data: Mapping[str, Any], scores: Sequence[Any], monte_carlo: float
) -> list[Published]:
    source = f"DAPPER, mods/Lorenz63/{file}.py (Raanes et al. 2024)"
    return [
        Published(source, data, method, value, rerun, math.nan, monte_carlo, digit)
        for method, value, rerun, digit in scores
    ]


def _knet(level: int, value: float) -> Published:
    variance = 10.0 ** (-level / 10)
    data = {"operator": "xyz", "interval": 0.02}
    return Published(
        "KalmanNet (Revach et al. 2022), extended Kalman filter",
        {**data, "variance": variance, "Q": variance / 100},
        {"scheme": "extkf", "inflation": 1.0},
        paper=value,
        monte_carlo=0.25,  # dB: as trajectories of 2,000 cycles scatter
        measure="decibel",
    )


PUBLISHED: Final[tuple[Published, ...]] = (
    *_dapper("sakov2012", _SAKOV, _SAKOV_SCORES, 0.02),
    *_dapper("wiljes2017", _WILJES, _WILJES_SCORES, 0.1),
    *(_knet(level, value) for level, value in _KNET_SCORES.items()),
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
        asked = all(_equal(table.get(key), v) for key, v in one.method.items())
        if same and asked and one.measure == cell.measure:
            return one
    return None


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, float) and isinstance(ours, float):
        return math.isclose(ours, theirs, rel_tol=1e-6)
    return bool(ours == theirs)


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
