"""Settings and progress in plain sentences, for the terminal and for train.log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l63fast.experiments.config import CellSettings
from l63fast.observation import ObservationOperator
from l63fast.twin import TwinSettings

__all__ = [
    "describe_cell",
    "describe_data",
    "describe_ensemble",
    "describe_epoch",
    "describe_outcome",
    "observed",
    "shown_measure",
]


def observed(operator: str) -> str:
    """Return what an operator observes, such as "x, y" or "x²"."""
    return ", ".join(ObservationOperator(operator).labels)


def shown_measure(measure: str) -> str:
    """Return a measure as tables and figures call it, such as "mirror-aware rms"."""
    return measure.replace("mirror_", "mirror-aware ")


def describe_data(data: TwinSettings, *, what: str | None = None) -> str:
    """Return one sentence about a twin experiment; `what` replaces what is observed."""
    return (
        f"{data.n_train} training + {data.n_val} validation + {data.n_test} test "
        f"trajectories {_trajectories(data, what)}"
    )


def describe_ensemble(data: TwinSettings) -> str:
    """Return one sentence about an ensemble that has no splits."""
    return f"{data.n_train} trajectories {_trajectories(data)}"


def _trajectories(data: TwinSettings, what: str | None = None) -> str:
    interval = data.steps_per_cycle * data.dt
    error = "" if data.R is None else f", R {[list(row) for row in data.R]}"
    error += "" if data.Q == 0.0 else f"; model error Q {data.Q}"
    return (
        f"of {data.n_steps} steps (dt {data.dt:g}); observed: "
        f"{what or observed(data.operator)} every {data.steps_per_cycle} steps "
        f"({interval:g} time units) with sigma {data.sigma:g}{error}; seed "
        f"{data.seed}"
    )


def describe_cell(settings: CellSettings) -> list[str]:
    """Return the lines that say how an encoder will be trained."""
    model, training = settings.model, settings.training
    return [
        f"background  {settings.background.kind}",
        f"model       {model.model}, {model.hidden} hidden, window of {model.window} "
        f"observations, {model.n_iterations} iteration"
        f"{'s' if model.n_iterations > 1 else ''}",
        f"training    loss {training.loss}, at most {training.epochs} epochs, batch "
        f"{training.batch_size}, learning rate {training.learning_rate:g}, seed "
        f"{training.seed}",
    ]


def describe_epoch(row: Mapping[str, Any], n_epochs: int) -> str:
    """Return one line about an epoch."""
    return (
        f"epoch {int(row['epoch']):3d}/{n_epochs}  training {row['train_loss']:.4f}  "
        f"validation {row['val_loss']:.4f}"
    )


def describe_outcome(metrics: Mapping[str, Any]) -> str:
    """Return one line about the score that decides, beside that of tuned 3D-Var."""
    measure = metrics["headline"]
    ours, theirs = (
        float(metrics["scores"][name][measure]) for name in ("analysis", "3D-Var")
    )
    change = 100.0 * (ours / theirs - 1.0)
    return f"{shown_measure(measure)} {ours:.3f}, 3D-Var {theirs:.3f} ({change:+.0f} %)"
