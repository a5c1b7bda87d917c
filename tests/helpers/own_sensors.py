"""Observation operators as a user would write them, for tests."""

from typing import Any

import numpy as np

from l63fast.observation import ObservationOperator

custom = ObservationOperator.custom
_XY, _X2 = ObservationOperator("xy"), ObservationOperator("x2")


def h(states: np.ndarray) -> np.ndarray:
    """Return what saturates; NumPy alone knows it."""
    seen: np.ndarray = 10.0 * np.tanh(np.asarray(states)[..., :1] / 10.0)
    return seen


def for_both(states: Any) -> Any:
    """Return a sum of squares, of NumPy arrays and of tensors."""
    return (states**2)[..., :2].sum(-1)[..., None] / 10.0


def detached(states: Any) -> Any:
    """Return a product, whose gradient is wrong for tensors."""
    known = states.detach() if hasattr(states, "detach") else states
    return states[..., :1] * known[..., 1:2]


def not_an_h(states: np.ndarray) -> float:
    return 3.0


# What operators with a name do, as the user's own.
xy = custom(
    lambda states: _XY(states), lambda states: _XY.jacobian(states),
    obs_dim=2, name="copy-of-xy", mirror_signs=[-1, -1],
)  # fmt: skip
sensor = custom(h, obs_dim=1, name="sensor")
x2 = custom(lambda states: _X2(states), obs_dim=1, name="square", mirror_signs=[1])
