"""Input files of the C++ programs `analyse` and `cycle`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.cycling import CyclePlan, plan_cycles
from l63fast.assimilation.scheme import Scheme
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentValueError
from l63fast.observation import named_operator
from l63fast.storage import write_dataset_alone
from l63fast.twin import (
    TwinExperiment,
    TwinSettings,
    drawn_model_errors,
    drawn_observation_errors,
)

_STATE: Final = ("trajectory", "component")


def write_analyse_inputs(
    path: str | Path,
    background: np.ndarray,
    obs_window: np.ndarray,
    *,
    missing: str = "raise",
) -> None:
    """Write backgrounds and windows of observations for the program `analyse`.

    Parameters
    ----------
    path : str or Path
        A netCDF file; an old one is replaced.
    background : (n, 3) float64 or float32
    obs_window : (n, L, obs_dim)
        Of the same dtype; the latest observation is the last. For an encoder with gaps
        (n, L, obs_dim + 1): the last value is the time since the previous observation.
    missing : {"raise", "nan"}
        "nan" accepts NaN, where an encoder with gaps has no value.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If a shape is not as described.
    ResultError
        If the file cannot be written.
    """
    background = _checks.states("background", background)
    n = len(background)
    size = np.shape(obs_window)[-1]
    obs_window = _checks.vectors(
        "obs_window", obs_window, size=size, dtype=background.dtype, only_finite=False
    )
    _checks.choice("missing", missing, ("raise", "nan"))
    _checks.finite("obs_window", obs_window, missing=missing)
    if background.shape != (n, 3) or obs_window.ndim != 3 or len(obs_window) != n:
        raise ArgumentValueError(
            f"background, obs_window: expected (n, 3) and (n, L, obs_dim), got "
            f"{background.shape} and {obs_window.shape}"
        )
    variables = {
        "background": (_STATE, background, "background x_b at analysis time"),
        "obs_window": (
            ("trajectory", "window", "observed"),
            obs_window,
            "the last observations, the latest one last",
        ),
    }
    _write(path, "Inputs of an encoder", variables, {})


@ieee_arithmetic()
def write_cycle_inputs(
    path: str | Path,
    scheme: Scheme[Any],
    twin: TwinExperiment,
    split_name: str = "test",
    *,
    n_cycles: int | None = None,
    burn_in: int = 0,
    initial: np.ndarray | None = None,
    warm_up: ThreeDVar | None = None,
) -> None:
    """Write the inputs of the program `cycle`, which then does as `run_cycles`.

    The file holds random draws, not results: initial states, observation and model
    errors, and the first background. The program integrates the truth itself.

    Parameters
    ----------
    path : str or Path
        A netCDF file; an old one is replaced.
    scheme, twin, split_name, n_cycles, burn_in, initial, warm_up
        As in `run_cycles`; the scheme is a `NeuralAnalysis`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the twin was not generated, or the scheme forecasts with another model.
    ResultError
        If the file cannot be written.
    """
    settings = twin.settings
    operator = named_operator(settings.operator, "the C++ programs")
    settings.require_no_gaps("twin", "the C++ programs")
    if twin.origin != "generated":
        raise ArgumentValueError(
            "twin: expected a generated experiment, whose errors can be drawn again, "
            f"got one {twin.origin}"
        )
    another = twin.model.describe(settings)
    taylor = settings.parameters.taylor is not None
    if settings.parameters_spread or settings.Q_per_step or taylor:
        another = settings.beyond_the_usual
    if another:
        raise ArgumentValueError(
            f"twin: expected one model, that of the truth, for the C++ programs, got "
            f"{another}"
        )
    plan = plan_cycles(
        scheme,
        twin,
        split_name,
        n_cycles=n_cycles,
        burn_in=burn_in,
        initial=initial,
        warm_up=warm_up,
        imperfect_model=None,
    )
    warm_up_values, warm_up_numbers = _warm_up(plan)
    variables = _draws(twin, split_name, plan) | warm_up_values
    attributes = {"operator": operator.name, **_numbers(settings, plan)}
    attributes |= warm_up_numbers
    _write(path, "Inputs of a cycled twin experiment", variables, attributes)


_Variables = dict[str, tuple[tuple[str, ...], np.ndarray, str]]


def _draws(twin: TwinExperiment, split_name: str, plan: CyclePlan) -> _Variables:
    settings, until = twin.settings, plan.first + plan.n_cycles
    start = twin.split(split_name).initial_state
    errors = drawn_observation_errors(settings, split_name, n=len(start))[:, :until]
    series = ("trajectory", "time")
    variables: _Variables = {
        "initial_truth": (_STATE, start, "true state at step 0"),
        "initial_background": (_STATE, plan.background, "background at step 0"),
        "observation_noise": ((*series, "observed"), errors, "errors of y"),
    }
    if settings.Q != 0.0:
        errors = drawn_model_errors(settings, split_name, n=len(start))[:, :until]
        variables["model_error"] = (
            (*series, "component"),
            errors,
            "model error of the truth at the end of each cycle",
        )
    return variables


def _numbers(settings: TwinSettings, plan: CyclePlan) -> dict[str, Any]:
    model = settings.parameters
    return {
        "dt": settings.dt,
        "steps_per_cycle": settings.steps_per_cycle,
        "model_sigma": model.sigma,
        "model_rho": model.rho,
        "model_beta": model.beta,
        "first_cycle": plan.first,
    }


def _warm_up(plan: CyclePlan) -> tuple[_Variables, dict[str, Any]]:
    scheme = plan.warm_up
    if scheme is None:
        return {}, {}
    if not isinstance(scheme, ThreeDVar):
        raise ArgumentValueError(
            f"warm_up: expected a ThreeDVar, got {type(scheme).__name__}"
        )
    variables: _Variables = {
        "warm_up_B": (("component", "component_too"), scheme.B, "B of 3D-Var"),
        "warm_up_R": (("observed", "observed_too"), scheme.R, "R of 3D-Var"),
    }
    return variables, {f"warm_up_{k}": v for k, v in scheme.numbers.items()}


def _write(
    path: str | Path, title: str, variables: _Variables, attributes: dict[str, Any]
) -> None:
    import xarray as xr

    dataset = xr.Dataset(
        {
            name: (
                dims,
                np.asarray(values, np.float64),
                {"long_name": long_name, "units": "1"},
            )
            for name, (dims, values, long_name) in variables.items()
        },
        attrs={"Conventions": "CF-1.11", "title": title, "source": "l63fast"}
        | attributes,
    )
    write_dataset_alone(dataset, path)
