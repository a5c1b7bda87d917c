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

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from l63fast._extras import load

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

# What __getattr__ loads, for type checkers, which take `as` for an export.
if TYPE_CHECKING:
    __version__: str
    from l63fast import learning as learning
    from l63fast import plotting as plotting
    from l63fast import verification as verification
    from l63fast._kernels import backend_info as backend_info
    from l63fast.assimilation.backgrounds import Backgrounds as Backgrounds
    from l63fast.assimilation.cycling import run_cycles as run_cycles
    from l63fast.assimilation.ensemble import EnKF as EnKF
    from l63fast.assimilation.four_d_var import FourDVar as FourDVar
    from l63fast.assimilation.iterative import IEnKS as IEnKS
    from l63fast.assimilation.kalman import ExtendedKalman as ExtendedKalman
    from l63fast.assimilation.particle import ParticleFilter as ParticleFilter
    from l63fast.assimilation.program_files import (
        write_analyse_inputs as write_analyse_inputs,
    )
    from l63fast.assimilation.program_files import (
        write_cycle_inputs as write_cycle_inputs,
    )
    from l63fast.assimilation.scheme import Analysis as Analysis
    from l63fast.assimilation.scheme import Status as Status
    from l63fast.assimilation.three_d_var import ThreeDVar as ThreeDVar
    from l63fast.assimilation.three_d_var import three_d_var as three_d_var
    from l63fast.assimilation.three_d_var import variational_cost as variational_cost
    from l63fast.assimilation.tuning import tune_b_scale as tune_b_scale
    from l63fast.assimilation.tuning import tune_cycled as tune_cycled
    from l63fast.assimilation.tuning import tune_inflation as tune_inflation
    from l63fast.errors import L63Error as L63Error
    from l63fast.experiments.compare import compare as compare
    from l63fast.experiments.experiment import Experiment as Experiment
    from l63fast.experiments.report import report as report
    from l63fast.experiments.results import Result as Result
    from l63fast.experiments.results import open_results as open_results
    from l63fast.experiments.scoring import scores as scores
    from l63fast.learning.data import AssimilationDataset as AssimilationDataset
    from l63fast.learning.dynamics import (
        DifferentiableForecast as DifferentiableForecast,
    )
    from l63fast.learning.dynamics import torch_forecast as torch_forecast
    from l63fast.learning.export import load_encoder as load_encoder
    from l63fast.learning.inference import EncoderFunction as EncoderFunction
    from l63fast.learning.inference import NeuralAnalysis as NeuralAnalysis
    from l63fast.lorenz63 import Climatology as Climatology
    from l63fast.lorenz63 import Lorenz63 as Lorenz63
    from l63fast.lorenz63 import adjoint as adjoint
    from l63fast.lorenz63 import climatology as climatology
    from l63fast.lorenz63 import forecast as forecast
    from l63fast.lorenz63 import lyapunov_exponents as lyapunov_exponents
    from l63fast.lorenz63 import propagator as propagator
    from l63fast.lorenz63 import simulate as simulate
    from l63fast.lorenz63 import spin_up as spin_up
    from l63fast.lorenz63 import tangent_linear as tangent_linear
    from l63fast.observation import ObservationOperator as ObservationOperator
    from l63fast.observation import observe as observe
    from l63fast.twin import ErrorLaw as ErrorLaw
    from l63fast.twin import ForecastModel as ForecastModel
    from l63fast.twin import TwinExperiment as TwinExperiment
    from l63fast.twin import TwinSettings as TwinSettings
    from l63fast.twin import open_shards as open_shards


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = load("importlib.metadata").version("l63fast")
    elif name == "__all__":  # For `from l63fast import *`: all whose extras are there.
        package = sys.modules[__name__]
        value = [name for name in ("__version__", *_HOMES) if hasattr(package, name)]
    elif name in _SUBPACKAGES:
        value = load(f"l63fast.{name}")
    elif name in _HOMES:
        value = load(f"l63fast.{_HOMES[name]}", name)
    else:
        raise AttributeError(f"module 'l63fast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBPACKAGES})
