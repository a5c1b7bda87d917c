"""What defines the model: its parameters and its symmetry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from l63fast import _checks


@dataclass(frozen=True)
class Lorenz63:
    """Parameters of dx = sigma (y - x), dy = x (rho - z) - y, dz = x y - beta z.

    Source: Lorenz (1963), Deterministic nonperiodic flow, equations 25 to 27.
    """

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8.0 / 3.0

    def __post_init__(self) -> None:
        for name in ("sigma", "rho", "beta"):
            value = _checks.real(name, getattr(self, name))
            object.__setattr__(self, name, value)

    def as_tuple(self) -> tuple[float, float, float]:
        """Return (sigma, rho, beta), the order that the kernels take."""
        return self.sigma, self.rho, self.beta


DEFAULT_PARAMETERS: Final = Lorenz63()


def mirror(states: np.ndarray) -> np.ndarray:
    """Return S states, S(x, y, z) = (-x, -y, z), the symmetry of the model."""
    return np.asarray(states * np.array([-1.0, -1.0, 1.0], dtype=states.dtype))
