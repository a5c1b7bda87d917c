"""Slow, plain and independent solutions of the analysis problem, to judge the fast."""

from __future__ import annotations

import numpy as np

from l63fast.observation import ObservationOperator


def linear_analysis(
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator,
    B: np.ndarray,
    R: np.ndarray,
) -> np.ndarray:
    """Return the Kalman update x_b + K (y - H x_b) of a linear operator.

    Parameters
    ----------
    background : (..., 3)
    observation : (..., obs_dim)
    operator : ObservationOperator
        Linear: every power is 1.
    B : (3, 3) or (..., 3, 3)
    R : (obs_dim, obs_dim) or (..., obs_dim, obs_dim)

    Returns
    -------
    (..., 3)
    """
    assert operator.is_linear
    H = np.eye(3)[list(operator.components)]
    innovation = observation - background @ H.T
    weights = np.linalg.solve(H @ B @ H.T + R, innovation[..., None])
    return background + (B @ H.T @ weights)[..., 0]


def cubic_analysis(
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator,
    B: np.ndarray,
    R: np.ndarray,
) -> np.ndarray:
    """Return the global minimiser of J where one component is observed squared.

    With u the observed component, u_b its background and b = B_ii, the minimum of J
    for a given u leaves a cubic in u (divide dJ/du by 2/R):

        u^3 + u (R / (2 b) - y) - R u_b / (2 b) = 0.

    J is even in u but for -u u_b / b, so the least cost has the sign of u_b. The cubic
    has one root of that sign, between 0 and max(|u_b|, sqrt(y)); bisection finds it.
    At u_b = 0 two minima tie and the positive one is returned.

    Parameters
    ----------
    background : (..., 3)
    observation : (..., 1)
    operator : ObservationOperator
        "x2", "y2" or "z2".
    B : (3, 3) or (..., 3, 3)
    R : (1, 1) or (..., 1, 1)

    Returns
    -------
    (..., 3)
    """
    assert operator.powers == (2,)
    (i,) = operator.components
    y, b, r = observation[..., 0], B[..., i, i], R[..., 0, 0]
    size = np.abs(background[..., i])

    def slope(u: np.ndarray) -> np.ndarray:
        return np.asarray(u * (u * u - y + r / (2 * b)) - r * size / (2 * b))

    low = np.zeros(np.broadcast(y, size).shape)
    high = np.maximum(size, np.sqrt(np.maximum(y, 0.0))) * (1 + 1e-15)
    for _ in range(200):
        middle = 0.5 * (low + high)
        above = slope(middle) >= 0.0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    u = np.where(background[..., i] < 0.0, -high, high)
    change = (u - background[..., i]) / b
    return background + B[..., :, i] * change[..., None]
