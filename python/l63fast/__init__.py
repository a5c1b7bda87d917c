"""Fast data-assimilation experiments on the Lorenz-63 system.

Importing the package loads only NumPy; each name below is loaded when it is first used.

The notation is that of Ide, Courtier, Ghil & Lorenc (1997), in code, files and figures:

============  ==========  ======  ============================================
x_t           truth       y       observation, y = h(x_t) + error
x_b           background  h, H    observation operator, its Jacobian
x_a           analysis    B, R    covariances of background, observation error
y - h(x_b)    innovation  K       gain
y - h(x_a)    residual    dt      model step (time units)
x_a - x_b     increment   sigma   standard deviation, never variance
============  ==========  ======  ============================================

Axes: trajectory or member first, then time, the component last.
"""
# ruff: noqa: F401 - the imports below tell type checkers what __getattr__ loads.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from l63fast import _extras

_HOMES: Final = {
    "Analysis": "assimilation.scheme",
    "AssimilationDataset": "learning.data",
    "Backgrounds": "assimilation.backgrounds",
    "Climatology": "lorenz63",
    "DifferentiableForecast": "learning.dynamics",
    "EnKF": "assimilation.ensemble",
    "EncoderFunction": "learning.inference",
    "ErrorLaw": "twin",
    "Experiment": "experiments.experiment",
    "ExtendedKalman": "assimilation.kalman",
    "ForecastModel": "twin",
    "FourDVar": "assimilation.four_d_var",
    "IEnKS": "assimilation.iterative",
    "L63Error": "errors",
    "Lorenz63": "lorenz63",
    "NeuralAnalysis": "learning.inference",
    "ObservationOperator": "observation",
    "ParticleFilter": "assimilation.particle",
    "Result": "experiments.results",
    "Status": "assimilation.scheme",
    "ThreeDVar": "assimilation.three_d_var",
    "TwinExperiment": "twin",
    "TwinSettings": "twin",
    "adjoint": "lorenz63",
    "backend_info": "_kernels",
    "climatology": "lorenz63",
    "compare": "experiments.compare",
    "forecast": "lorenz63",
    "load_encoder": "learning.export",
    "lyapunov_exponents": "lorenz63",
    "observe": "observation",
    "open_results": "experiments.results",
    "open_shards": "twin",
    "propagator": "lorenz63",
    "report": "experiments.report",
    "run_cycles": "assimilation.cycling",
    "scores": "experiments.scoring",
    "simulate": "lorenz63",
    "spin_up": "lorenz63",
    "tangent_linear": "lorenz63",
    "three_d_var": "assimilation.three_d_var",
    "torch_forecast": "learning.dynamics",
    "tune_b_scale": "assimilation.tuning",
    "tune_cycled": "assimilation.tuning",
    "tune_inflation": "assimilation.tuning",
    "variational_cost": "assimilation.three_d_var",
    "write_analyse_inputs": "assimilation.program_files",
    "write_cycle_inputs": "assimilation.program_files",
}
# Subpackages that are used by their own names, such as `l63fast.learning.train`.
_SUBPACKAGES: Final = ("learning", "plotting", "verification")

__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    __version__: str
    from l63fast import learning, plotting, verification
    from l63fast._kernels import backend_info
    from l63fast.assimilation.backgrounds import Backgrounds
    from l63fast.assimilation.cycling import run_cycles
    from l63fast.assimilation.ensemble import EnKF
    from l63fast.assimilation.four_d_var import FourDVar
    from l63fast.assimilation.iterative import IEnKS
    from l63fast.assimilation.kalman import ExtendedKalman
    from l63fast.assimilation.particle import ParticleFilter
    from l63fast.assimilation.program_files import (
        write_analyse_inputs,
        write_cycle_inputs,
    )
    from l63fast.assimilation.scheme import Analysis, Status
    from l63fast.assimilation.three_d_var import (
        ThreeDVar,
        three_d_var,
        variational_cost,
    )
    from l63fast.assimilation.tuning import (
        tune_b_scale,
        tune_cycled,
        tune_inflation,
    )
    from l63fast.errors import L63Error
    from l63fast.experiments.compare import compare
    from l63fast.experiments.experiment import Experiment
    from l63fast.experiments.report import report
    from l63fast.experiments.results import Result, open_results
    from l63fast.experiments.scoring import scores
    from l63fast.learning.data import AssimilationDataset
    from l63fast.learning.dynamics import DifferentiableForecast, torch_forecast
    from l63fast.learning.export import load_encoder
    from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
    from l63fast.lorenz63 import (
        Climatology,
        Lorenz63,
        adjoint,
        climatology,
        forecast,
        lyapunov_exponents,
        propagator,
        simulate,
        spin_up,
        tangent_linear,
    )
    from l63fast.observation import ObservationOperator, observe
    from l63fast.twin import TwinExperiment, TwinSettings, open_shards


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("l63fast")
    elif name in _SUBPACKAGES:
        value = import_module(f"l63fast.{name}")
    elif name in _HOMES:
        value = getattr(import_module(f"l63fast.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'l63fast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBPACKAGES})
