"""What all figures share: looks of methods, fonts, axes, and the writing of files."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
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

# Okabe & Ito (2008), Color Universal Design: colour-blind readers can distinguish them.
BLACK: Final = "#000000"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
BLUE: Final = "#0072B2"
RED: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
INDIGO: Final = "#332288"  # Tol (2021); for 4D-Var, unlike the green of 3D-Var
GREY: Final = "#777777"
PALETTE: Final = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)

COLUMN: Final = 6.3  # text width of an A4 thesis (inches)
PAGE: Final = 9.8  # text height, for a rotated figure (inches)

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
    """Return a function that draws in l63fast's style, or the user's (`style="user"`).

    l63fast's style begins with matplotlib's defaults, so that a user's matplotlibrc
    does not change it.
    """

    @wraps(draw)
    def drawn(*args: _P.args, **options: _P.kwargs) -> _R:
        if _checks.choice("style", options.get("style", OURS), _STYLES) == "user":
            return draw(*args, **options)
        with context(["default", _RC]):
            return draw(*args, **options)

    return drawn


# Marked multiples of a power of ten, by the ratio of the ends of the axis.
_LOG_STEPS: Final = (
    (8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)),
    (100.0, (1.0, 2.0, 5.0)),
    (1500.0, (1.0, 3.0)),
    (np.inf, (1.0,)),
)


@dataclass(frozen=True)
class Look:
    """Colour, line and marker of one method in all figures."""

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


# Looks of truth, background and analysis in figures of trajectories, for every method.
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
_OTHERS: Final = (ORANGE, SKY, PURPLE, GREEN, BLUE, RED)  # of unknown kinds
# Line, marker and change of shade of the second, third, ... method of one kind.
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
    """Return a different look for each method.

    The colour is that of the method's kind ("3dvar", "gru"). Several methods of one
    kind, such as EnKFs of two sizes, differ in shade, line and marker; the one with the
    shortest name has the plain look. Methods of unknown kinds take other colours.

    Parameters
    ----------
    methods : labels of methods
    among : collection of str, or mapping from label to kind
        All methods of the experiment; with the same `among` every figure gives a method
        the same look. A method that is not in it has the plain look of its kind.
        Without a mapping the kind is the start of the label ("GRU, L=10", "3D-Var").
    """
    chosen = list(methods)
    others = cycle(_OTHERS)
    looks_of: dict[str, Look] = {}
    for names in (among, [name for name in chosen if name not in among]):
        count: dict[Look | str, int] = {}
        for method in sorted(names, key=len):
            base = _LOOKS.get(kind_of(method, among)) or Look(next(others))
            for group in (base, base.color):
                count[group] = count.get(group, -1) + 1
            line, marker, _ = _SIBLINGS[count[base] % len(_SIBLINGS)]
            *_, shade = _SIBLINGS[count[base.color] % len(_SIBLINGS)]
            color, line = _shaded(base.color, shade), line or base.linestyle
            looks_of[method] = Look(color, line, marker or base.marker)
    return {name: looks_of[name] for name in chosen}


def kind_of(method: str, among: Collection[str]) -> str:
    """Return the kind of a method: from the mapping, or the start of its label."""
    start = method.partition(",")[0].lower().replace("-", "")
    return str(among.get(method, start)) if isinstance(among, Mapping) else start


def _shaded(color: str, shade: float) -> str:
    """Return a colour moved towards white (above 0) or black (below)."""
    end = float(shade > 0.0)
    red, green, blue = (v + abs(shade) * (end - v) for v in to_rgb(color))
    return str(to_hex((red, green, blue)))


def require(name: str, given: Sized, what: str = "at least one method") -> None:
    """Raise ArgumentValueError if there is nothing to draw."""
    if not len(given):
        raise ArgumentValueError(f"{name}: expected {what}, got none")


class _ShownFigure(Figure):
    """A figure that a notebook shows, also before it has imported pyplot."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) outside pyplot's global state."""
    return _ShownFigure(figsize=(width, height), layout="constrained")


def single(
    height: float, ax: Axes | None, style: str
) -> tuple[Figure, Axes, Callable[..., Any]]:
    """Return a figure, its axes, and the function that adds the legend.

    In a figure of l63fast the legend is outside the axes; in axes of the user it is
    inside, because the rest of the figure belongs to the user.
    """
    if ax is None and style == OURS:
        fig = new_figure(COLUMN, height)
        return fig, fig.subplots(), fig.legend
    if ax is None:
        ax = _ShownFigure().subplots()
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
    """Label the rows of an axis with names, the first on top."""
    ax.set_yticks(range(len(names)), list(names))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0.0)
    ax.grid(visible=False, axis="y")


def label_rows(axes: np.ndarray, labels: Iterable[str]) -> None:
    """Label the first panel of each row of (n_rows, n_columns), aligned."""
    for ax, label in zip(axes[:, 0], labels, strict=True):
        ax.set_ylabel(label)
    axes[0, 0].figure.align_ylabels(axes[:, 0])


def write_at_right(
    ax: Axes, y: float, text: str, offset: float, **options: Any
) -> None:
    """Write text at height y, `offset` points to the right of the axes."""
    ax.annotate(
        text, (1.0, y), xycoords=ax.get_yaxis_transform(), xytext=(offset, 0.0),
        textcoords="offset points", va="center", annotation_clip=False,
        **{"fontsize": rcParams["ytick.labelsize"], **options},
    )  # fmt: skip


def mark_lone_points(axes: np.ndarray) -> None:
    """Give lines of a single point a marker, because they would be invisible."""
    for line in (line for ax in axes.flat for line in ax.lines):
        if len(line.get_xdata()) == 1 and line.get_marker() == "None":
            line.set(marker="D", markersize=3.4, markerfacecolor="none")


def plain_log(ax: Axes, which: str, *, narrow: bool = False) -> None:
    """Make one axis logarithmic, with at least two marks in plain numbers.

    A narrow axis gets fewer marks.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = sorted(axis.get_view_interval())
    ratio = high / low
    axis.set_major_locator(log_marks(ratio, narrow=narrow))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_locator(ticker.NullLocator())


def log_marks(ratio: float, *, narrow: bool = False) -> ticker.Locator:
    """Return the locator of marks for a logarithmic axis with this ratio of its ends.

    A ratio below 3 gets the marks of a linear axis: there may be no power of ten in it.
    """
    if ratio < 3.0:
        return ticker.MaxNLocator(4 if narrow else 6, steps=[1, 2, 5, 10])
    reach = ratio**1.5 if narrow else ratio
    subs = next(steps for most, steps in _LOG_STEPS if reach < most)
    return ticker.LogLocator(subs=subs, numticks=20 if ratio < 1e5 else 7)


def score_axis(ax: Axes, which: str, label: str, *, in_decibel: bool) -> None:
    """Label an axis of scores; it is logarithmic unless they are in decibels."""
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(label)
    if not in_decibel and ax.has_data():
        plain_log(ax, which)


def _plain(value: float) -> str:
    if 9e-5 < value < 1e6:
        return f"{value:g}" if value < 1e4 else f"{value:,.0f}"
    return f"$10^{{{round(math.log10(value))}}}$" if value > 0.0 else ""


def shown(score: float) -> str:
    """Return a score as text with three digits, or "not finite"."""
    if not math.isfinite(score):
        return "not finite"
    return f"{score:#.3g}".rstrip(".") if abs(score) < 999.5 else f"{score:.1e}"


@styled
def save_figure(fig: Figure, directory: str | Path, name: str) -> tuple[Path, Path]:
    """Write `name`.png (150 dpi) and `name`.svg; return both paths.

    Parameters
    ----------
    fig : Figure
    directory : path
        Created if it does not exist.
    name : str
        File name without suffix.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the directory or the name is not a valid one.
    """
    folder = folder_for(directory, name)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    fig.savefig(png, metadata={"Software": None})
    fig.savefig(svg, metadata={"Date": None, "Creator": None})
    return png, svg


def folder_for(directory: str | Path, name: str) -> Path:
    """Return the directory, created if needed; the file name is checked first."""
    _checks.file_name("name", name)
    folder = _checks.path("directory", directory)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
