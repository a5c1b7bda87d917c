"""Additive model error: what the model leaves out over an interval, N(0, Q)."""

from __future__ import annotations

import numpy as np


def model_errors(normals: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return errors (..., 3) of covariance Q (3, 3), made of N(0, 1) draws (..., 3).

    The symmetric root of Q is used: it exists where a direction has no error, and it
    commutes with the mirror where Q does.
    """
    variances, axes = np.linalg.eigh(Q)
    root = axes * np.sqrt(np.maximum(variances, 0.0)) @ axes.T
    return np.asarray(normals @ root)
