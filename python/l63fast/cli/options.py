"""Every option of the command line, once; the commands take them by group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from l63fast.assimilation.backgrounds import KINDS
from l63fast.cli.declare import Option, choices
from l63fast.experiments.protocols import Windows
from l63fast.learning.settings import (
    DEVICES,
    ENCODER_NAMES,
    ITERATIONS,
    LOSS_NAMES,
    EncoderSettings,
    TrainSettings,
)
from l63fast.twin import TwinSettings

__all__ = [
    "ALL",
    "DATA",
    "MODEL",
    "QUIET",
    "RESUME",
    "RUN",
    "SIZES",
    "TRAINING",
    "WINDOWS",
    "data_folder",
    "of_preset",
    "seed",
]

_TWIN: Final = TwinSettings()
_WINDOWS: Final = Windows()
_ENCODER: Final = EncoderSettings()
_TRAIN: Final = TrainSettings()


def _data(
    name: str, kind: Any, help: str, field: str | None = None, **how: Any
) -> Option:
    field = field or name
    default = getattr(_TWIN, field)
    return Option(name, kind, help, default, f"data.{field}", panel="Data", **how)


def _model(name: str, kind: Any, help: str, **how: Any) -> Option:
    default = getattr(_ENCODER, name)
    return Option(name, kind, help, default, f"method.{name}", panel="Encoder", **how)


def _training(name: str, kind: Any, help: str, **how: Any) -> Option:
    default = getattr(_TRAIN, name)
    return Option(
        name, kind, help, default, f"training.{name}", panel="Training", **how
    )


OBS_MODE: Final = _data(
    "obs_mode",
    str,
    "What is observed: x, y, z in this order, each at most once, each with an optional "
    "power 1 to 4, such as xy, x2, xyz.",
    "operator",
)

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
    _data("test", int, "Test trajectories, drawn besides.", "n_test", minimum=1),
    _data("n_steps", int, "Model steps of each trajectory.", minimum=1),
    _data("dt", float, "Time step of the model (time units)."),
    _data("steps_per_cycle", int, "Model steps between observations.", minimum=1),
    _data("sigma", float, "Standard deviation of an observation.", minimum=0.0),
    _data("save_every", int, "Model steps between stored states.", minimum=1),
    _data("spin_up_time", float, "Time before a trajectory starts.", minimum=0.0),
)

DATA: Final = (OBS_MODE, *SIZES)

BACKGROUND: Final = Option(
    "background",
    choices(KINDS),
    "What the encoder and 3D-Var correct.",
    _WINDOWS.background,
    "windows.background",
    panel="Windows",
)
WINDOW: Final = Option(
    "window",
    int,
    "Observations that each window holds.",
    _WINDOWS.window,
    "windows.window",
    minimum=1,
    panel="Windows",
)

MODEL: Final = (
    _model("model", choices(ENCODER_NAMES), "How the window of observations is read."),
    _model("hidden", int, "Width of the encoder.", minimum=1),
    _model("n_iterations", int, "Iterations K of its fixed point.", minimum=1),
    _model(
        "iteration",
        choices(ITERATIONS),
        "What iterations start from: the background and the increment so far, or "
        "(legacy) the last analysis in its place, which counts observations K times.",
    ),
)

TRAINING: Final = (
    _training("loss", choices(LOSS_NAMES), "What training minimises."),
    _training("epochs", int, "Passes over the training data at most.", minimum=1),
    _training("batch_size", int, "Samples in a step.", minimum=1),
    _training("learning_rate", float, "Largest learning rate."),
    _training("patience", int, "Epochs without progress before the end.", minimum=1),
    _training("clip", float, "Largest norm of a gradient."),
    _training("device", choices(DEVICES), "Where torch computes in training."),
    Option(
        "n_bootstrap",
        int,
        "Resamples behind every confidence interval.",
        1000,
        "scores.n_bootstrap",
        minimum=1,
        panel="Training",
    ),
)

CONFIG: Final = Option("config", Path, "TOML file with settings; flags overrule it.")
PRINT_CONFIG: Final = Option(
    "print_config", bool, "Print the settings as TOML and do nothing else.", False
)
DRY_RUN: Final = Option("dry_run", bool, "Say what would be done, do nothing.", False)
QUIET: Final = Option("quiet", bool, "Print errors only.", False)
RESUME: Final = Option("resume", bool, "Go on where a stopped run was.", False)

RUN: Final = (CONFIG, PRINT_CONFIG, DRY_RUN, QUIET)


WINDOWS: Final = (WINDOW, BACKGROUND)
ALL: Final = (*DATA, *WINDOWS, *MODEL, *TRAINING)


def of_preset(options: Iterable[Option]) -> tuple[Option, ...]:
    """Return options without defaults to show: a preset decides what is not typed."""
    return tuple(replace(option, default=None) for option in options)


def seed(help: str, *, target: str | None) -> Option:
    """Return the option `--seed` for one command."""
    return Option("seed", int, help, 0, target, minimum=0)


def data_folder(help: str) -> Option:
    """Return the option `--data` for one command."""
    return Option("data", Path, help, panel="Data")
