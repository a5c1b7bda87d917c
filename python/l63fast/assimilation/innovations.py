"""Innovations of schemes that have a background covariance, and what they claim."""

from __future__ import annotations

from typing import Final

import numpy as np

from l63fast.observation import ObservationOperator

__all__ = ["claimed_innovations", "has_lost_truth", "lost_beyond"]

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
    """Return the square, in units of its covariance, beyond which a filter is lost.

    That of m normal variables is chi-square; this one is exceeded once in 1e9.
    """
    from scipy.special import chdtri  # imported here, as in _random

    return float(chdtri(obs_dim, _LOST))


def has_lost_truth(innovation: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return where (n,) innovations contradict the covariance that a filter claims.

    Where d^T S^-1 d is beyond `lost_beyond`; never where d or S is not finite.

    Parameters
    ----------
    innovation : (n, m)
    covariance : (n, m, m)
        Claimed for it before the observation is seen, H P H^T + R.
    """
    lost = np.asarray(np.isfinite(innovation).all(axis=-1))
    lost &= np.isfinite(covariance).all(axis=(-2, -1))
    variances, axes = np.linalg.eigh(covariance[lost])
    # Rounding may leave the smallest of a nearly singular covariance below 0.
    variances = np.maximum(variances, np.finfo(float).eps * variances[:, -1:])
    along = (innovation[lost][:, None] @ axes)[:, 0]
    with np.errstate(over="ignore"):
        squares = (along**2 / variances).sum(axis=-1)
    lost[lost] = squares > lost_beyond(innovation.shape[-1])
    return lost
