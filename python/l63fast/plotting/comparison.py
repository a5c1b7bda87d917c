"""All methods on all observation operators at one look."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast.errors import ArgumentValueError
from l63fast.observation import ObservationOperator
from l63fast.plotting._style import COLUMN, PAGE, look, new_figure, plain_log, styled

__all__ = ["overview"]

Score = tuple[float, float, float]
_NO_SCORE: Final[Score] = (math.nan, math.nan, math.nan)
_WIDE: Final = 3  # so many panels leave room for all marks


@styled
def overview(
    scores: Mapping[str, Mapping[str, Score]],
    *,
    reference: str = "3D-Var",
    labels: Mapping[str, str] | None = None,
    best: Mapping[str, Collection[str]] | None = None,
    ratios: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Return the rmse of every method with its interval, one panel per operator.

    Parameters
    ----------
    scores : operator name -> method -> (rmse, low, high)
        Low and high bound the 95 % interval; an rmse that is not finite is shown as
        "diverged". Methods stand in the order of their first appearance.
    reference : str
        Method that the percentages compare with.
    labels : operator -> str, optional
        What the score of this operator is; "rmse" where it is not given.
    best : operator -> methods, optional
        Those whose score is bold.
    ratios : operator -> method -> float, optional
        Paired ratios to the reference, in place of those of the scores.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    methods = list(dict.fromkeys(name for row in scores.values() for name in row))
    if not methods:
        raise ArgumentValueError("scores: expected at least one method, got none")
    width = PAGE if len(scores) > 1 else COLUMN
    fig = new_figure(width, 1.15 + 0.26 * len(methods))
    fig.set_layout_engine("constrained", wspace=0.06)
    axes = fig.subplots(1, len(scores), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (operator, row) in zip(axes, scores.items(), strict=True):
        _draw(ax, row, methods, row.get(reference, _NO_SCORE)[0])
        observed = ", ".join(ObservationOperator(operator).labels)
        ax.set_title(f"observed: {observed}", loc="left")
        ax.set_xlabel((labels or {}).get(operator, "rmse"))
        base = row.get(reference, _NO_SCORE)[0]
        own = {method: score[0] / base for method, score in row.items()}
        paired = {**own, **(ratios or {}).get(operator, {})}
        _write(ax, row, methods, reference, (best or {}).get(operator, ()), paired)
    for ax in axes:  # after all are drawn, as they share the axis
        plain_log(ax, "x", narrow=len(axes) > _WIDE)
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    return fig


def _draw(
    ax: Axes, row: Mapping[str, Score], methods: Sequence[str], reference: float
) -> None:
    for y, method in enumerate(methods):
        value, low, high = row.get(method, _NO_SCORE)
        if not math.isfinite(value):
            continue
        drawn = look(method)
        ax.plot([low, high], [y, y], color=drawn.color, linewidth=1.8)
        ax.plot(
            value,
            y,
            marker=drawn.marker,
            markersize=6.0,
            color=drawn.color,
            linestyle="none",
        )
    if math.isfinite(reference):
        drawn = look("3D-Var")
        ax.axvline(reference, color=drawn.color, linestyle="-.", linewidth=0.8)
    ax.tick_params(axis="y", length=0.0)


def _write(
    ax: Axes,
    row: Mapping[str, Score],
    methods: Sequence[str],
    reference: str,
    best: Collection[str],
    ratios: Mapping[str, float],
) -> None:
    """Write each score and its difference from the reference beside its row."""
    for y, method in enumerate(methods):
        if method not in row:
            continue
        value = row[method][0]
        weight = "bold" if method in best else "normal"
        _beside(ax, y, 36.0, f"{value:.3f}" if math.isfinite(value) else "—", weight)
        if not math.isfinite(value):
            _beside(ax, y, 82.0, "diverged", weight)
        elif method != reference and math.isfinite(ratios[method]):
            _beside(ax, y, 82.0, _change(ratios[method]), weight)
    _beside(ax, -0.8, 82.0, f"vs {reference}", "normal")


def _change(ratio: float) -> str:
    if ratio >= 2.0:
        return f"× {ratio:.1f}"
    return f"{100.0 * (ratio - 1.0):+z.1f} %".replace("-", "−")


def _beside(ax: Axes, y: float, offset: float, text: str, weight: str) -> None:
    """Write text that ends so many points to the right of the axes."""
    ax.annotate(
        text,
        (1.0, y),
        xycoords=ax.get_yaxis_transform(),
        xytext=(offset, 0.0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=8.5,
        fontweight=weight,
        annotation_clip=False,
    )
