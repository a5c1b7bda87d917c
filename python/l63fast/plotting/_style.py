"""What all figures share: looks of methods, fonts, axis manners, and how to save.

A figure function says what is its own; how axes are made, rows are named, logarithmic
axes are marked and files are written is here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from dataclasses import dataclass
from functools import wraps
from itertools import cycle
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import numpy as np
from matplotlib import rcParams, ticker
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.style import context

from l63fast import _checks
from l63fast.errors import ArgumentValueError

# Okabe & Ito (2008), Color Universal Design: told apart by the colour-blind.
BLACK: Final = "#000000"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
BLUE: Final = "#0072B2"
RED: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
INDIGO: Final = "#332288"  # of Tol (2021): 4D-Var is not a shade of 3D-Var
GREY: Final = "#777777"
PALETTE: Final = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)

COLUMN: Final = 6.3  # text width of an A4 thesis (inches)
PAGE: Final = 9.8  # text height, for a figure set sideways (inches)

TIME_LABEL: Final = "time (time units)"

_RC: Final[dict[str, Any]] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "figure.labelsize": 9.0,
    "figure.titlesize": 9.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8.5,
    "legend.frameon": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.dashed_pattern": (4.0, 1.8),
    "path.simplify_threshold": 0.3,
    "savefig.dpi": 150,
    "svg.hashsalt": "l63fast",
}

_P = ParamSpec("_P")
_R = TypeVar("_R")
OURS: Final = "l63fast"
_STYLES: Final = (OURS, "user")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a function that draws in our style, and in the user's if `style` says so.

    Ours begins with matplotlib's defaults: a user's matplotlibrc must not change it.
    """

    @wraps(draw)
    def drawn(*args: _P.args, **how: _P.kwargs) -> _R:
        if _checks.choice("style", how.get("style", OURS), _STYLES) == "user":
            return draw(*args, **how)
        with context(["default", _RC]):
            return draw(*args, **how)

    return drawn


# Which multiples of a power of ten are marked, by how far the axis reaches.
_LOG_STEPS: Final = (
    (8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)),
    (100.0, (1.0, 2.0, 5.0)),
    (1500.0, (1.0, 3.0)),
    (np.inf, (1.0,)),
)


@dataclass(frozen=True)
class Look:
    """How one method is drawn wherever it appears."""

    color: str
    linestyle: str = "-"
    marker: str = "o"

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a curve without markers."""
        return {"color": self.color, "linestyle": self.linestyle}

    @property
    def mark(self) -> dict[str, Any]:
        """Arguments of markers without a curve."""
        return {"color": self.color, "linestyle": "none", "marker": self.marker}


# What trajectories are drawn with, whatever the method is that made the analysis.
TRUTH: Final = Look(BLACK)
ESTIMATES: Final = {"background": Look(RED, "--"), "analysis": Look(BLUE)}

# By kind: schemes of settings files, models of encoders.
_LOOKS: Final = {
    "truth": TRUTH,
    "background": Look(RED, "--", "v"),
    "climatology": Look(GREY, ":", "s"),
    "3dvar": Look(GREEN, "-.", "D"),
    "4dvar": Look(INDIGO, "-", "p"),
    "oi": Look(GREY, "--", "X"),
    "extkf": Look(SKY, "--", "v"),
    "optimum": Look(BLACK, "-", "*"),
    "enkf": Look(ORANGE, "-", "^"),
    "pf": Look(PURPLE, "-", "P"),
    "analysis": ESTIMATES["analysis"],
    "mlp": Look(SKY),
    "gru": Look(BLUE),
    "lstm": Look(PURPLE),
}
_OTHERS: Final = (ORANGE, SKY, PURPLE, GREEN, BLUE, RED)  # kinds that are not known
_SIBLINGS: Final = (
    ("", "", 0.0),
    ("--", "s", -0.4),
    (":", "v", 0.4),
    ("-.", "d", -0.65),
    ("-", "h", 0.6),
    ("--", "<", -0.2),
    (":", ">", 0.2),
    ("-.", "H", -0.8),
)


def looks(methods: Iterable[str], among: Collection[str] = ()) -> dict[str, Look]:
    """Return looks that tell methods apart, also those of one kind or one colour.

    EnKFs of two sizes keep the colour of their kind and differ in its shade, line and
    marker, as do kinds of one colour in shade; the shortest name has the plain look.
    `among` are all methods of an experiment: given the same, every figure draws a
    method alike; one that is not among them, such as "optimum" for those of several
    cases, has the plain look of its kind. A mapping says what kind each is, such as
    "3dvar" or "gru"; without it the kind is how the label begins, as in "GRU, L=10" or
    "3D-Var". Methods of no known kind take the colours in turn.
    """
    chosen = list(methods)
    others = cycle(_OTHERS)
    found: dict[str, Look] = {}
    for names in (among, [name for name in chosen if name not in among]):
        seen: dict[Look | str, int] = {}
        for method in sorted(names, key=len):
            base = _LOOKS.get(kind_of(method, among)) or Look(next(others))
            for group in (base, base.color):
                seen[group] = seen.get(group, -1) + 1
            line, marker, _ = _SIBLINGS[seen[base] % len(_SIBLINGS)]
            *_, shade = _SIBLINGS[seen[base.color] % len(_SIBLINGS)]
            color, line = _shaded(base.color, shade), line or base.linestyle
            found[method] = Look(color, line, marker or base.marker)
    return {name: found[name] for name in chosen}


def kind_of(method: str, among: Collection[str]) -> str:
    """Return the kind of a method: what `among` says, or how its name begins."""
    said = method.partition(",")[0].lower().replace("-", "")
    return str(among.get(method, said)) if isinstance(among, Mapping) else said


def _shaded(color: str, shade: float) -> str:
    """Return a colour moved towards white (above 0) or black (below)."""
    end = float(shade > 0.0)
    red, green, blue = (v + abs(shade) * (end - v) for v in to_rgb(color))
    return str(to_hex((red, green, blue)))


def require(name: str, given: Sized, what: str = "at least one method") -> None:
    """Refuse to draw nothing."""
    if not len(given):
        raise ArgumentValueError(f"{name}: expected {what}, got none")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) outside pyplot's global state."""
    return Figure(figsize=(width, height), layout="constrained")


def single(
    height: float, ax: Axes | None, style: str
) -> tuple[Figure, Axes, Callable[..., Any]]:
    """Return a figure, the pair of axes to draw in, and what adds the legend.

    The legend is outside of axes of ours, and in those of the user, who decides on all
    else of the figure.
    """
    if ax is None and style == OURS:
        fig = new_figure(COLUMN, height)
        return fig, fig.subplots(), fig.legend
    if ax is None:
        ax = Figure().subplots()
    fig, own = cast(Figure, ax.get_figure(root=True)), ax.legend
    return fig, ax, lambda title=None, **_: own(title=title)


def panel_grid(n: int, n_columns: int, top: float, height: float) -> tuple[Figure, Any]:
    """Return a figure and (n,) panels of one height that share both axes."""
    n_rows = -(-n // n_columns)
    fig = new_figure(COLUMN, top + height * n_rows)
    axes = fig.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for place, spare in enumerate(axes.flat[n:], start=n):
        spare.remove()
        axes.flat[place - n_columns].tick_params(labelbottom=True)
    return fig, axes.flat[:n]


def name_rows(ax: Axes, names: Collection[str]) -> None:
    """Give each name a row, the first on top."""
    ax.set_yticks(range(len(names)), list(names))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0.0)
    ax.grid(visible=False, axis="y")


def label_rows(axes: np.ndarray, labels: Iterable[str]) -> None:
    """Label the first panel of each row of (n_rows, n_columns), all at one distance."""
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)
    axes[0, 0].figure.align_ylabels(axes[:, 0])


def beside(ax: Axes, y: float, text: str, offset: float, **options: Any) -> None:
    """Write text at a height, so many points to the right of the axes."""
    ax.annotate(
        text, (1.0, y), xycoords=ax.get_yaxis_transform(), xytext=(offset, 0.0),
        textcoords="offset points", va="center", annotation_clip=False,
        **{"fontsize": rcParams["ytick.labelsize"], **options},
    )  # fmt: skip


def mark_lone_points(axes: np.ndarray) -> None:
    """Give lines of a single point a marker, without which they cannot be seen."""
    for line in (line for ax in axes.flat for line in ax.lines):
        if len(line.get_xdata()) == 1 and line.get_marker() == "None":
            line.set(marker="D", markersize=3.4, markerfacecolor="none")


def plain_log(ax: Axes, which: str, *, narrow: bool = False) -> None:
    """Make one axis logarithmic, with marks in plain numbers, never fewer than two.

    A narrow one has those of an axis that reaches half as far again.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = sorted(axis.get_view_interval())
    ratio = high / low
    axis.set_major_locator(log_marks(ratio, narrow=narrow))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_locator(ticker.NullLocator())


def log_marks(ratio: float, *, narrow: bool = False) -> ticker.Locator:
    """Return what marks a logarithmic axis of that reach.

    One below 3 is nearly linear, and may hold no power of ten, or 25 tenths of one.
    """
    if ratio < 3.0:
        return ticker.MaxNLocator(4 if narrow else 6, steps=[1, 2, 5, 10])
    reach = ratio**1.5 if narrow else ratio
    subs = next(steps for most, steps in _LOG_STEPS if reach < most)
    return ticker.LogLocator(subs=subs, numticks=20 if ratio < 1e5 else 7)


def score_axis(ax: Axes, which: str, label: str, *, in_decibel: bool) -> None:
    """Label an axis of scores, logarithmic unless they are in decibels."""
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(label)
    if not in_decibel and ax.has_data():
        plain_log(ax, which)


def _plain(value: float) -> str:
    if 9e-5 < value < 1e6:
        return f"{value:g}" if value < 1e4 else f"{value:,.0f}"
    return f"$10^{{{round(math.log10(value))}}}$" if value > 0.0 else ""


def shown(score: float) -> str:
    """Return a score with three digits; one that is not finite is a divergence."""
    if not math.isfinite(score):
        return "diverged"
    return f"{score:#.3g}".rstrip(".") if abs(score) < 999.5 else f"{score:.1e}"


@styled
def save_figure(fig: Figure, directory: str | Path, name: str) -> tuple[Path, Path]:
    """Write `name`.png (150 dpi) and `name`.svg; return both paths.

    Parameters
    ----------
    fig : Figure
    directory : path
        Made if it is not there.
    name : str
        File name without suffix.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the directory or the name cannot be one.
    """
    folder = folder_for(directory, name)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    fig.savefig(png, metadata={"Software": None})
    fig.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


def folder_for(directory: str | Path, name: str) -> Path:
    """Return the directory, made if need be, after a look at the file name."""
    _checks.file_name("name", name)
    folder = _checks.path("directory", directory)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
