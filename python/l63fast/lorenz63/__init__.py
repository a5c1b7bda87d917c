"""The Lorenz-63 model: trajectories, forecasts, the attractor and its climatology."""

from __future__ import annotations

from l63fast.lorenz63.attractor import (
    Climatology,
    climatology,
    second_moment,
    spin_up,
    symmetrised,
)
from l63fast.lorenz63.model import Lorenz63, forecast, mirror, model_errors, simulate
from l63fast.lorenz63.tangent import (
    adjoint,
    lyapunov_exponents,
    propagator,
    tangent_linear,
)

__all__ = [
    "Climatology",
    "Lorenz63",
    "adjoint",
    "climatology",
    "forecast",
    "lyapunov_exponents",
    "mirror",
    "model_errors",
    "propagator",
    "second_moment",
    "simulate",
    "spin_up",
    "symmetrised",
    "tangent_linear",
]
