"""Observation operators, named by components and powers or custom; observations."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn, final

import numpy as np

from l63fast import _checks, _user_code
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentTypeError, ArgumentValueError

_GRAMMAR: Final = re.compile(r"(x[1-4]?)?(y[1-4]?)?(z[1-4]?)?")
_SUPERSCRIPT: Final = {1: "", 2: "²", 3: "³", 4: "⁴"}
_STEP: Final = np.finfo(np.float64).eps ** (
    1 / 3
)  # the best step of central differences
_ALIKE: Final = 1e-3  # relative difference that a derivative by differences may have

Function = Callable[[np.ndarray], Any]


class _Own(NamedTuple):
    """What an operator of one's own has in place of components and powers.

    Without h where it is known by its name alone, as it stands in settings and files.
    """

    h: Function | None = None
    derivative: Function | None = None
    obs_dim: int = 0  # not known yet
    mirror_signs: tuple[int, ...] | None = None

    def value(self, states: Any) -> np.ndarray:
        if self.h is None:
            raise ArgumentValueError(
                "operator: expected one with its function, got the name of one of your "
                "own, which a run imports; .imported() does so elsewhere, and "
                "ObservationOperator.custom makes one"
            )
        return _evaluated("h", self.h, states, (self.obs_dim,))

    def jacobian(self, states: Any) -> np.ndarray:
        if self.derivative is None:
            return self.differences(states)
        return _evaluated("jacobian", self.derivative, states, (self.obs_dim, 3))

    def differences(self, states: np.ndarray) -> np.ndarray:
        """Return the Jacobian by central differences, made in float64."""
        x, columns = np.asarray(states, np.float64), []
        for j in range(3):
            before, after = x.copy(), x.copy()
            step = _STEP * np.maximum(np.abs(x[..., j]), 1.0)
            before[..., j] -= step
            after[..., j] += step
            # The width between the rounded numbers, since it is exact.
            width = (after[..., j] - before[..., j])[..., None]
            with np.errstate(over="ignore", invalid="ignore"):
                columns.append((self.value(after) - self.value(before)) / width)
        return np.stack(columns, axis=-1).astype(np.result_type(states, np.float32))

    def check(self) -> None:
        """Try the functions on states of the attractor's size."""
        rng = np.random.default_rng(63)
        states = rng.uniform((-15.0, -20.0, 5.0), (15.0, 20.0, 40.0), size=(4, 2, 3))
        for name, function in (("h", self.h), ("jacobian", self.derivative)):
            for given in (states, states[1, 1]) if function else ():
                _refuse_raising(name, function, given)
        value, alone = self.value(states), self.value(states[1, 1])
        jacobian, expected = self.jacobian(states), self.differences(states)
        mirrored = self.value(states * (-1.0, -1.0, 1.0))
        _checks.finite("h", value)
        _checks.finite("jacobian", jacobian)
        if not np.allclose(value[1, 1], alone, rtol=1e-6, atol=1e-9):
            raise ArgumentValueError(
                "h: expected values that depend on their own state alone, got "
                f"{alone} for a state that has {value[1, 1]} among others"
            )
        off = np.abs(jacobian - expected)
        if off.max() > _ALIKE * (np.abs(expected).max() + _ALIKE):
            worst = np.unravel_index(off.argmax(), off.shape)[:2]
            raise ArgumentValueError(
                f"jacobian: expected the derivative of h, {expected[worst].tolist()} "
                f"by differences, got {jacobian[worst].tolist()}"
            )
        signs = self.mirror_signs
        if signs and not np.allclose(mirrored, value * signs, rtol=1e-6, atol=1e-9):
            raise ArgumentValueError(
                "mirror_signs: expected h(-x, -y, z) = mirror_signs * h(x, y, z), got "
                f"{mirrored[0, 0]} and {list(signs)} * {value[0, 0]}"
            )


def _refuse_raising(name: str, function: Any, states: np.ndarray) -> None:
    """Refuse a function that raises an error, by whether it does on a copy too."""
    seen = states.copy()
    seen.flags.writeable = False
    try:
        function(seen)
    except Exception as error:  # whatever the user's code raises
        what = " that leaves them as they are"
        try:
            function(states.copy())
        except Exception:
            what = ""
        raise ArgumentValueError(
            f"{name}: expected a function of NumPy arrays (..., 3){what}, got "
            f"{type(error).__name__} for {states.shape}: {error}"
        ) from error


def _evaluated(
    name: str, function: Function, states: Any, shape: tuple[int, ...]
) -> np.ndarray:
    """Return a copy of a function's values (..., *shape), which it gives as described.

    It sees the states read-only: one that changes them would change the model.
    """
    if not isinstance(states, np.ndarray):
        raise ArgumentTypeError(
            "operator: expected NumPy states for an operator of your own, got "
            f"{type(states).__name__}"
        )
    seen = states.view()
    seen.flags.writeable = False
    found, wanted = np.asarray(function(seen)), (*states.shape[:-1], *shape)
    if found.dtype.kind not in "fiub":
        raise ArgumentTypeError(f"{name}: expected real numbers, got {found.dtype}")
    if found.shape != wanted:
        raise ArgumentValueError(
            f"{name}: expected {wanted} for states {states.shape}, got {found.shape}"
        )
    return found.astype(np.result_type(states, np.float32))


@final
@dataclass(frozen=True)
class ObservationOperator:
    """The observation operator h: some components of the state, each to a power.

    Any other h is made by `custom`.

    Parameters
    ----------
    name : str
        Components in the order x, y, z, each at most once, each with an optional
        exponent from 1 to 4: "x", "xy", "xyz", "x2", "xz", "x2z", "y3". Or the name
        "package.module:attribute" of an h of your own, for settings of experiments: a
        run imports it, and nothing else does.

    Attributes
    ----------
    components, powers : tuple of int
        The operator as data, the form that kernels and encoders receive. They never see
        a method, so there are no subclasses. Empty for an operator of your own.
    source_hash : str or None
        sha256 of the source of an h of your own. Two such operators are equal if name
        and hash are.

    Raises
    ------
    ArgumentValueError
        If the name does not follow the grammar.
    """

    name: str
    components: tuple[int, ...] = field(init=False, repr=False)
    powers: tuple[int, ...] = field(init=False, repr=False)
    source_hash: str | None = field(default=None, init=False, repr=False)
    _own: _Own | None = field(default=None, init=False, repr=False, compare=False)

    def __init_subclass__(cls) -> NoReturn:
        raise ArgumentTypeError(
            "ObservationOperator: expected no subclass, as kernels would ignore its "
            f"methods, got {cls.__name__}"
        )

    @classmethod
    @ieee_arithmetic()
    def custom(
        cls,
        h: Function,
        jacobian: Function | None = None,
        *,
        obs_dim: int,
        name: str,
        mirror_signs: Sequence[int] | None = None,
    ) -> ObservationOperator:
        """Return an operator of your own, for all but kernels and shards.

        Parameters
        ----------
        h : callable
            Takes states (..., 3) as a read-only NumPy array, gives (..., obs_dim).
        jacobian : callable, optional
            Takes the same, gives dh/dx, (..., obs_dim, 3); by default made by central
            differences, six calls of `h`.
        obs_dim : int
            Number of observed values.
        name : str
            What files and figures call it; not one that the grammar has, such as "xy".
            Name and source decide whether data belong to an operator, so an `h` that
            takes numbers from outside its source is given another name for others.
        mirror_signs : obs_dim of 1 or -1, optional
            Sign of each value under (-x, -y, z), where they have one. If all are 1,
            scores are mirror-aware.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If an argument is not as described; the functions are tried on some states.
        """
        for what, given in (("h", h), ("jacobian", jacobian or h)):
            if not callable(given):
                raise ArgumentTypeError(
                    f"{what}: expected a function, got {type(given).__name__}"
                )
        name = _checks.file_name("name", name, longest=60)
        if _GRAMMAR.fullmatch(name):
            raise ArgumentValueError(
                f"name: expected one of its own, got {name!r}, which means the "
                "operator of these components"
            )
        obs_dim = _checks.count("obs_dim", obs_dim, minimum=1)
        own = _Own(h, jacobian, obs_dim, _signs(mirror_signs, obs_dim))
        own.check()
        return cls._made(name, _user_code.source_hash(h), own)

    @classmethod
    def _made(
        cls, name: str, source_hash: str | None, own: _Own
    ) -> ObservationOperator:
        operator = object.__new__(cls)
        vars(operator).update(name=name, components=(), powers=())
        vars(operator).update(source_hash=source_hash, _own=own)
        return operator

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> ObservationOperator:
        """Return the operator of your own, without its function, that a table names.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If the table is not as `to_table` gives it.
        """
        keys = {"name", "source_sha256", "obs_dim"}
        if not keys <= table.keys() <= keys | {"mirror_signs"}:
            raise ArgumentValueError(
                f"operator: expected a name, or a table of {', '.join(sorted(keys))} "
                f"and maybe mirror_signs, got one of {', '.join(map(str, table))}"
            )
        name, source = table["name"], table["source_sha256"]
        if not (isinstance(name, str) and name and isinstance(source, str)):
            raise ArgumentTypeError(
                f"operator: expected name and source_sha256, got {name!r}, {source!r}"
            )
        obs_dim = _checks.count("operator.obs_dim", table["obs_dim"], minimum=1)
        signs = _signs(table.get("mirror_signs"), obs_dim)
        return cls._made(name, source, _Own(None, None, obs_dim, signs))

    def to_table(self) -> str | dict[str, Any]:
        """Return the name, and of your own what is known of it without its function."""
        if self._own is None or self.source_hash is None:
            return self.name
        table: dict[str, Any] = {"name": self.name, "source_sha256": self.source_hash}
        table["obs_dim"] = self.obs_dim
        if self.has_mirror_signs:
            table["mirror_signs"] = list(self.mirror_signs)
        return table

    def imported(self) -> ObservationOperator:
        """Return the operator with its function; one of your own is imported by name.

        This runs its module: call it where the user has asked for a run, and never
        with a name that a result holds.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If it cannot be imported, or its source has changed since it was named.
        """
        if self._own is None or self._own.h is not None:
            return self
        if not _user_code.is_own(self.name):
            self._own.value(None)
        return self.with_function(_user_code.imported("operator", self.name))

    @ieee_arithmetic()
    def with_function(self, found: Any) -> ObservationOperator:
        """Return the operator with h, a function or what `custom` made.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If it is neither, or its source is not the one that the operator had.
        """
        if self._own and callable(found) and not isinstance(found, ObservationOperator):
            plain = _Own(found, None, _counted(found), self._own.mirror_signs)
            plain.check()
            found = self._made(self.name, _user_code.source_hash(found), plain)
        own = getattr(found, "_own", None)
        if self._own is None or own is None or own.h is None:
            raise ArgumentTypeError(
                f"operator: expected {self.name} to be a function h, or what "
                f"ObservationOperator.custom makes, got {found!r}"
            )
        if self.source_hash not in (None, found.source_hash):
            raise ArgumentValueError(
                f"operator: expected the source of {self.name} as it was, of sha256 "
                f"{self.source_hash}, got {found.source_hash}"
            )
        return self._made(self.name, found.source_hash, own)

    def by_name(self) -> ObservationOperator:
        """Return the operator without its function, as settings and workers have it.

        Raises
        ------
        ArgumentValueError
            If it is your own and does not stand at the top level of its module.
        """
        if self._own is None or self._own.h is None:
            return self
        if _user_code.is_own(self.name):
            known = self._own._replace(h=None, derivative=None)
            return self._made(self.name, self.source_hash, known)
        h, place = self._own.h, str(getattr(self._own.h, "__module__", ""))
        is_plain = self._own.derivative is None and self._own.mirror_signs is None
        wanted = (self, h) if is_plain else (self,)
        for one in wanted:
            for attribute, value in vars(sys.modules.get(place, object)).items():
                if value is one:
                    return ObservationOperator(f"{place}:{attribute}")
        raise ArgumentValueError(
            "operator: expected one at the top level of the module of its h, by whose "
            f"name experiments import it, got {self.name!r}; l63fast.compare takes any"
        )

    def __repr__(self) -> str:
        made = "" if self._own is None or self._own.h is None else ".custom"
        return f"ObservationOperator{made}(name={self.name!r})"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentTypeError(
                f"operator: expected a name such as 'xy' or 'x2', got {self.name!r}"
            )
        if _user_code.is_own(self.name):
            vars(self).update(components=(), powers=(), _own=_Own())
            return
        match = _GRAMMAR.fullmatch(self.name)
        if match is None or not self.name:
            raise ArgumentValueError(
                "operator: expected x, y, z in that order, each at most once and with "
                "an optional exponent 1 to 4 (such as 'xy', 'x2', 'x2z'), or "
                f"module:function, got {self.name!r}"
            )
        parts = [(i, part) for i, part in enumerate(match.groups()) if part]
        object.__setattr__(self, "components", tuple(i for i, _ in parts))
        object.__setattr__(
            self, "powers", tuple(int(part[1:] or 1) for _, part in parts)
        )

    @property
    def obs_dim(self) -> int:
        """Number of observed values."""
        if self._own is not None:
            if not self._own.obs_dim:
                self._own.value(None)
            return self._own.obs_dim
        return len(self.components)

    @property
    def function(self) -> Callable[[Any], Any]:
        """The h of your own as it was given; the operator itself where it has none."""
        return self if self._own is None or self._own.h is None else self._own.h

    @property
    def is_own(self) -> bool:
        """Whether it is an operator of your own."""
        return self._own is not None

    @property
    def is_linear(self) -> bool:
        """Whether h is known to be linear, so that one Gauss-Newton step is exact."""
        return self._own is None and all(power == 1 for power in self.powers)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the observed values, for figures and files."""
        if self._own is not None:
            if self._own.obs_dim <= 1:
                return (self.name,)
            several = tuple(f"{self.name}_{i + 1}" for i in range(self.obs_dim))
            return several
        return tuple(
            "xyz"[c] + _SUPERSCRIPT[p]
            for c, p in zip(self.components, self.powers, strict=True)
        )

    @property
    def mirror_signs(self) -> tuple[int, ...]:
        """Sign of each observed value under S(x, y, z) = (-x, -y, z).

        Raises
        ------
        ArgumentValueError
            If the operator is your own and was made without `mirror_signs`.
        """
        if self._own is not None:
            if self._own.mirror_signs is None:
                raise ArgumentValueError(
                    f"mirror_signs: expected to be given to the operator {self.name!r},"
                    " got None"
                )
            return self._own.mirror_signs
        return tuple(
            -1 if c < 2 and p % 2 else 1
            for c, p in zip(self.components, self.powers, strict=True)
        )

    @property
    def has_mirror_signs(self) -> bool:
        """Whether it is known what h(S x) is; of your own where it was said."""
        return self._own is None or self._own.mirror_signs is not None

    @property
    def is_mirror_blind(self) -> bool:
        """Whether h(S x) = h(x), so that h cannot tell a state from its mirror image.

        False for an operator of your own that was made without `mirror_signs`.
        """
        known = self.obs_dim > 0 and self.has_mirror_signs
        return known and all(sign == 1 for sign in self.mirror_signs)

    @ieee_arithmetic()
    def __call__(self, states: Any) -> Any:
        """Return h(states).

        Parameters
        ----------
        states : (..., 3) NumPy array or torch tensor
            An operator of your own takes NumPy arrays. Lists of numbers become one.

        Returns
        -------
        (..., obs_dim) of the same kind and dtype

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If the states are not as described.
        """
        states = _as_states(states)
        if self._own is not None:
            return self._own.value(states)
        observed = self._components_of(states)
        value = observed * 1
        for i, power in enumerate(self.powers):
            for _ in range(power - 1):
                value[..., i] *= observed[..., i]
        return value

    def _components_of(self, states: Any) -> Any:
        # With an index the components of the result would not be contiguous, and every
        # kernel would have to copy them.
        if isinstance(states, np.ndarray):
            return states.take(self.components, axis=-1)
        return states[..., list(self.components)]

    @ieee_arithmetic()
    def jacobian_diagonal(self, states: Any) -> Any:
        """Return dh_i / dx_{c_i}, the only non-zero entry of each row of H.

        Parameters
        ----------
        states : (..., 3) NumPy array or torch tensor

        Returns
        -------
        (..., obs_dim) of the same kind and dtype

        Raises
        ------
        ArgumentValueError
            If the operator is your own.
        """
        named = named_operator(self, "jacobian_diagonal")
        observed = named._components_of(_as_states(states))
        slope = observed * 0 + 1
        for i, power in enumerate(self.powers):
            for _ in range(power - 1):
                slope[..., i] *= observed[..., i]
            slope[..., i] *= power
        return slope

    @ieee_arithmetic()
    def jacobian(self, states: np.ndarray) -> np.ndarray:
        """Return H, the Jacobian of h, (..., obs_dim, 3) for states (..., 3)."""
        if self._own is not None:
            return self._own.jacobian(_as_states(states))
        slopes = self.jacobian_diagonal(states)
        matrix = np.zeros((*slopes.shape, 3), dtype=slopes.dtype)
        for i, component in enumerate(self.components):
            matrix[..., i, component] = slopes[..., i]
        return matrix


def _as_states(states: Any) -> Any:
    """Return what is neither an array nor a tensor, such as a list, as an array."""
    if isinstance(states, np.ndarray) or hasattr(states, "requires_grad"):
        return states
    return _checks.states("states", states)


@ieee_arithmetic()
def observe(
    states: np.ndarray,
    operator: ObservationOperator | str,
    *,
    sigma: float,
    rng: _checks.Seed,
) -> np.ndarray:
    """Return observations y = h(states) + N(0, sigma^2 I).

    Parameters
    ----------
    states : (..., 3) float64 or float32
    operator : ObservationOperator or its name
    sigma : float
        Standard deviation of the observation error; 0 gives perfect observations.
    rng : numpy.random.Generator, int or SeedSequence
        Source of the noise, or a seed for one.

    Returns
    -------
    (..., obs_dim) of the states' dtype

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    states = _checks.states("states", states)
    operator = as_operator(operator)
    sigma = _checks.real("sigma", sigma, minimum=0.0)
    generator = _checks.generator("rng", rng)
    with np.errstate(over="ignore"):
        value = np.asarray(operator(states))
        _checks.finite("h(states)", value)
        noise = sigma * generator.standard_normal(value.shape)
        cast = noise.astype(value.dtype)
    _checks.within("sigma", noise, cast)
    return np.asarray(value + cast)


def as_operator(
    operator: ObservationOperator | str | Mapping[str, Any],
) -> ObservationOperator:
    """Return the operator itself, or the operator with this name or table."""
    if isinstance(operator, ObservationOperator):
        return operator
    if isinstance(operator, Mapping):
        return ObservationOperator.from_table(operator)
    return ObservationOperator(operator)


def _signs(given: Sequence[int] | None, obs_dim: int) -> tuple[int, ...] | None:
    signs = None if given is None else np.asarray(given)
    good = signs is None or (signs.shape == (obs_dim,) and np.isin(signs, (-1, 1)))
    if not np.all(good):
        raise ArgumentValueError(
            f"mirror_signs: expected {obs_dim} of 1 or -1, got {given!r}"
        )
    return None if signs is None else tuple(int(sign) for sign in signs)


def _counted(h: Function) -> int:
    """Return how many values a function gives of a state, by calling it once."""
    states = np.ones((2, 3))
    states.flags.writeable = False
    try:
        found = np.shape(h(states))
    except Exception as error:  # whatever the user's code raises
        raise ArgumentValueError(
            f"h: expected a function of states (..., 3), got {error!r}"
        ) from error
    if len(found) != 2 or found[0] != 2:
        raise ArgumentValueError(
            f"h: expected (2, obs_dim) for states (2, 3), got {found}"
        )
    return int(found[1])


def is_named(name: str) -> bool:
    """Whether a name stands for components and powers, not for a custom operator."""
    return bool(name and _GRAMMAR.fullmatch(name))


def named_operator(
    operator: ObservationOperator | str, taker: str
) -> ObservationOperator:
    """Return the operator if it is given by components and powers, as `taker` needs.

    Raises
    ------
    ArgumentValueError
        If it is an operator of the user's own.
    """
    operator = as_operator(operator)
    if operator.is_own:
        raise ArgumentValueError(
            "operator: expected components x, y, z and their powers (such as 'xy', "
            f"'x2') for {taker}, got {operator.name!r}, an operator of your own"
        )
    return operator
