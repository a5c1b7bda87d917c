"""How a method was fitted: losses per epoch, score against the number tuned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting import _style

__all__ = ["training_curves", "tuning_curve", "validation_curves"]

# Marks the chosen point of a curve.
_RING: Final[dict[str, Any]] = {
    "color": _style.BLACK,
    "linestyle": "none",
    "marker": "o",
    "markerfacecolor": "none",
}


@_style.styled
def training_curves(
    history: Sequence[Mapping[str, float]],
    *,
    best_epoch: int | None = None,
    train: str = "train_loss",
    validation: str = "val_loss",
    label: str = "loss",
) -> Figure:
    """Return training and validation loss per epoch, the best epoch marked.

    Parameters
    ----------
    history : one mapping per epoch, with "epoch" and the two losses
    best_epoch : int, optional
        The epoch whose weights are kept; that of the lowest validation loss if not
        given.
    train, validation : str
        Names of the losses in the history.

    Raises
    ------
    ArgumentValueError
        If the history is empty or lacks a column.
    """
    lacking = {"epoch", train, validation} - set(history[0] if history else ())
    if lacking:
        raise ArgumentValueError(
            f"history: expected epochs with {', '.join(sorted(lacking))}, got "
            f"{len(history)} epochs without"
        )
    epochs, losses, scores = (
        np.array([float(row[key]) for row in history])
        for key in ("epoch", train, validation)
    )
    if best_epoch is None:
        best_epoch = int(epochs[np.argmin(np.nan_to_num(scores, nan=np.inf))])
    fig, ax = _style.single(3.2)
    _draw_epochs(ax, epochs, losses, "training", _style.Look(_style.ORANGE, "--"))
    _draw_epochs(ax, epochs, scores, "validation", _style.Look(_style.BLUE))
    at = int(np.abs(epochs - best_epoch).argmin())
    text = f"best epoch {best_epoch}: validation {scores[at]:.4g}"
    ax.plot(epochs[at], scores[at], label=text, markersize=7.0, **_RING)
    _label_epochs(ax, label)
    fig.legend(loc="outside upper center", ncols=3)
    return fig


@_style.styled
def tuning_curve(
    scales: np.ndarray,
    scores: np.ndarray,
    best: float,
    *,
    parameter: str = "scale of B",
    label: str = "validation rmse",
) -> Figure:
    """Return the score against the number that was tuned, the chosen one marked.

    Parameters
    ----------
    scales, scores : (n,) values of it, and the score with each
    best : float
        The chosen value.
    parameter : str
        What the number is.
    label : str
        What the score is.

    Raises
    ------
    ArgumentValueError
        If the shapes differ or there is nothing to draw.
    """
    scales = _checks.array("scales", scales, shape=(None,))
    scores = _checks.array("scores", scores, shape=scales.shape)
    _style.require("scales", scales, "at least one")
    at = int(np.abs(scales - _checks.real("best", best, above=0.0)).argmin())
    fig, ax = _style.single(3.2)
    ax.plot(scales, scores, color=_style.GREEN, marker="o", markersize=3.5)
    text = f"best {parameter} {scales[at]:.3g}: {scores[at]:.3f}"
    ax.plot(scales[at], scores[at], label=text, markersize=8.0, **_RING)
    _style.plain_log(ax, "x")
    ax.set(xlabel=parameter, ylabel=label)
    fig.legend(loc="outside upper center")
    return fig


@_style.styled
def validation_curves(
    histories: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str = "rmse, validation",
    among: Collection[str] = (),
) -> Figure:
    """Return the validation score of several encoders per epoch, the lowest marked.

    Parameters
    ----------
    histories : encoder -> [(epoch, score), ...]
    label : str
        What the score is.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not histories or not all(histories.values()):
        raise ArgumentValueError("histories: expected epochs of each, got none")
    fig, ax = _style.single(3.4)
    for name, how in _style.looks(histories, among).items():
        epochs, scores = np.array(histories[name], dtype=float).T
        _draw_epochs(ax, epochs, scores, name, how)
        at = int(np.argmin(np.where(np.isfinite(scores), scores, np.inf)))
        ax.plot(epochs[at], scores[at], markersize=5.0, **how.mark)
    _label_epochs(ax, label)
    fig.legend(loc="outside upper center", ncols=4)
    return fig


def _draw_epochs(
    ax: Axes, epochs: np.ndarray, losses: np.ndarray, name: str, how: _style.Look
) -> None:
    marker = "o" if len(epochs) < 3 else ""
    ax.plot(epochs, losses, marker=marker, label=name, **how.line)


def _label_epochs(ax: Axes, label: str) -> None:
    _style.plain_log(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel=label)
