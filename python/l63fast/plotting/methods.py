"""Cycled methods beside each other: scores with published ranges, claims, noise."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    COLUMN,
    GREY,
    Look,
    looks,
    new_figure,
    plain_log,
    shown,
    styled,
)

__all__ = [
    "MethodScore",
    "method_claims",
    "method_scores",
]


_EDGE: Final[dict[str, Any]] = {"edgecolor": GREY, "linewidth": 1.0}  # one value
_WIDE: Final = 5.0  # a range of ratios that a linear axis cannot show


class MethodScore(NamedTuple):
    """A score, its 95 % interval, and the published range (NaN if there is none)."""

    value: float
    interval: tuple[float, float]
    published: tuple[float, float] = (math.nan, math.nan)


@styled
def method_scores(
    scores: Mapping[str, MethodScore],
    *,
    label: str,
    title: str = "",
    among: Collection[str] = (),
) -> Figure:
    """Return the score of every method beside the range that was published for it.

    Parameters
    ----------
    scores : method -> MethodScore
    label : str
        What the score is; "dB" is drawn on a linear axis.
    title : str
        On which data.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    fig, ax = _rows(scores, title)
    drawn = looks(scores, among)
    for y, (method, score) in enumerate(scores.items()):
        low, high = score.published
        if math.isfinite(low):
            ax.barh(y, high - low, 0.62, left=low, color=GREY, alpha=0.35, **_EDGE)
        _draw(ax, y, drawn[method], score)
        _beside(ax, y, _written(score.value, label))
    ax.use_sticky_edges = False  # a bar must not end at the edge of the axes
    ax.autoscale_view()
    found = any(math.isfinite(score.value) for score in scores.values())
    if found and not label.endswith("dB"):
        plain_log(ax, "x")
    ax.set_xlabel(label)
    if any(math.isfinite(score.published[0]) for score in scores.values()):
        ax.barh(0, math.nan, color=GREY, alpha=0.35, label="published")
        fig.legend(loc="outside lower right")
    return fig


@styled
def method_claims(
    ratios: Mapping[str, MethodScore], *, title: str = "", among: Collection[str] = ()
) -> Figure:
    """Return how far innovations have the covariance that each method claims for them.

    Parameters
    ----------
    ratios : method -> MethodScore
        Mean of d' S^-1 d / m over the innovations d: 1 if the claim S is right.
    title : str
        On which data.
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    fig, ax = _rows(ratios, title)
    drawn = looks(ratios, among)
    for y, (method, ratio) in enumerate(ratios.items()):
        _draw(ax, y, drawn[method], ratio)
        _beside(ax, y, f"{ratio.value:.2f}")
    ax.axvline(1.0, color="black", linewidth=0.8, zorder=0.5)
    finite = [ratio.value for ratio in ratios.values() if math.isfinite(ratio.value)]
    if max(finite, default=1.0) > _WIDE * min(finite, default=1.0):
        plain_log(ax, "x")
    ax.set_xlabel("mean of d′ S⁻¹ d / m (innovations d, claimed covariance S)")
    return fig


def _written(value: float, label: str) -> str:
    if not math.isfinite(value) or label.endswith("dB"):
        return shown(value)
    return f"{value:.3g}" if value < 0.1 else f"{value:.3f}"


def _rows(scores: Mapping[str, MethodScore], title: str) -> tuple[Figure, Axes]:
    if not scores:
        raise ArgumentValueError("scores: expected at least one method, got none")
    fig = new_figure(COLUMN, 1.2 + 0.27 * len(scores))
    ax = fig.subplots()
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set_ylim(len(scores) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0.0)
    ax.grid(visible=False, axis="y")
    ax.set_title(title, loc="left")
    return fig, ax


def _draw(ax: Axes, y: int, drawn: Look, score: MethodScore) -> None:
    if not math.isfinite(score.value):
        return
    ax.plot(score.interval, [y, y], color=drawn.color, linewidth=1.8)
    ax.plot(score.value, y, marker=drawn.marker, color=drawn.color, markersize=5.0)


def _beside(ax: Axes, y: int, text: str) -> None:
    ax.annotate(
        text, (1.0, y), xycoords=ax.get_yaxis_transform(), xytext=(40.0, 0.0),
        textcoords="offset points", ha="right", va="center", fontsize=8.0,
        annotation_clip=False,
    )  # fmt: skip
