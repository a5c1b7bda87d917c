"""Gaussian problems for the Kalman filters, and their closed-form solution."""

from __future__ import annotations

import numpy as np

from l63fast.observation import ObservationOperator

B = np.array([[4.0, 3.0, 0.0], [3.0, 5.0, 0.0], [0.0, 0.0, 3.0]])
MIRROR = np.diag([-1.0, -1.0, 1.0])


def error_covariance(operator: ObservationOperator) -> np.ndarray:
    """Return an R that is not diagonal, whose entries all differ."""
    m = operator.obs_dim
    return np.diag([2.0, 0.5, 1.0][:m]) + 0.3 * (np.ones((m, m)) - np.eye(m))


def drawn_members(rng, n: int, n_members: int) -> np.ndarray:
    """Return members (n, n_members, 3) around states of the attractor's size."""
    centre = rng.normal(size=(n, 1, 3)) * [6.0, 6.0, 6.0] + [0.0, 0.0, 23.0]
    return centre + rng.normal(size=(n, n_members, 3)) @ np.linalg.cholesky(B).T


def moments(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sample means (n, 3) and covariances (n, 3, 3)."""
    mean = members.mean(axis=1)
    return mean, np.array([np.cov(one.T) for one in members])


def kalman_update(mean, P, observation, operator, R):
    """Return the Kalman update of one Gaussian each, P - K H P written out."""
    H = np.eye(3)[list(operator.components)]
    means, covariances = [], []
    for x, p, y in zip(mean, P, observation, strict=True):
        K = p @ H.T @ np.linalg.inv(H @ p @ H.T + R)
        means.append(x + K @ (y - H @ x))
        covariances.append(p - K @ H @ p)
    return np.array(means), np.array(covariances)
