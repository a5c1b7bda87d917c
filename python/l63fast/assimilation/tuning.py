"""Tune one positive number of a scheme: on given backgrounds, or in its own cycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Scheme
from l63fast.assimilation.three_d_var import ThreeDVar, three_d_var
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinExperiment
from l63fast.verification import rmse, rmse_pooled

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
    how: dict[str, Any] = {"R": R, "n_threads": n_threads, "backend": backend}

    def score(scale: float) -> float:
        scaled = scale * np.asarray(B)
        analysis = three_d_var(background, observation, operator, B=scaled, **how)
        return rate(analysis.state, truth, mirror_aware=mirror_aware)

    return tune(score, scales)


Variational = TypeVar("Variational", ThreeDVar, FourDVar)

# An ensemble needs a few per cent where a linearised covariance is too small by half.
INFLATIONS: Final[dict[type, tuple[float, ...]]] = {
    EnKF: tuple(float(factor) for factor in np.geomspace(1.0, 1.2, 8)),
    ExtendedKalman: tuple(float(factor) for factor in np.geomspace(1.0, 4.0, 9)),
}
INFLATION_LIMITS: Final = (1.0, 10.0)
REGULARISATIONS: Final = tuple(float(value) for value in np.geomspace(0.25, 4.0, 9))


def tune_cycled(
    scheme_of: Callable[[float], Scheme[Any]],
    twin: TwinExperiment,
    values: Any,
    *,
    limits: tuple[float, float] = LIMITS,
    mirror_aware: bool | None = None,
    measure: str = "rmse_a",
    **how: Any,
) -> Tuning:
    """Return the value whose scheme scores best in its cycle.

    Runs on the validation split and opens no other but the training split, for the
    climatology of the first background where `initial` (n_val, 3) is not given. All
    values meet the same random numbers.

    Parameters
    ----------
    scheme_of : callable
        Takes a value, gives the scheme.
    twin : TwinExperiment
    values : (n_values,)
        A log grid, extended up to the limits where the minimum is at its end.
    mirror_aware : bool, optional
        By default as the operator demands: True where it is mirror-blind.
    measure : {"rmse_a", "rmse_pooled_a"}
    **how
        n_cycles, burn_in, initial, warm_up, imperfect_model, as in `run_cycles`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    rate = MEASURES[_checks.choice("measure", measure, MEASURES)]
    if mirror_aware is None:
        mirror_aware = twin.operator.is_mirror_blind
    truth = twin.split("val").truth_at_observations

    def score(value: float) -> float:
        result = run_cycles(scheme_of(value), twin, "val", **how)
        return rate(result.analysis, truth[:, result.scored], mirror_aware=mirror_aware)

    return tune(score, values, limits=limits)


def tune_cycled_b_scale(
    scheme: Variational, twin: TwinExperiment, *, scales: Any = SCALES, **options: Any
) -> Tuning:
    """Return the scale s with which 3D-Var or 4D-Var scores best with s B in its cycle.

    Parameters
    ----------
    scheme : ThreeDVar or FourDVar
    twin : TwinExperiment
    scales : (n_scales,)
        A log grid, extended where the minimum is at its end.
    **options
        As in `tune_cycled`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    return tune_cycled(
        lambda scale: replace(scheme, B=scale * scheme.B), twin, scales, **options
    )


def tune_inflation(
    scheme: EnKF | ExtendedKalman,
    twin: TwinExperiment,
    *,
    inflations: Any = None,
    **options: Any,
) -> Tuning:
    """Return the inflation with which a Kalman filter scores best in its cycle.

    It is 1 at least: a best value there is at the limit, not unfound.

    Parameters
    ----------
    scheme : EnKF or ExtendedKalman
    twin : TwinExperiment
    inflations : (n_inflations,), optional
        A log grid, extended where the minimum is at its end; by default that of the
        scheme in `INFLATIONS`.
    **options
        As in `tune_cycled`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    if type(scheme) not in INFLATIONS:
        raise ArgumentTypeError(
            "scheme: expected one with an inflation, EnKF or ExtendedKalman, "
            f"got {type(scheme).__name__}"
        )
    values = INFLATIONS[type(scheme)] if inflations is None else inflations
    return tune_cycled(
        lambda value: replace(scheme, inflation=value),
        twin,
        values,
        limits=INFLATION_LIMITS,
        **options,
    )


def tune_regularisation(
    scheme: ParticleFilter,
    twin: TwinExperiment,
    *,
    regularisations: Any = REGULARISATIONS,
    **options: Any,
) -> Tuning:
    """Return the regularisation with which a particle filter scores best.

    Parameters
    ----------
    scheme : ParticleFilter
    twin : TwinExperiment
    regularisations : (n_values,)
        A log grid, extended where the minimum is at its end.
    **options
        As in `tune_cycled`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    _checks.instance("scheme", scheme, ParticleFilter)
    return tune_cycled(
        lambda value: replace(scheme, regularisation=value),
        twin,
        regularisations,
        **options,
    )
