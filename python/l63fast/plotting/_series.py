"""Lines up truth and estimates in time, and their errors, for the figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.verification import instantaneous_rms

__all__ = ["Series", "begun", "error_label"]

_ATTRACTOR: Final = ((-20.0, -27.0, 2.0), (20.0, 27.0, 48.0))


@dataclass(frozen=True)
class Series:
    """One or more trajectories, checked: truth at every saved step, the rest at times.

    Attributes
    ----------
    truth : (n, n_saved, 3)
    background, analysis : (n, n_times, 3)
        NaN where there is none.
    truth_times, times : (n_saved,), (n_times,)
        Time units; every one of `times` is one of `truth_times`.
    at : (n_times,) int
        Index of each of `times` in `truth_times`.
    """

    truth: np.ndarray
    background: np.ndarray
    analysis: np.ndarray
    truth_times: np.ndarray
    times: np.ndarray
    at: np.ndarray

    @classmethod
    def checked(
        cls, truth: Any, background: Any, analysis: Any, truth_times: Any, times: Any
    ) -> Self:
        """Return the series, or refuse arrays that do not belong together."""
        truth = _checks.array("truth", truth, shape=(None, None, 3))
        n, n_saved = truth.shape[:2]
        truth_times = _checks.array("truth_times", truth_times, shape=(n_saved,))
        times = _checks.array("times", times, shape=(None,))
        shape = (n, len(times), 3)
        background = _checks.array("background", background, shape=shape)
        analysis = _checks.array("analysis", analysis, shape=shape)
        if min(n, n_saved, len(times)) == 0:
            raise ArgumentValueError(
                f"truth, times: expected something to draw, got {n} trajectories, "
                f"{n_saved} saved steps, {len(times)} observation times"
            )
        at = np.abs(truth_times[:, None] - times).argmin(axis=0)
        off = np.abs(truth_times[at] - times)
        if not np.all(off < 1e-6):
            raise ArgumentValueError(
                f"times: expected some of truth_times, got {times[off.argmax()]:g}, "
                f"which is {off.max():g} away from the nearest"
            )
        return cls(truth, background, analysis, truth_times, times, at)

    @property
    def estimates(self) -> dict[str, np.ndarray]:
        """Background and analysis by their names."""
        return {"background": self.background, "analysis": self.analysis}

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return low and high (3,): the attractor at the usual parameters and truth."""
        low, high = _ATTRACTOR
        return (
            np.minimum(low, np.nanmin(self.truth, axis=(0, 1))),
            np.maximum(high, np.nanmax(self.truth, axis=(0, 1))),
        )

    def errors(self, states: np.ndarray, *, mirror_aware: bool = False) -> np.ndarray:
        """Return the rms over components of the error of states (n, n_times, 3)."""
        truth = self.truth[:, self.at]
        return instantaneous_rms(states, truth, mirror_aware=mirror_aware)

    def rmse(
        self, cases: slice | list[int] = slice(None), *, mirror_aware: bool = False
    ) -> tuple[float, float]:
        """Return the mean error of background and analysis, inf where one diverged.

        Times before a trajectory's first analysis are left out of both.
        """
        before, after = (
            self.errors(states, mirror_aware=mirror_aware)[cases]
            for states in self.estimates.values()
        )
        scored = begun(after) if np.isfinite(after).any() else begun(before)
        before, after = (
            np.where(np.isfinite(error), error, np.inf)[scored].mean()
            for error in (before, after)
        )
        return float(before), float(after)


def error_label(mirror_aware: bool) -> str:
    """Return what the axis of the error is called."""
    return "error (rms,\nmirror-aware)" if mirror_aware else "error (rms)"


def begun(error: np.ndarray) -> np.ndarray:
    """Return where (n, n_times) errors have begun: from each one's first finite time.

    A window method has no analysis at first (NaN); what is not finite later on is a
    divergence, which must be counted and never dropped.
    """
    return np.asarray(np.logical_or.accumulate(np.isfinite(error), axis=1))
