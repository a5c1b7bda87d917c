"""Tune one positive number: the lowest score on a log grid, and the whole curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator
from l63fast.verification import rmse, rmse_pooled

__all__ = ["MEASURES", "SCALES", "Tuning", "tune", "tune_b_scale"]

MEASURES: Final = {"rmse_a": rmse, "rmse_pooled_a": rmse_pooled}
SCALES: Final = tuple(float(s) for s in np.geomspace(0.1, 10.0, 13))
LIMITS: Final = (1e-6, 1e6)


@dataclass(frozen=True, eq=False)
class Tuning:
    """The best scale and the curve it was read from.

    Attributes
    ----------
    scale : float
        Where the score is lowest.
    scales, scores : (n_scales,)
        The curve, in rising order of scale.
    """

    scale: float
    scales: np.ndarray
    scores: np.ndarray

    @property
    def score(self) -> float:
        """The lowest score."""
        return float(np.nanmin(self.scores))

    @property
    def is_bracketed(self) -> bool:
        """Whether the minimum lies between scales that were tried."""
        return bool(self.scales[0] < self.scale < self.scales[-1])


@ieee_arithmetic()
def tune(
    score: Callable[[float], float],
    scales: Any = SCALES,
    *,
    limits: tuple[float, float] = LIMITS,
) -> Tuning:
    """Return the scale of the lowest score, and the curve.

    While the lowest score is at an end of the grid, the grid goes on in the same ratio,
    down to the lower and up to the upper limit.

    Parameters
    ----------
    score : callable
        What a scale scores, lower is better; NaN (a scheme that diverged) never wins.
    scales : (n_scales,)
        At least three positive numbers in constant ratio.
    limits : (float, float)
        How far the grid may go on.

    Raises
    ------
    ArgumentValueError
        If the scales are not such a grid, or no scale has a score.
    """
    grid = _log_grid(scales)
    curve = {scale: score(scale) for scale in grid}
    ratio = (grid[-1] / grid[0]) ** (1.0 / (len(grid) - 1))
    while True:
        tried = sorted(curve)
        scores = np.array([curve[scale] for scale in tried])
        if np.isnan(scores).all():
            raise ArgumentValueError("score: expected one that is a number, got NaN")
        best = tried[int(np.nanargmin(scores))]
        if best == tried[0] and best / ratio >= limits[0]:
            following = best / ratio
        elif best == tried[-1] and best * ratio <= limits[1]:
            following = best * ratio
        else:
            return Tuning(best, np.array(tried), scores)
        curve[following] = score(following)


def _log_grid(scales: Any) -> list[float]:
    grid = [_checks.real("scales", scale, above=0.0) for scale in scales]
    steps = np.diff(np.log(grid))
    if len(grid) < 3 or steps[0] <= 0.0 or not np.allclose(steps, steps[0], rtol=1e-6):
        raise ArgumentValueError(
            "scales: expected at least 3 rising numbers in constant ratio, "
            f"got {len(grid)}: {grid[:4]}"
        )
    return grid


def tune_b_scale(
    background: np.ndarray,
    observation: np.ndarray,
    truth: np.ndarray,
    operator: ObservationOperator | str,
    *,
    B: np.ndarray,
    R: np.ndarray,
    scales: Any = SCALES,
    mirror_aware: bool = False,
    measure: str = "rmse_a",
    n_threads: int | None = None,
    backend: str = "auto",
) -> Tuning:
    """Return the scale s with which 3D-Var with s B scores best on given backgrounds.

    Parameters
    ----------
    background, truth : (n_trajectories, n_times, 3)
        Of the validation split.
    observation : (n_trajectories, n_times, obs_dim)
    operator : ObservationOperator or its name
    B, R : (3, 3), (obs_dim, obs_dim)
    scales : (n_scales,)
        A log grid, extended where the minimum is at its end.
    mirror_aware : bool
        Whether the mirror image of the truth counts as well.
    measure : {"rmse_a", "rmse_pooled_a"}
        The score: time mean of the instantaneous rms, or rms of everything.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    rate = MEASURES[_checks.choice("measure", measure, MEASURES)]

    def score(scale: float) -> float:
        analysis = three_d_var(
            background,
            observation,
            operator,
            B=scale * np.asarray(B),
            R=R,
            n_threads=n_threads,
            backend=backend,
        )
        return rate(analysis.state, truth, mirror_aware=mirror_aware)

    return tune(score, scales)
