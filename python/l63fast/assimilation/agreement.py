"""Comparison of a scheme's assumptions about the data with the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self

import numpy as np

from l63fast import _checks
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin import TwinExperiment
from l63fast.twin.gaps import share

_ALWAYS: Final = ("operator", "interval")  # these decide what the observations are
_OF_MODEL: Final = ("Q", "dt", "parameters")  # the rest is that of the data
_SAME: Final = 1e-6  # relative difference that changes no score


@dataclass(frozen=True, eq=False, kw_only=True)
class Setup:
    """The properties of a twin experiment that a scheme was made for.

    A value of None means that the property does not matter; it agrees with every value.

    Attributes
    ----------
    operator : ObservationOperator or None
    interval : float or None
        Time between observations (time units).
    R : (obs_dim, obs_dim) or None
        Covariance of the observation error.
    Q : (3, 3) or None
        Covariance of the model error per cycle; zeros mean a perfect model.
    dt : float or None
        Time step of the model (time units).
    parameters : Lorenz63 or None
    missing : float or None
        Probability that a value is not observed.
    interval_width : float or None
        Longest minus shortest time between observations (time units), of which
        `interval` is the mean; 0 where they are regular.
    encoder : Setup or None
        Of a scheme with an encoder: the setup that the encoder was trained for.
    """

    operator: ObservationOperator | None = None
    interval: float | None = None
    R: np.ndarray | None = None
    Q: np.ndarray | None = None
    dt: float | None = None
    parameters: Lorenz63 | None = None
    missing: float | None = None
    interval_width: float | None = None
    encoder: Setup | None = None

    def __post_init__(self) -> None:
        if self.operator is not None:
            object.__setattr__(self, "operator", as_operator(self.operator))
        for name in ("R", "Q"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, np.asarray(value, dtype=np.float64))
        for name in ("interval", "dt"):
            if getattr(self, name) is not None:
                _checks.real(name, getattr(self, name), above=0.0)
        if self.parameters is not None:
            _checks.instance("parameters", self.parameters, Lorenz63)

    @classmethod
    def of(cls, twin: TwinExperiment) -> Setup:
        """Return the setup of a twin experiment, with the model of its schemes."""
        settings, model = twin.settings, twin.model
        return cls(
            operator=twin.operator,
            interval=settings.steps_per_cycle * settings.dt,
            R=twin.R,
            Q=model.error_covariance(settings),
            **model.arguments(settings),
            missing=settings.missing,
            interval_width=settings.interval_width,
        )

    def cycle_steps(self, name: str, twin: TwinExperiment) -> list[int]:
        """Return the steps of this dt to each observation of a twin from the last one.

        `name` is the argument that is named in the message.

        Raises
        ------
        ArgumentValueError
            If a cycle is not a whole number of steps.
        """
        steps: list[int] = twin.settings.cycle_steps.tolist()
        if self.dt is None:
            return steps
        own = {}
        for n_steps in dict.fromkeys(steps):
            interval = n_steps * twin.settings.dt
            own[n_steps] = round(interval / self.dt)
            if not _equal(own[n_steps] * self.dt, interval):
                raise ArgumentValueError(
                    f"{name}: expected a dt that divides the interval between "
                    f"observations, {interval:.10g}, got {self.dt:.10g}"
                )
        return [own[n_steps] for n_steps in steps]

    def to_dict(self) -> dict[str, Any]:
        """Return all but operator and encoder as plain values, for JSON.

        The law of gaps is left out where there are none.
        """
        content = {
            "interval": self.interval,
            "dt": self.dt,
            "parameters": self.parameters and self.parameters.to_dict(),
            "R": None if self.R is None else self.R.tolist(),
            "Q": None if self.Q is None else self.Q.tolist(),
            "missing": self.missing or None,
            "interval_width": self.interval_width or None,
        }
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any], operator: ObservationOperator
    ) -> Setup:
        """Return the setup from an operator and `to_dict`; other keys are ignored.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If a value is not valid; the message names its key.
        """
        values: dict[str, Any] = {
            name: content.get(name) for name in ("interval", "dt")
        }
        for name, size in (("R", operator.obs_dim), ("Q", 3)):
            if name in content:
                values[name] = _covariance(name, content[name], size)
        values["missing"] = share("missing", content.get("missing", 0.0))
        width = content.get("interval_width", 0.0)
        values["interval_width"] = _checks.real("interval_width", width, minimum=0.0)
        if "parameters" in content:
            try:
                values["parameters"] = Lorenz63(**content["parameters"])
            except TypeError as error:
                raise ArgumentTypeError(f"parameters: {error}") from error
        return cls(operator=operator, **values)


def _covariance(name: str, value: Any, size: int) -> np.ndarray:
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{name}: expected a matrix of numbers") from error
    return _checks.covariance(
        name, matrix, size=size, dtype=matrix.dtype, shape=(), semidefinite=True
    )


_TWIN_VALUES: Final[dict[str, Callable[[TwinExperiment], Any]]] = {
    "operator": lambda twin: twin.operator,
    "R": lambda twin: twin.R,
    "Q": lambda twin: twin.model.error_covariance(twin.settings),
    "dt": lambda twin: twin.model.arguments(twin.settings)["dt"],
    "parameters": lambda twin: twin.model.arguments(twin.settings)["parameters"],
    "climatology": lambda twin: twin.climatology,
}


class FromTwin:
    """A dataclass whose settings can be values from a twin experiment."""

    @classmethod
    def for_twin(cls, twin: TwinExperiment, **settings: Any) -> Self:
        """Return the scheme with operator, R and model of a twin.

        Parameters
        ----------
        twin : TwinExperiment
            Gives those of operator, R, Q, dt, parameters and climatology that the
            scheme has; Q, dt and parameters are those of its model.
        **settings
            All other settings, and settings that differ from the twin.
        """
        _checks.instance("twin", twin, TwinExperiment)
        names = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        values = {
            name: take(twin)
            for name, take in _TWIN_VALUES.items()
            if name in names and name not in settings
        }
        return cls(**values, **settings)

    @property
    def made_for(self) -> Setup:
        """The scheme's assumptions about the data; a missing Q means zero."""
        names = {field.name for field in fields(self)}  # type: ignore[arg-type]
        stated = {
            field.name: getattr(self, field.name)
            for field in fields(Setup)
            if field.name in names and field.name != "encoder"
        }
        if isinstance(stated.get("parameters"), np.ndarray):
            del stated["parameters"]  # those of each trajectory agree with any twin
        # No Q is a perfect model, which differs from a twin with model error.
        if "Q" in stated and stated["Q"] is None:
            stated["Q"] = np.zeros((3, 3))
        return Setup(**stated)


class Difference(NamedTuple):
    """A difference between an assumption and the data.

    Attributes
    ----------
    of : str
        Whose assumption it is: "scheme", "warm_up", "backgrounds", ...
    name : str
        Such as "dt", or "encoder.R" for the R that an encoder was trained for.
    given, expected
        The assumed value, and that of the data.
    """

    of: str
    name: str
    given: Any
    expected: Any

    def __str__(self) -> str:
        """Return both values, such as "dt 0.01 instead of 0.02"."""
        return f"{self.name} {_shown(self.given)} instead of {_shown(self.expected)}"


def check_agreement(
    name: str,
    given: Setup,
    expected: Setup,
    *,
    imperfect_model: bool | None = None,
) -> tuple[Difference, ...]:
    """Return the differences of two setups, if they are allowed.

    All comparisons of a scheme or of backgrounds with data are made here.

    Parameters
    ----------
    name : str
        The argument that `given` belongs to.
    given, expected : Setup
    imperfect_model : bool, optional
        Whether dt, parameters, Q and R may differ; operator and interval never may.
        None means False where the caller offers no such argument.

    Raises
    ------
    ArgumentValueError
        If a difference is not allowed; the message names all of these.
    """
    if imperfect_model is not None:
        imperfect_model = _checks.boolean("imperfect_model", imperfect_model)
    differences = tuple(Difference(name, *one) for one in _differing(given, expected))
    never = tuple(one for one in differences if _is_one_of(one, _ALWAYS))
    refused = never if imperfect_model else differences
    if not refused:
        return differences
    way_out = imperfect_model is False and not never
    wanted = []
    for place, is_model in (("the data", False), ("the twin's model", True)):
        part = [one for one in refused if _is_one_of(one, _OF_MODEL) == is_model]
        wanted += [f"{_listed(part, 'expected')} as in {place}"] if part else []
    raise ArgumentValueError(
        f"{name}: expected {', '.join(wanted)}, got {_listed(refused, 'given')}"
        + (" (imperfect_model=True allows it)" if way_out else "")
    )


def _differing(
    given: Setup, expected: Setup, prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for field in fields(Setup):
        value, wanted = getattr(given, field.name), getattr(expected, field.name)
        if value is None:
            continue
        if field.name == "encoder":
            yield from _differing(value, expected, "encoder.")
        elif wanted is not None and not _equal(value, wanted):
            yield prefix + field.name, value, wanted


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, ObservationOperator):
        return bool(a == b)
    if isinstance(a, Lorenz63):
        return a.taylor == b.taylor and all(map(_equal, a.as_tuple(), b.as_tuple()))
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim == 0 and b.ndim == 2:  # a variance in place of a covariance
        a = a * np.eye(len(b))
    if a.shape != b.shape:
        return False
    scale = np.abs(b)
    if b.ndim == 2:  # each entry relative to the product of its standard deviations
        scale = np.sqrt(np.outer(scale.diagonal(), scale.diagonal()))
    return bool((np.abs(a - b) <= _SAME * scale).all())


def _is_one_of(one: Difference, names: tuple[str, ...]) -> bool:
    return one.name.removeprefix("encoder.") in names


def _listed(differences: Sequence[Difference], which: str) -> str:
    return ", ".join(f"{one.name} {_shown(getattr(one, which))}" for one in differences)


def _shown(value: Any) -> str:
    if isinstance(value, ObservationOperator):
        source = value.source_hash and f" (source of sha256 {value.source_hash[:12]})"
        return f"{value.name!r}{source or ''}"
    if isinstance(value, Lorenz63):
        order = "" if value.taylor is None else f" by {value.steps_by}"
        return "({}, {}, {:.10g})".format(*value.as_tuple()) + order
    if isinstance(value, float):
        return f"{value:.10g}"
    matrix = np.asarray(value)
    if matrix.ndim == 2 and np.array_equal(matrix, matrix[0, 0] * np.eye(len(matrix))):
        return f"{matrix[0, 0]:.10g} I" if matrix.any() else "0"
    return str(matrix.tolist())
