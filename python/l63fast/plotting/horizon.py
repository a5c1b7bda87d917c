"""Growth of the error in forecasts from the analyses of several methods."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from l63fast import _checks
from l63fast.errors import ArgumentValueError
from l63fast.plotting._style import (
    BLACK,
    COLUMN,
    GREY,
    looks,
    new_figure,
    plain_log,
    styled,
)

__all__ = ["ErrorGrowth", "forecast_growth", "horizon"]


class ErrorGrowth(NamedTuple):
    """Errors of forecasts (n_leads,) at lead times (n_leads,), in time units."""

    lead: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def horizon(growth: ErrorGrowth, limit: float) -> float:
    """Return the lead time at which the mean error reaches a limit, infinite if never.

    Between two lead times the logarithm of the error is taken to be linear.
    """
    lead, mean = np.asarray(growth.lead), np.asarray(growth.mean)
    above = np.flatnonzero(~(mean < limit))
    if not above.size:
        return math.inf
    k = int(above[0])
    if k == 0 or not np.isfinite(mean[k]) or mean[k - 1] <= 0.0:
        return float(lead[k])
    part = math.log(limit / mean[k - 1]) / math.log(mean[k] / mean[k - 1])
    return float(lead[k - 1] + part * (lead[k] - lead[k - 1]))


@styled
def forecast_growth(
    curves: Mapping[str, ErrorGrowth],
    *,
    limit: float,
    band: str = "",
    label: str = "error of the forecast (rms)",
    among: Collection[str] = (),
) -> Figure:
    """Return the mean error of forecasts against their lead time, log-linear.

    Parameters
    ----------
    curves : method -> ErrorGrowth
    limit : float
        Error up to which a forecast is taken to be of use; the lead time at which the
        mean reaches it stands in the legend.
    band : str
        The method whose 10-90 % band is drawn.
    label : str
    among : collection of str
        All methods of the experiment, so that each looks alike in all its figures.

    Raises
    ------
    ArgumentValueError
        If there is nothing to draw.
    """
    if not curves:
        raise ArgumentValueError("curves: expected at least one method, got none")
    limit = _checks.real("limit", limit, above=0.0)
    fig = new_figure(COLUMN, 3.9)
    ax = fig.subplots()
    drawn = looks(curves, among)
    for method, growth in curves.items():
        at = horizon(growth, limit)
        text = f"{method}: {at:.1f}" if math.isfinite(at) else f"{method}: beyond"
        ax.plot(
            growth.lead, growth.mean, label=text, color=drawn[method].color,
            linestyle=drawn[method].linestyle,
        )  # fmt: skip
        if method == band:
            ax.fill_between(
                growth.lead, growth.low, growth.high, color=drawn[method].color,
                alpha=0.12, linewidth=0.0,
            )  # fmt: skip
    ax.axhline(limit, color=GREY, linewidth=0.8, linestyle=":")
    ax.annotate(
        f"{limit:g}", (1.0, limit), xycoords=ax.get_yaxis_transform(), color=BLACK,
        xytext=(3, 0), textcoords="offset points", va="center", fontsize=8.0,
    )  # fmt: skip
    plain_log(ax, "y")
    ax.margins(x=0.0)
    ax.set_xlabel("lead time (time units)")
    ax.set_ylabel(label)
    title = f"lead time at which the mean reaches {limit:g}"
    fig.legend(
        loc="outside upper center", ncols=min(len(curves), 3), title=title,
        title_fontsize=8.5,
    )  # fmt: skip
    return fig
