"""Figures of errors: their growth, where they are, and the increments against them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import plotting
from l63fast.experiments.report.scene import (
    Chapter,
    Picture,
    Rows,
    Scene,
    as_float,
    samples_of,
)
from l63fast.experiments.tables import case_title
from l63fast.observation import ObservationOperator
from l63fast.plotting import ErrorGrowth, Increments

if TYPE_CHECKING:
    import xarray

__all__ = ["attractor", "gain", "horizon", "increments"]

Found = dict[str, "xarray.Dataset"]
_MOST_CURVES: Final = 9
_MOST_MAPS: Final = 6
_MOST_ROWS: Final = 4
_FEWEST: Final = 30  # analyses in a cell of the map whose mean square counts


def _each(
    scene: Scene,
    most: int,
    draw: Callable[[Scene, Rows, Found], Picture | None],
    having: str = "lead",
) -> Chapter:
    """Return the picture of each featured case that has one."""
    chapter = Chapter()
    for rows in scene.featured:
        found = scene.diagnosed(rows, most, having=having)
        picture = None
        if found:
            picture = draw(scene, rows, found)
        if picture is not None:
            chapter.pictures.append(picture)
    return chapter


def horizon(scene: Scene) -> Chapter:
    """Return the growth of the error in forecasts from the analyses."""
    return _each(scene, _MOST_CURVES, _growth)


def _growth(scene: Scene, rows: Rows, found: Found) -> Picture | None:
    names = ("lead", "forecast_error", "forecast_error_low", "forecast_error_high")
    curves = {
        name: ErrorGrowth(*(as_float(data, n).tolist() for n in names))
        for name, data in found.items()
        if np.isfinite(as_float(data, "forecast_error")).any()
    }
    if not curves:
        return None
    first = next(iter(found.values()))
    far = float(first.attrs["far_off"])
    best = scene.best(rows)
    band = best.label if best is not None else ""
    times = {name: plotting.horizon(curve, far) for name, curve in curves.items()}
    longest = max(times, key=lambda name: times[name])
    reach = times[longest]
    return Picture(
        f"horizon{scene.suffix(rows)}",
        plotting.forecast_growth(curves, limit=far, band=band, among=scene.kinds),
        "Error of forecasts without model error against their lead time, mean over "
        f"{int(first['n_forecasts'])} analyses spread over all test trajectories; "
        f"band: 10–90 % of {band}; {case_title(rows[0])}. Errors double in about 0.77 "
        f"time units; {far:g} is half the error of climatology. In the key: when the "
        "mean reaches it.",
        f"Longest forecast horizon: {longest}"
        + (f", {reach:.1f} time units." if math.isfinite(reach) else "."),
    )


def attractor(scene: Scene) -> Chapter:
    """Return where on the attractor the analyses are wrong."""
    chapter = _each(scene, _MOST_MAPS, _errors, having="map_square")
    beside = _each(scene, _MOST_MAPS, _ratios, having="map_square")
    chapter.pictures += beside.pictures
    return chapter


def _errors(scene: Scene, rows: Rows, found: Found) -> Picture | None:
    maps = _known(
        {name: np.sqrt(as_float(data, "map_square")) for name, data in found.items()}
    )
    if not maps:
        return None
    blind = _blindly(rows)
    return Picture(
        f"error_map{scene.suffix(rows)}",
        plotting.error_maps(maps, **_edges(found), label=f"{blind}error (rms)"),
        f"Root mean square {blind}error of the analysis by "
        f"x and z of the truth; {case_title(rows[0])}. "
        f"{samples_of(list(found.values()))} per method; empty: the truth was never "
        f"there.{_some(rows, maps)}",
        "Maps of the analysis error over the attractor.",
    )


def _ratios(scene: Scene, rows: Rows, found: Found) -> Picture | None:
    """Return where methods lose against the optimum of their case."""
    name = next((row.label for row in rows if row.role == "optimum"), "")
    if name not in found:
        return None
    # The colours of a method that is far off would hide where an encoder loses.
    encoders = {e.label for e in rows if e.scheme == "encoder"}
    least = _squares(found[name])
    maps = _known(
        {
            method: np.sqrt(_squares(data) / least)
            for method, data in found.items()
            if method in encoders or not (encoders or method == name)
        }
    )
    if not maps:
        return None
    return Picture(
        f"error_ratio{scene.suffix(rows)}",
        plotting.error_maps(
            maps, **_edges(found), label=f"error over that of {name}", relative=True
        ),
        f"Root mean square {_blindly(rows)}error of the analysis "
        f"over that of {name}, by x and z of the truth; {case_title(rows[0])}. White: "
        f"as good as that; grey: fewer than {_FEWEST} analyses."
        f"{'' if encoders else _some(rows, maps)}",
        f"Maps of the error over that of {name}.",
    )


def _known(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in maps.items() if np.isfinite(values).any()}


def _edges(found: Found) -> dict[str, Any]:
    first = next(iter(found.values()))
    return {f"{axis}_edges": as_float(first, f"map_{axis}_edge") for axis in "xz"}


def _blindly(rows: Rows) -> str:
    return "mirror-aware " if rows[0].mirror_aware else ""


def _squares(data: xarray.Dataset) -> np.ndarray:
    """Return the mean square error by place, NaN where it is of a few analyses."""
    squares = as_float(data, "map_square")
    few = (as_float(data, "map_count") < _FEWEST) | ~(squares > 0.0)
    return np.where(few, np.nan, squares)


def increments(scene: Scene) -> Chapter:
    """Return increments by component beside those that were needed."""
    return _each(scene, _MOST_ROWS, _histograms, having="increment_share")


def _histograms(scene: Scene, rows: Rows, found: Found) -> Picture | None:
    names = (
        *("increment_edges", "increment_share", "increment_needed", "increment_rms"),
        *("increment_needed_rms", "increment_correlation"),
    )
    drawn = {
        name: Increments(*(as_float(data, n) for n in names))
        for name, data in found.items()
    }
    return Picture(
        f"increments{scene.suffix(rows)}",
        plotting.increment_histograms(drawn, among=scene.kinds),
        "Increments x_a − x_b by component (lines) beside those that lead from the "
        f"background to the truth (grey); {case_title(rows[0])}. "
        f"{samples_of(list(found.values()))} per method. Above each: root mean square "
        "made over that needed, and the correlation of both; 1 and 1 would be perfect. "
        "The 2 % largest of those needed lie beyond the axes."
        f"{_some(rows, drawn)}",
        "Histograms of increments made and needed, by component and method.",
    )


def gain(scene: Scene) -> Chapter:
    """Return the gain in the increments, for linear operators."""
    if not any(ObservationOperator(r[0].operator).is_linear for r in scene.featured):
        return Chapter(
            missing=["No linear operator: there is no gain to compare with."]
        )
    return _each(scene, _MOST_ROWS + 1, _gains, having="gain")


def _gains(scene: Scene, rows: Rows, found: Found) -> Picture | None:
    gains = {name: as_float(data, "gain") for name, data in found.items()}
    best = {name: as_float(data, "gain_needed") for name, data in found.items()}
    explained = ", ".join(
        f"{name} {100.0 * _share(data):.0f} %" for name, data in found.items()
    )
    return Picture(
        f"gain{scene.suffix(rows)}",
        plotting.gain_comparison(
            gains,
            best,
            observed=ObservationOperator(rows[0].operator).labels,
            among=scene.kinds,
        ),
        "Gain K in the increments (markers): least squares of x_a − x_b on the "
        "innovations y − H x_b. For 3D-Var it is the analytic B Hᵀ (H B Hᵀ + R)⁻¹, "
        "which a network trained on the 3D-Var cost has to find. Bars: the best linear "
        f"gain for the backgrounds of the same method; {case_title(rows[0])}. "
        f"{samples_of(list(found.values()))} per method. Share of the increments that "
        f"the gain explains: {explained}.",
        "Gains of the methods beside the best linear gain of each.",
    )


def _share(data: Any) -> float:
    rms = as_float(data, "increment_rms") ** 2
    explained = as_float(data, "gain_explained")
    there = rms > 0.0
    return float((explained[there] * rms[there]).sum() / rms[there].sum())


def _some(rows: Rows, shown: dict[str, Any]) -> str:
    n = sum(row.role != "baseline" for row in rows)
    return f" {len(shown)} of {n} methods are shown." if len(shown) < n else ""
