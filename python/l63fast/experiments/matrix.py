"""The matrix of an experiment with encoders: its axes, combinations and names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from l63fast import _checks
from l63fast.assimilation.backgrounds import KINDS
from l63fast.errors import ArgumentValueError, ConfigurationError
from l63fast.experiments.config import CellSettings, analysis_time
from l63fast.learning.settings import ENCODER_NAMES, LOSS_NAMES
from l63fast.observation import ObservationOperator

__all__ = ["VARIED", "Axes", "checked_operators", "combinations", "first_value"]

Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Axes:
    """What varies between the cells of an experiment; an empty axis does not.

    Attributes
    ----------
    models : tuple of str
        Encoders.
    operators : tuple of str
        Observation operators; they share one truth, as do errors and intervals.
    sigmas : tuple of float
        Standard deviations of the observation error.
    intervals : tuple of int
        Model steps between observations.
    windows : tuple of int
        Observations that an encoder sees; all are scored at the same times.
    backgrounds, losses : tuple of str
        Every background with every loss; or else
    regimes : tuple of str
        Pairs of a background and a loss, such as "mean:var3d".
    n_iterations : tuple of int
        Iterations K of the learned fixed point.
    seeds : tuple of int
        Repetitions of everything: of data, weights and sample order.
    optimum : int
        States in the library behind the optimum of each window; 0: no optimum.
    optimum_trajectories : int
        Test trajectories that it is computed on, the first ones, at most.
    """

    models: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    sigmas: tuple[float, ...] = ()
    intervals: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()
    backgrounds: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    n_iterations: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    optimum: int = 0
    optimum_trajectories: int = 25

    def __post_init__(self) -> None:
        for name in _NESTING:
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigurationError(
                    f"{name}: expected each once, got {list(values)}"
                )
            for value in values:
                _CHECKS[name](name, value)
        if self.regimes and (self.backgrounds or self.losses):
            raise ConfigurationError(
                "regimes: pairs backgrounds with losses; expected no other axis of "
                "either"
            )
        _checks.count("optimum", self.optimum)
        _checks.count("optimum_trajectories", self.optimum_trajectories, minimum=1)


def checked_operators(operators: tuple[str, ...]) -> None:
    """Check the names of several observation operators.

    Raises
    ------
    ConfigurationError
        If one is not valid.
    """
    for operator in operators:
        _check_operator("operators", operator)


def _check_operator(name: str, value: str) -> None:
    try:
        ObservationOperator(value)
    except ArgumentValueError as error:
        why = str(error).removeprefix("operator: ")
        raise ConfigurationError(f"{name}: {why}") from None


def _check_regime(name: str, value: str) -> None:
    background, colon, loss = value.partition(":")
    if not colon:
        raise ConfigurationError(
            f"{name}: expected a background and a loss, such as 'mean:var3d', got "
            f"{value!r}"
        )
    _checks.choice(name, background, KINDS)
    _checks.choice(name, loss, LOSS_NAMES)


def _of(names: Any) -> Callable[[str, Any], Any]:
    return lambda name, value: _checks.choice(name, value, names)


def _above_zero(name: str, value: Any) -> Any:
    return _checks.real(name, value, above=0.0)


def _positive(name: str, value: Any) -> Any:
    return _checks.count(name, value, minimum=1)


# From the outermost loop to the innermost: what shares data, and then what shares
# backgrounds and tuned 3D-Var, runs one after the other.
_NESTING: Final = (
    *("seeds", "operators", "sigmas", "intervals", "windows"),
    *("regimes", "backgrounds", "losses", "n_iterations", "models"),
)
_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "seeds": lambda name, value: _checks.seed(name, value),
    "operators": _check_operator,
    "sigmas": _above_zero,
    "intervals": _positive,
    "windows": _positive,
    "regimes": _check_regime,
    "backgrounds": _of(KINDS),
    "losses": _of(LOSS_NAMES),
    "n_iterations": _positive,
    "models": _of(ENCODER_NAMES),
}

# Which settings each axis replaces, all with the same value.
VARIED: Final[dict[str, tuple[str, ...]]] = {
    "seeds": ("data.seed", "training.seed"),
    "operators": ("data.operator", "model.operator"),
    "sigmas": ("data.sigma",),
    "intervals": ("data.steps_per_cycle",),
    "windows": ("model.window",),
    "regimes": ("background.kind", "training.loss", "model.analysis_at"),
    "backgrounds": ("background.kind",),
    "losses": ("training.loss", "model.analysis_at"),
    "n_iterations": ("model.n_iterations",),
    "models": ("model.model",),
}
_TAGS: Final[dict[str, str]] = {
    "sigmas": "s{:.6g}",
    "intervals": "i{}",
    "windows": "w{}",
    "regimes": "{}",
    "backgrounds": "{}",
    "losses": "{}",
    "n_iterations": "k{}",
    "seeds": "r{}",
}
_OF_DATA: Final = ("sigmas", "intervals", "seeds")


def combinations(axes: Axes, base: CellSettings) -> Iterator[CellSettings]:
    """Yield a cell for each combination of the axes, all else as in `base`.

    A cell is named by its encoder, its operator and the axes that are given, so that
    a value added to one of them later renames nothing.
    """
    given = {name: getattr(axes, name) for name in _NESTING if getattr(axes, name)}
    for values in product(*given.values()):
        chosen = dict(zip(given, values, strict=True))
        changes: Changes = {}
        for name, value in chosen.items():
            for place in VARIED[name]:
                section, field = place.split(".")
                changes.setdefault(section, {})[field] = _at(name, value, place)
        if axes.windows:
            start = max(base.samples.start, *axes.windows)
            changes["samples"] = {"start": start}
        yield _named(base, changes, chosen)


def first_value(axes: Axes, axis: str, place: str) -> Any:
    """Return what the first value of an axis makes of a setting it replaces."""
    return _at(axis, getattr(axes, axis)[0], place)


def _at(axis: str, value: Any, place: str) -> Any:
    if axis not in ("regimes", "losses"):
        return value
    *background, loss = value.split(":")
    if place == "model.analysis_at":
        return analysis_time(loss)
    return background[0] if place == "background.kind" else loss


def _named(
    base: CellSettings, changes: Changes, chosen: Mapping[str, Any]
) -> CellSettings:
    sections = {
        section: dataclasses.replace(getattr(base, section), **fields)
        for section, fields in changes.items()
    }
    operator = sections.get("data", base.data).operator
    model = sections.get("model", base.model).model
    return dataclasses.replace(
        base,
        **sections,
        name="_".join([model, operator, *_tags(chosen, _TAGS)]),
        data_name="_".join([operator, *_tags(chosen, _OF_DATA)]),
    )


def _tags(chosen: Mapping[str, Any], names: Any) -> list[str]:
    return [
        _TAGS[name].format(chosen[name]).replace(":", "-")
        for name in names
        if name in chosen
    ]
