"""Tuning of one positive setting of a scheme: with given backgrounds, or cycled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast._progress import Progress, shown
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.iterative import IEnKS
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
    """The best scale, and the scores of all scales that were tried.

    Attributes
    ----------
    scale : float
        The scale with the lowest score.
    scales, scores : (n_scales,)
        Scales in rising order, and their scores.
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
        """Whether the best scale lies between two others that were tried."""
        return bool(self.scales[0] < self.scale < self.scales[-1])


@ieee_arithmetic()
def tune(
    score: Callable[[float], float],
    scales: Any = SCALES,
    *,
    limits: tuple[float, float] = LIMITS,
) -> Tuning:
    """Return the scale with the lowest score, and the scores of all scales.

    While the lowest score is at an end of the grid, the grid is extended with the same
    ratio, down to the lower or up to the upper limit.

    Parameters
    ----------
    score : callable
        Takes a scale and returns its score, lower is better; NaN never wins.
    scales : (n_scales,)
        At least three positive numbers with a constant ratio.
    limits : (float, float)
        Smallest and largest scale of an extended grid.

    Raises
    ------
    ArgumentValueError
        If the scales are not such a grid, or every score is NaN.
    """
    grid = _log_grid(scales)
    curve = {scale: score(scale) for scale in grid}
    ratio = (grid[-1] / grid[0]) ** (1.0 / (len(grid) - 1))
    while True:
        tried = sorted(curve)
        scores = np.array([curve[scale] for scale in tried])
        if np.isnan(scores).all():
            raise ArgumentValueError(
                "score: expected a number for at least one scale, got NaN"
            )
        best = tried[int(np.nanargmin(scores))]
        if best == tried[0] and best / ratio >= limits[0]:
            following = best / ratio
        elif best == tried[-1] and best * ratio <= limits[1]:
            following = best * ratio
        else:
            return Tuning(best, np.array(tried), scores)
        # One more value at the end where the lowest score lies.
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
    missing: str = "raise",
    n_threads: int | None = None,
    backend: str = "auto",
) -> Tuning:
    """Return the scale s for which 3D-Var with s B scores best on given backgrounds.

    Parameters
    ----------
    background, truth : (n_trajectories, n_times, 3)
        Of the validation split.
    observation : (n_trajectories, n_times, obs_dim)
    operator : ObservationOperator or its name
    B, R : (3, 3), (obs_dim, obs_dim)
    scales : (n_scales,)
        A grid with a constant ratio, extended if the best scale is at an end.
    mirror_aware : bool
        Whether the mirror image of the truth counts as well.
    measure : {"rmse_a", "rmse_pooled_a"}
        Time mean of the instantaneous root mean square, or root of the mean square over
        everything.
    missing, n_threads, backend
        As in `three_d_var`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    rate = MEASURES[_checks.choice("measure", measure, MEASURES)]
    options: dict[str, Any] = {"R": R, "missing": missing}
    options |= {"n_threads": n_threads, "backend": backend}

    def score(scale: float) -> float:
        scaled = scale * np.asarray(B)
        analysis = three_d_var(background, observation, operator, B=scaled, **options)
        return rate(analysis.state, truth, mirror_aware=mirror_aware)

    return tune(score, scales)


Variational = TypeVar("Variational", ThreeDVar, FourDVar)

# Grids by scheme: the best inflation of an ensemble is a few per cent, that of a
# linearised covariance may be a factor of two.
INFLATIONS: Final[dict[type, tuple[float, ...]]] = {
    **dict.fromkeys((EnKF, IEnKS), tuple(map(float, np.geomspace(1.0, 1.2, 8)))),
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
    progress: Progress = False,
    **options: Any,
) -> Tuning:
    """Return the value of a setting whose scheme scores best when it is cycled.

    Runs on the validation split. The training split is read only for the climatological
    mean, as the first background, if `initial` (n_val, 3) is not given. All values use
    the same random numbers.

    Parameters
    ----------
    scheme_of : callable
        Takes a value and returns the scheme.
    twin : TwinExperiment
    values : (n_values,)
        A grid with a constant ratio, extended up to `limits` if the best is at an end.
    limits : (float, float)
        Smallest and largest value of an extended grid.
    mirror_aware : bool, optional
        By default True where the operator cannot tell a state from its mirror image.
    measure : {"rmse_a", "rmse_pooled_a"}
    progress : bool or callable
        Show what each value scores, on standard error; a callable is given each line.
    **options
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

    with shown(progress) as say:

        def score(value: float) -> float:
            result = run_cycles(scheme_of(value), twin, "val", **options)
            seen = truth[:, result.scored]
            found = rate(result.analysis, seen, mirror_aware=mirror_aware)
            say(f"value {value:.4g}: {measure} {found:.4g}")
            return found

        return tune(score, values, limits=limits)


def tune_cycled_b_scale(
    scheme: Variational, twin: TwinExperiment, *, scales: Any = SCALES, **options: Any
) -> Tuning:
    """Return the scale s for which cycled 3D-Var or 4D-Var with s B scores best.

    Parameters
    ----------
    scheme : ThreeDVar or FourDVar
    twin : TwinExperiment
    scales : (n_scales,)
        A grid with a constant ratio, extended if the best scale is at an end.
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
    scheme: EnKF | IEnKS | ExtendedKalman,
    twin: TwinExperiment,
    *,
    inflations: Any = None,
    **options: Any,
) -> Tuning:
    """Return the inflation with which a Kalman filter scores best when it is cycled.

    It is at least 1; a best value of 1 is at this limit, and not a failed search.

    Parameters
    ----------
    scheme : EnKF, IEnKS or ExtendedKalman
    twin : TwinExperiment
    inflations : (n_inflations,), optional
        A grid with a constant ratio, extended if the best is at an end; by default that
        of the scheme in `INFLATIONS`.
    **options
        As in `tune_cycled`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described.
    """
    if type(scheme) not in INFLATIONS:
        raise ArgumentTypeError(
            "scheme: expected one with an inflation, EnKF, IEnKS or ExtendedKalman, "
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
    """Return the regularisation with which a particle filter scores best when cycled.

    Parameters
    ----------
    scheme : ParticleFilter
    twin : TwinExperiment
    regularisations : (n_values,)
        A grid with a constant ratio, extended if the best is at an end.
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
