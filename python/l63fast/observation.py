"""Observation operators as data, (component, power) pairs, and observations."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["ObservationOperator", "observe"]

_GRAMMAR: Final = re.compile(r"(x[1-4]?)?(y[1-4]?)?(z[1-4]?)?")
_SUPERSCRIPT: Final = {1: "", 2: "²", 3: "³", 4: "⁴"}


@final
@dataclass(frozen=True)
class ObservationOperator:
    """The observation operator h: some components of the state, each to a power.

    Parameters
    ----------
    name : str
        Components in the order x, y, z, each at most once, each with an optional
        exponent from 1 to 4: "x", "xy", "xyz", "x2", "xz", "x2z", "y3".

    Attributes
    ----------
    components, powers : tuple of int
        The operator as data, the form that kernels and encoders receive. They never see
        a method, so there are no subclasses.

    Raises
    ------
    ArgumentValueError
        If the name does not follow the grammar.
    """

    name: str
    components: tuple[int, ...] = field(init=False, repr=False)
    powers: tuple[int, ...] = field(init=False, repr=False)

    def __init_subclass__(cls) -> NoReturn:
        raise ArgumentTypeError(
            "ObservationOperator: expected no subclass, as kernels would ignore its "
            f"methods, got {cls.__name__}"
        )

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentTypeError(
                f"operator: expected a name such as 'xy' or 'x2', got {self.name!r}"
            )
        match = _GRAMMAR.fullmatch(self.name)
        if match is None or not self.name:
            raise ArgumentValueError(
                "operator: expected x, y, z in that order, each at most once and with "
                "an optional exponent 1 to 4 (such as 'xy', 'x2', 'x2z'), "
                f"got {self.name!r}"
            )
        parts = [(i, part) for i, part in enumerate(match.groups()) if part]
        object.__setattr__(self, "components", tuple(i for i, _ in parts))
        object.__setattr__(
            self, "powers", tuple(int(part[1:] or 1) for _, part in parts)
        )

    @property
    def obs_dim(self) -> int:
        """Number of observed values."""
        return len(self.components)

    @property
    def is_linear(self) -> bool:
        """Whether h is linear, so that one Gauss-Newton step is exact."""
        return all(power == 1 for power in self.powers)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each observed value is called in figures and files."""
        return tuple(
            "xyz"[c] + _SUPERSCRIPT[p]
            for c, p in zip(self.components, self.powers, strict=True)
        )

    @property
    def mirror_signs(self) -> tuple[int, ...]:
        """Sign that each observed value takes under S(x, y, z) = (-x, -y, z)."""
        return tuple(
            -1 if c < 2 and p % 2 else 1
            for c, p in zip(self.components, self.powers, strict=True)
        )

    @property
    def is_mirror_blind(self) -> bool:
        """Whether h(S x) = h(x), so that a state and its mirror look alike."""
        return all(sign == 1 for sign in self.mirror_signs)

    @ieee_arithmetic()
    def __call__(self, states: Any) -> Any:
        """Return h(states).

        Parameters
        ----------
        states : (..., 3) NumPy array or torch tensor

        Returns
        -------
        (..., obs_dim) of the same kind and dtype
        """
        observed = self._components_of(states)
        value = observed * 1
        for i, power in enumerate(self.powers):
            for _ in range(power - 1):
                value[..., i] *= observed[..., i]
        return value

    def _components_of(self, states: Any) -> Any:
        # An index gives arrays whose components are not side by side, and every kernel
        # would have to copy them.
        if isinstance(states, (list, tuple)):
            states = _checks.states("states", states)
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
        """
        observed = self._components_of(states)
        slope = observed * 0 + 1
        for i, power in enumerate(self.powers):
            for _ in range(power - 1):
                slope[..., i] *= observed[..., i]
            slope[..., i] *= power
        return slope

    @ieee_arithmetic()
    def jacobian(self, states: np.ndarray) -> np.ndarray:
        """Return H, the Jacobian of h, (..., obs_dim, 3) for states (..., 3)."""
        slopes = self.jacobian_diagonal(states)
        matrix = np.zeros((*slopes.shape, 3), dtype=slopes.dtype)
        for i, component in enumerate(self.components):
            matrix[..., i, component] = slopes[..., i]
        return matrix


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
    value = np.asarray(operator(states))
    with np.errstate(over="ignore"):
        noise = sigma * generator.standard_normal(value.shape)
        cast = noise.astype(value.dtype)
    _checks.within("sigma", noise, cast)
    return np.asarray(value + cast)


def as_operator(operator: ObservationOperator | str) -> ObservationOperator:
    """Return the operator itself, or the one of that name."""
    if isinstance(operator, ObservationOperator):
        return operator
    return ObservationOperator(operator)
