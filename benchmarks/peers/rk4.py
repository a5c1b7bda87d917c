"""Lorenz-63 and one classical RK4 step, for anything that adds and multiplies."""

from __future__ import annotations

from typing import Any, Final

SIGMA: Final = 10.0
RHO: Final = 28.0
BETA: Final = 8.0 / 3.0


def tendency(x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
    return SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z


def rk4(x: Any, y: Any, z: Any, dt: float) -> tuple[Any, Any, Any]:
    """Return the state one step later."""
    a1, b1, c1 = tendency(x, y, z)
    h = 0.5 * dt
    a2, b2, c2 = tendency(x + h * a1, y + h * b1, z + h * c1)
    a3, b3, c3 = tendency(x + h * a2, y + h * b2, z + h * c2)
    a4, b4, c4 = tendency(x + dt * a3, y + dt * b3, z + dt * c3)
    return (
        x + dt / 6 * (a1 + 2 * (a2 + a3) + a4),
        y + dt / 6 * (b1 + 2 * (b2 + b3) + b4),
        z + dt / 6 * (c1 + 2 * (c2 + c3) + c4),
    )
