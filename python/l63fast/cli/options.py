"""Options that several commands share, in groups."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from l63fast.assimilation.backgrounds import KINDS
from l63fast.cli.command_line import Option, choices
from l63fast.experiments.protocols import Windows
from l63fast.experiments.settings import ScoreSettings
from l63fast.learning.settings import (
    DEVICES,
    ENCODER_NAMES,
    ITERATIONS,
    LOSS_NAMES,
    UNCERTAINTIES,
    EncoderSettings,
    TrainSettings,
)
from l63fast.twin import TwinSettings


def list_reader(convert: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return a function that reads a list of values separated by commas.

    A value that cannot be converted stays text; a later check names it in an error.
    """

    def read(text: str) -> list[Any]:
        values: list[Any] = []
        for part in filter(None, map(str.strip, text.split(","))):
            try:
                values.append(convert(part))
            except ValueError:
                values.append(part)
        return values

    return read


def _sets(settings: Any, table: str, panel: str) -> Callable[..., Option]:
    """Return a function that declares an option for a setting, with its default."""

    def declare(name: str, kind: Any, help: str, field: str = "", **how: Any) -> Option:
        field = field or name
        default, target = getattr(settings, field), f"{table}.{field}"
        return Option(name, kind, help, default, target, panel=panel, **how)

    return declare


def cycle(name: str, kind: Any, help: str) -> Option:
    """Return an option for a setting of experiments in cycles."""
    return Option(name, kind, help, target=f"cycles.{name}", panel="Cycles")


_TWIN: Final = TwinSettings()
_data = _sets(_TWIN, "data", "Data")
_windows = _sets(Windows(), "windows", "Windows")
_model = _sets(EncoderSettings(), "method", "Encoder")
_training = _sets(TrainSettings(), "training", "Training")
_scores = _sets(ScoreSettings(), "scores", "Training")

SIZES: Final = (
    Option(
        "n_traj",
        int,
        "Trajectories for training and validation together.",
        _TWIN.n_train + _TWIN.n_val,
        minimum=2,
        panel="Data",
    ),
    _data("train", int, "Training trajectories.", "n_train", minimum=1),
    _data("val", int, "Validation trajectories.", "n_val", minimum=1),
    _data("test", int, "Test trajectories, besides n_traj.", "n_test", minimum=1),
    _data("n_steps", int, "Model steps of each trajectory.", minimum=1),
    _data("dt", float, "Time step of the model (time units)."),
    _data("steps_per_cycle", int, "Model steps between observations.", minimum=1),
    Option(
        "interval",
        str,
        "Shortest and longest time between observations (time units), such as 0.1,0.4: "
        "the times are drawn from this range, instead of --steps_per_cycle.",
        target="data.interval",
        panel="Data",
        read=list_reader(float),
    ),
    Option(
        "taylor",
        int,
        "Order of the Taylor polynomial by which the truth makes its steps, as in "
        "KalmanNet; by default RK4.",
        target="data.parameters.taylor",
        minimum=1,
        panel="Data",
    ),
    _data("missing", float, "Probability that a value is not observed.", minimum=0.0),
    _data("sigma", float, "Standard deviation of the observation error.", minimum=0.0),
    _data("save_every", int, "Model steps between stored states.", minimum=1),
    _data("spin_up_time", float, "Length of the spin-up (time units).", minimum=0.0),
)
OBSERVED: Final = _data(
    "obs_mode",
    str,
    "What is observed: x, y, z in this order, each at most once, each with an "
    "optional power 1 to 4, such as xy, x2, xyz; or package.module:function, your own "
    "observation operator h.",
    "operator",
)
DATA: Final = (OBSERVED, *SIZES)


def _parameters(text: str) -> Any:
    values = list_reader(float)(text)
    names = ("sigma", "rho", "beta")
    return dict(zip(names, values, strict=True)) if len(values) == 3 else values


_own = partial(Option, panel="Data", default=None)
FORECAST_MODEL: Final = (
    _own(
        "model_taylor",
        int,
        "Order of the Taylor polynomial by which this model makes its steps.",
        target="model.parameters.taylor",
        minimum=1,
    ),
    _own(
        "model_parameters",
        str,
        "sigma, rho and beta of the model that methods forecast with, such as "
        "11,28,2.6667, if they are not those of the truth.",
        target="model.parameters",
        read=_parameters,
    ),
    _own("model_dt", float, "Time step of this model.", target="model.dt"),
    _own(
        "model_Q",
        float,
        "Variance of the model error that filters add to each forecast.",
        target="model.Q",
        minimum=0.0,
    ),
)
WINDOWS: Final = (
    _windows("window", int, "Number of observations in a window.", minimum=1),
    _windows("background", choices(KINDS), "Kind of background of a window."),
)
MODEL: Final = (
    _model(
        "model",
        str,
        f"Type of the encoder: {', '.join(ENCODER_NAMES)}; or package.module:Class, "
        "your own torch module.",
    ),
    _model("hidden", int, "Size of the hidden layers of the encoder.", minimum=1),
    _model("n_iterations", int, "Number K of fixed-point iterations.", minimum=1),
    _model(
        "iteration",
        choices(ITERATIONS),
        "Input of an iteration: the background and the increment so far; or (legacy) "
        "the last analysis instead, which uses the same observations K times.",
    ),
    _model(
        "uncertainty",
        choices(UNCERTAINTIES),
        "Distribution that the encoder estimates around its analysis; it is then "
        "trained by the loss crps or log_score.",
    ),
)
LAG: Final = cycle(
    "lag", int, "Later observations of smoothed states, in cycles, scored as rmse_s."
)
OWN_MODEL: Final = Option(
    "model",
    str,
    "package.module:Class, the class of your own model; the name in the result is not "
    "imported.",
)
TRAINING: Final = (
    _training("loss", choices(LOSS_NAMES), "Loss function of the training."),
    _training("epochs", int, "Largest number of passes over the data.", minimum=1),
    _training("batch_size", int, "Samples in a step of the optimiser.", minimum=1),
    _training("learning_rate", float, "Largest learning rate."),
    _training("patience", int, "Epochs without improvement before the end.", minimum=1),
    _training("clip", float, "Largest norm of the gradient."),
    _training("device", choices(DEVICES), "Device of the training."),
    _scores("n_bootstrap", int, "Resamples for confidence intervals.", minimum=1),
)
ALL: Final = (*DATA, *FORECAST_MODEL, *WINDOWS, *MODEL, *TRAINING)

DRY_RUN: Final = Option("dry_run", bool, "Only show what would be done.", False)
QUIET: Final = Option("quiet", bool, "Print errors only.", False)
RESUME: Final = Option("resume", bool, "Continue a stopped run.", False)
RUN: Final = (
    Option("config", Path, "TOML file with settings; options replace them."),
    Option(
        "print_config", bool, "Print the settings as TOML and do nothing else.", False
    ),
    DRY_RUN,
    QUIET,
)


def seed(help: str, *, target: str) -> Option:
    """Return the option `--seed` for one command."""
    return Option("seed", int, help, 0, target, minimum=0)


def data_folder(help: str, *, target: str | None = None) -> Option:
    """Return the option `--data` for one command."""
    return Option("data", Path, help, target=target, panel="Data")


_where = partial(Option, panel="Where it runs")
WHERE: Final = (
    _where(
        "workers",
        int,
        "Processes on this machine; one per core by default.",
        minimum=1,
    ),
    _where(
        "scheduler",
        str,
        "Address of a dask scheduler whose workers run, such as tls://node7:8786.",
    ),
    _where(
        "scheduler_file",
        Path,
        "File that `dask scheduler --scheduler-file` wrote, instead of the address.",
    ),
    _where(
        "insecure",
        bool,
        "Allow a scheduler on another machine without TLS. Everyone who reaches it can "
        "run programs as you.",
        False,
    ),
)
