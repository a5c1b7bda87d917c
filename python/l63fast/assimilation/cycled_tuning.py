"""Tune a scheme in its own cycle, on the validation split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np

from l63fast import _checks
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.extended_kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Scheme
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.assimilation.tuning import LIMITS, MEASURES, SCALES, Tuning, tune
from l63fast.assimilation.window import FourDVar
from l63fast.errors import ArgumentTypeError
from l63fast.twin import TwinExperiment

__all__ = [
    "INFLATIONS",
    "INFLATION_LIMITS",
    "REGULARISATIONS",
    "tune_cycled",
    "tune_cycled_b_scale",
    "tune_inflation",
    "tune_regularisation",
]

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
    n_cycles: int | None = None,
    burn_in: int = 0,
    initial: np.ndarray | None = None,
    warm_up: Scheme[Any] | None = None,
    imperfect_model: bool = False,
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
    n_cycles, burn_in, initial, warm_up, imperfect_model
        As in `run_cycles`.

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
        result = run_cycles(
            scheme_of(value),
            twin,
            "val",
            n_cycles=n_cycles,
            burn_in=burn_in,
            initial=initial,
            warm_up=warm_up,
            imperfect_model=imperfect_model,
        )
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

    def scaled(scale: float) -> Variational:
        return replace(scheme, B=scale * scheme.B)

    return tune_cycled(scaled, twin, scales, **options)


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

    def inflated(inflation: float) -> EnKF | ExtendedKalman:
        return replace(scheme, inflation=inflation)

    return tune_cycled(inflated, twin, values, limits=INFLATION_LIMITS, **options)


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

    def regularised(value: float) -> ParticleFilter:
        return replace(scheme, regularisation=value)

    return tune_cycled(regularised, twin, regularisations, **options)
