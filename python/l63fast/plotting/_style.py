"""What all figures share: looks of methods, fonts, axis manners, and how to save.

A figure function says what is its own; how axes are made, rows are named, logarithmic
axes are marked and files are written is here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sized
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

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
    "savefig.dpi": 150,
    "svg.hashsalt": "l63fast",
}

# Reset to matplotlib's defaults first: a user's matplotlibrc must not change a figure.
styled = style.context(["default", _RC])


# Which multiples of a power of ten are marked, by how far the axis reaches.
_LOG_STEPS: Final = (
    (1.5, tuple(np.arange(1.0, 10.0, 0.1))),
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
    method alike. A mapping says what kind each is, such as "3dvar" or "gru"; without it
    the kind is the label, as in "GRU" or "3D-Var". Methods of no known kind take the
    colours in turn.
    """
    chosen = list(methods)
    kinds = among if isinstance(among, Mapping) else {}
    names = [*among, *(name for name in chosen if name not in among)]
    others = cycle(_OTHERS)
    seen: dict[Look | str, int] = {}
    found: dict[str, Look] = {}
    for method in sorted(names, key=len):
        kind = kinds.get(method, method.lower().replace("-", ""))
        base = _LOOKS.get(kind) or Look(next(others))
        for group in (base, base.color):
            seen[group] = seen.get(group, -1) + 1
        line, marker, _ = _SIBLINGS[seen[base] % len(_SIBLINGS)]
        *_, shade = _SIBLINGS[seen[base.color] % len(_SIBLINGS)]
        found[method] = Look(
            _shaded(base.color, shade), line or base.linestyle, marker or base.marker
        )
    return {name: found[name] for name in chosen}


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


def single(height: float) -> tuple[Figure, Axes]:
    """Return a figure of the width of the text with one pair of axes."""
    fig = new_figure(COLUMN, height)
    return fig, fig.subplots()


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
        **{"fontsize": 8.0, **options},
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
    reach = ratio**1.5 if narrow else ratio
    subs = next(steps for most, steps in _LOG_STEPS if reach < most)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20 if ratio < 1e5 else 7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_locator(NullLocator())


def _plain(value: float) -> str:
    if 9e-5 < value < 1e6:
        return f"{value:g}" if value < 1e4 else f"{value:,.0f}"
    return f"$10^{{{round(math.log10(value))}}}$" if value > 0.0 else ""


def shown(score: float) -> str:
    """Return a score as figures print it; one that is not finite is a divergence."""
    if not math.isfinite(score):
        return "diverged"
    return f"{score:.2f}" if score < 1000.0 else f"{score:.1e}"


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
