"""Figures of the fit of a method: training, tuning, ensemble size, ranks and spread."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting import _style

# Marks in per cent; the axis is linear up to 1 and logarithmic beyond.
_EXCESSES: Final = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
Curve = Sequence[tuple[int, float, float]]

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
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of training and validation loss per epoch, the best one marked.

    Parameters
    ----------
    history : one mapping per epoch, with "epoch" and the two losses
    best_epoch : int, optional
        The epoch whose weights are kept; by default the one with the lowest validation
        loss.
    train, validation : str
        Names of the losses in the history.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

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
    fig, ax, legend = _style.single(3.2, ax, style)
    _draw_epochs(ax, epochs, losses, "training", _style.Look(_style.ORANGE, "--"))
    _draw_epochs(ax, epochs, scores, "validation", _style.Look(_style.BLUE))
    at = int(np.abs(epochs - best_epoch).argmin())
    text = f"best epoch {best_epoch}: validation {scores[at]:.4g}"
    ax.plot(epochs[at], scores[at], label=text, markersize=7.0, **_RING)
    _label_epochs(ax, label)
    legend(loc="outside upper center", ncols=3)
    return fig


@_style.styled
def tuning_curve(
    scales: np.ndarray,
    scores: np.ndarray,
    best: float,
    *,
    parameter: str = "scale of B",
    label: str = "validation rmse",
    method: str = "3D-Var",
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of the score against a tuned parameter, the best value marked.

    Parameters
    ----------
    scales, scores : (n,) values of the parameter, and their scores
    best : float
        The chosen value.
    parameter : str
        Name of the parameter.
    label : str
        Name of the score.
    method : str
        Name of the tuned method.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If the shapes differ or there is nothing to draw.
    """
    scales = _checks.array("scales", scales, shape=(None,))
    scores = _checks.array("scores", scores, shape=scales.shape)
    _style.require("scales", scales, "at least one")
    at = int(np.abs(scales - _checks.real("best", best, above=0.0)).argmin())
    fig, ax, legend = _style.single(3.2, ax, style)
    look = _style.looks([method], among)[method]
    ax.plot(scales, scores, marker=look.marker, markersize=3.5, **look.line)
    text = f"best {parameter} {scales[at]:.3g}: {scores[at]:.3f}"
    ax.plot(scales[at], scores[at], label=text, markersize=8.0, **_RING)
    _style.plain_log(ax, "x")
    ax.set(xlabel=parameter, ylabel=label)
    legend(loc="outside upper center")
    return fig


@_style.styled
def validation_curves(
    histories: Mapping[str, Sequence[tuple[float, float]]],
    *,
    label: str = "rmse, validation",
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of validation scores per epoch, the lowest of each marked.

    Parameters
    ----------
    histories : encoder -> [(epoch, score), ...]
    label : str
        Name of the score.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not histories or not all(histories.values()):
        raise ArgumentValueError("histories: expected epochs of each, got none")
    fig, ax, legend = _style.single(3.4, ax, style)
    for name, look in _style.looks(histories, among).items():
        epochs, scores = np.array(histories[name], dtype=float).T
        _draw_epochs(ax, epochs, scores, name, look)
        at = int(np.argmin(np.where(np.isfinite(scores), scores, np.inf)))
        ax.plot(epochs[at], scores[at], markersize=5.0, **look.mark)
    _label_epochs(ax, label)
    legend(loc="outside upper center", ncols=4)
    return fig


def _draw_epochs(
    ax: Axes, epochs: np.ndarray, losses: np.ndarray, name: str, look: _style.Look
) -> None:
    marker = "o" if len(epochs) < 3 else ""
    ax.plot(epochs, losses, marker=marker, label=name, **look.line)


def _label_epochs(ax: Axes, label: str) -> None:
    _style.plain_log(ax, "y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel=label)


@_style.styled
def convergence(groups: Mapping[str, Sequence[Curve]]) -> Figure:
    """Return a figure of score and effective size against the number of particles.

    Parameters
    ----------
    groups : name -> curves, each [(n_particles, score, effective size), ...]
        Curves of a group have one look. Scores are relative to the last of the curve.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("groups", groups, "at least one")
    fig = _style.new_figure(_style.COLUMN, 3.2)
    left, right = fig.subplots(1, 2)
    for i, (name, curves) in enumerate(groups.items()):
        look: dict[str, Any] = {"color": _style.PALETTE[i % 6], "linewidth": 1.0}
        look |= {"marker": "o", "markersize": 3.0}
        for k, curve in enumerate(curves):
            sizes, scores, effective = np.array(curve, dtype=float).T
            excess = 100.0 * (scores / scores[-1] - 1.0)
            left.plot(sizes, excess, label=None if k else name, **look)
            right.plot(sizes, 100.0 * effective / sizes, **look)
    left.set_yscale("symlog", linthresh=1.0)
    left.yaxis.set_major_locator(FixedLocator(_EXCESSES))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set_ylabel("score above that of the last size (%)")
    right.set_ylabel("effective particles (%)")
    right.set_ylim(0.0, 100.0)
    for ax in (left, right):
        _style.plain_log(ax, "x")
        ax.set_xlabel("particles")
    fig.legend(loc="outside upper center", ncols=4)
    return fig


@_style.styled
def pit_histograms(
    shares: Mapping[str, np.ndarray], *, among: Collection[str] = ()
) -> Figure:
    """Return histograms of the probability below the truth, a row per method.

    Parameters
    ----------
    shares : method -> (3, n_bins)
        As `verification.pit_histogram` gives them; they are equal (the line) if the
        estimated distributions are right.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    return _histograms(shares, among, "probability below the truth", in_unit=True)


@_style.styled
def rank_histograms(
    shares: Mapping[str, np.ndarray], *, among: Collection[str] = ()
) -> Figure:
    """Return rank histograms of the truth among the members, a row per method.

    Parameters
    ----------
    shares : method -> (3, n_members + 1)
        Share of analyses with each rank, by component. They are equal (the line) if the
        truth is statistically like a member.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    return _histograms(shares, among, "members below the truth", in_unit=False)


def _histograms(
    shares: Mapping[str, np.ndarray],
    among: Collection[str],
    label: str,
    *,
    in_unit: bool,
) -> Figure:
    """Return a row of three histograms per method; `in_unit`: of values in 0 to 1."""
    _style.require("shares", shares)
    fig = _style.new_figure(_style.COLUMN, 0.5 + 1.5 * len(shares))
    axes = fig.subplots(len(shares), 3, sharey="row", squeeze=False)
    drawn = _style.looks(shares, among)
    for row, (name, given) in zip(axes, shares.items(), strict=True):
        of_method = _checks.array(f"shares[{name!r}]", given, shape=(3, None))
        places = np.arange(of_method.shape[1], dtype=float)
        width = 1.0 / places.size if in_unit else 1.0
        places = (places + 0.5) * width if in_unit else places
        for ax, component, values in zip(row, "xyz", of_method, strict=True):
            ax.bar(places, values, width=width, color=drawn[name].color, alpha=0.8)
            ax.axhline(1.0 / places.size, color="black", linewidth=0.8)
            ax.set_title(f"{name}: {component}", fontsize=8.5)
            ax.grid(visible=False, axis="x")
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=not in_unit))
    fig.supxlabel(label)
    fig.supylabel("share of analyses")
    return fig


@_style.styled
def spread_against_error(
    methods: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ratios: Mapping[str, float] | None = None,
    *,
    among: Collection[str] = (),
    ax: Axes | None = None,
    style: str = _style.OURS,
) -> Figure:
    """Return a figure of the error against the claimed spread, in bins of spread.

    On the diagonal the spread is the true error; above it the method claims too small
    an error.

    Parameters
    ----------
    methods : method -> (spread, error), each (n_bins,)
        Root mean squares in each bin.
    ratios : method -> ratio of spread to error over all analyses, optional
        Shown in the legend.
    among : collection of str
        All methods of the experiment, so that a method has one look in all figures.
    ax, style
        Axes of your own to draw in; "user" to draw with your own rcParams.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    _style.require("methods", methods, "at least one")
    fig, ax, legend = _style.single(4.0, ax, style)
    ends = []
    for name, look in _style.looks(methods, among).items():
        spread, error = methods[name]
        spread = _checks.array(f"methods[{name!r}]", spread, shape=(None,))
        error = _checks.array(f"methods[{name!r}]", error, shape=spread.shape)
        text = f"{name}: {ratios[name]:.2f}" if ratios and name in ratios else name
        ax.plot(
            spread, error, label=text, marker=look.marker, markersize=4.0, **look.line
        )
        ends += [*spread[np.isfinite(spread)], *error[np.isfinite(error)]]
    positive = [value for value in ends if value > 0.0]
    if positive:
        both = (0.8 * min(positive), 1.25 * max(positive))
        ax.plot(both, both, color=_style.BLACK, linewidth=0.8, zorder=0.5)
        ax.set(xlim=both, ylim=both)
        _style.plain_log(ax, "x")
        _style.plain_log(ax, "y")
    ax.set(
        xlabel="claimed spread (root mean square)",
        ylabel="error made (root mean square)",
    )
    title = "spread over error, all analyses" if ratios else None
    legend(loc="outside right upper", title=title)
    return fig
