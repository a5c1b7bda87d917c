"""Innovations of schemes that have a background covariance, and what they claim."""

from __future__ import annotations

from typing import Final

import numpy as np

from l63fast.observation import ObservationOperator

__all__ = ["claimed_innovations", "lost_beyond"]

_LOST: Final = 1e-9  # probability that a filter that is right is called lost


def claimed_innovations(
    background: np.ndarray,
    observation: np.ndarray,
    operator: ObservationOperator,
    B: np.ndarray,
    R: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return y - h(x_b), (..., m), and H B H^T + R, (..., m, m), with H at x_b.

    Parameters
    ----------
    background : (..., 3)
        NaN and infinity are let through.
    observation : (..., m)
    operator : ObservationOperator
    B : (3, 3) or (..., 3, 3)
    R : (m, m)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        H = operator.jacobian(background)
        covariance = H @ B @ np.swapaxes(H, -1, -2) + R
        return np.asarray(observation - operator(background)), covariance


def lost_beyond(obs_dim: int) -> float:
    """Return what d^T S^-1 d exceeds where a filter has lost the truth.

    With S the covariance that the filter claims of the innovation d, it is chi-square
    if the claim is right, and larger once in 1e9.
    """
    from scipy.special import chdtri  # imported here, as in _random

    return float(chdtri(obs_dim, _LOST))
