"""Excerpts of the worst trajectories and of a median one, and how often what fails."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from l63fast.experiments.diagnostics.run import Run
from l63fast.verification.failures import Failure, classify_failures

__all__ = ["N_WORST", "excerpts", "failure_shares"]

N_WORST: Final = 3
_SPAN: Final = 10.0  # time units
_CYCLES: Final = (60, 300)  # at least and at most


def failure_shares(run: Run) -> dict[str, Any]:
    """Return the share of analyses of each kind of failure, "kind" in enum order."""
    kinds = classify_failures(run.judged.analysis, run.truth)
    counts = np.bincount(kinds.ravel(), minlength=len(Failure))
    return {"failure_share": (("kind",), counts / kinds.size)}


def excerpts(run: Run) -> dict[str, Any]:
    """Return the worst trajectories around their largest error, then the median one.

    Worst by the time mean of the error; one that is not finite is worse than any.
    """
    error = np.where(np.isfinite(run.errors), run.errors, np.inf)
    order = np.argsort(error.mean(axis=1), kind="stable")
    chosen = [*order[::-1][:N_WORST], order[(len(order) - 1) // 2]]
    kinds = classify_failures(run.judged.analysis, run.truth)
    starts, length = _windows(run, error[chosen])
    at = (np.array(chosen)[:, None], starts[:, None] + np.arange(length))
    worst = error[chosen].argmax(axis=1)
    dims = ("excerpt", "cycle")
    return {
        "excerpt_trajectory": (("excerpt",), np.array(chosen, dtype=np.int32)),
        "excerpt_rms": (("excerpt",), run.errors[chosen].mean(axis=1)),
        "excerpt_largest": (("excerpt",), run.errors[chosen, worst]),
        "excerpt_failure": (("excerpt",), kinds[chosen, worst]),
        "excerpt_failed": (("excerpt",), (kinds[chosen] > 0).mean(axis=1)),
        "excerpt_time": (dims, run.times[at[1]]),
        **{
            f"excerpt_{name}": ((*dims, last), getattr(run, name)[at])
            for name, last in (
                ("truth", "component"),
                ("background", "component"),
                ("analysis", "component"),
                ("observations", "observed"),
            )
        },
    }


def _windows(run: Run, error: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the first cycle of each excerpt, and the length of all."""
    n_times = len(run.times)
    interval = run.data.steps_per_cycle * run.data.dt
    low, high = _CYCLES
    length = min(max(round(_SPAN / interval), low), high, n_times)
    # Three quarters of an excerpt lead up to the largest error: how it came about.
    starts = error.argmax(axis=1) - (3 * length) // 4
    return np.clip(starts, 0, n_times - length), length
