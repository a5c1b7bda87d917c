"""The backward pass of fixed-lag smoothers, after Rauch, Tung & Striebel (1965)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from l63fast.assimilation.ensemble_update import column, principal, transposed

_SMALLEST_VARIANCE = 1e-12  # of a forecast, relative to its largest


class BackwardStep(NamedTuple):
    """A forecast, as a smoother takes it back: x_a + G (x_s - x_f).

    Attributes
    ----------
    analysis, forecast : (n, 3)
        Means before and after the forecast.
    gain : (n, 3, 3)
        G = cov(x_a, x_f) cov(x_f)^-1.
    """

    analysis: np.ndarray
    forecast: np.ndarray
    gain: np.ndarray

    @classmethod
    def of(
        cls,
        analysis: np.ndarray,
        forecast: np.ndarray,
        cross: np.ndarray,
        covariance: np.ndarray,
    ) -> BackwardStep:
        """Return the step of means (n, 3), cov(x_a, x_f) and cov(x_f), (n, 3, 3).

        Directions in which the forecasts have no variance are left out.
        """
        variance, axes = principal(covariance)
        kept = variance > _SMALLEST_VARIANCE * variance[:, -1:]
        inverse = np.where(kept, 1.0 / np.where(kept, variance, 1.0), 0.0)
        gain = cross @ (axes * inverse[:, None]) @ transposed(axes)
        return cls(analysis, forecast, gain)


def smoothed_back(
    analysis: np.ndarray, steps: tuple[BackwardStep, ...], lag: int
) -> np.ndarray | None:
    """Return the mean (n, 3) `lag` cycles before the latest analysis, given all.

    NaN if there were fewer forecasts; None if `lag` is 0.
    """
    if not lag or len(steps) < lag:
        return np.full_like(analysis, np.nan) if lag else None
    for step in reversed(steps[-lag:]):
        analysis = step.analysis + column(step.gain, analysis - step.forecast)
    return analysis
