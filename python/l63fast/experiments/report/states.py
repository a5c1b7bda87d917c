"""Figures of states and their errors, from the diagnostics that cells keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import numpy as np
import xarray

from l63fast import plotting
from l63fast.experiments.describe import observed
from l63fast.experiments.figures import Picture, between, forecasts, picture
from l63fast.experiments.scoring import Rows, Summary, best_of, case_title
from l63fast.observation import ObservationOperator
from l63fast.plotting import ErrorGrowth, Excerpt, Increments
from l63fast.verification import Failure

Found = dict[str, xarray.Dataset]
_MEDIAN: Final = -1  # of the excerpts; the worst come first
_FRAMES: Final = 80
# Before others in figures that cannot hold all methods.
_INTERESTING: Final = ("3dvar", "encoder", "optimum")
_FEWEST: Final = 30  # analyses in a cell of the map whose mean square counts


def diagnosed(summary: Summary, name: str, most: int) -> Iterator[tuple[Rows, Found]]:
    """Yield each featured case with diagnostics that have a variable, by label.

    Of at most so many methods: the best, 3D-Var, networks and the optimum come before
    others; they stand in the order of the case.
    """
    for rows in summary.featured:
        best = best_of(rows)
        first = [r for r in rows if r is best or r.scheme in _INTERESTING]
        rest = [r for r in rows if r not in first and r.role == "method"]
        having = (r for r in (*first, *rest) if name in summary.diagnostics(r))
        chosen = {row.label for row in islice(having, most)}
        found = {r.label: summary.diagnostics(r) for r in rows if r.label in chosen}
        if found:
            yield rows, found


def samples_of(found: Found) -> str:
    """Return on how many samples diagnostics are based, in words."""
    sizes = (d.attrs for d in found.values())
    n, n_times = max((int(a["n_trajectories"]), int(a["n_times"])) for a in sizes)
    total = f"{n * n_times:,}".replace(",", "\u202f")
    return f"{total} analyses ({n} test trajectories, {n_times} times)"


def _some(rows: Rows, shown: dict[str, Any]) -> str:
    n = sum(row.role != "baseline" for row in rows)
    return f" {len(shown)} of {n} methods are shown." if len(shown) < n else ""


def states(summary: Summary) -> Iterator[Picture | str]:
    """Yield truth, background and analysis of the best method, still and in motion."""
    for i, rows in enumerate(summary.featured):
        best = best_of(rows)
        if best is None:
            yield f"Every method diverged: {case_title(rows[0])}."
            continue
        yield _panels(summary, rows, best)
        if i == 0:
            yield from _animation(summary, rows, best)


def _panels(summary: Summary, rows: Rows, row: Any) -> Picture:
    data = summary.diagnostics(row)
    chosen = {"median": _MEDIAN, "worst": 0}
    shown = [excerpt_of(summary, row, i) for i in chosen.values()]
    numbers = [int(data["excerpt_trajectory"][i]) for i in chosen.values()]
    titles = [
        f"{name} trajectory (test {k}), from time {e.times[0]:.4g}"
        for name, k, e in zip(chosen, numbers, shown, strict=True)
    ]
    n, paths = (
        min(len(e.path) for e in shown),
        [e.forecasts for e in shown if e.forecasts is not None],
    )
    figure = plotting.panels(
        np.stack([e.path[:n] for e in shown]),
        np.stack([e.background for e in shown]),
        np.stack([e.analysis for e in shown]),
        data["excerpt_observations"].values[list(chosen.values())],
        truth_times=shown[0].path_times[:n] - shown[0].times[0],
        times=shown[0].times - shown[0].times[0],
        operator=summary.cell(row).settings.data.operator,
        titles=titles,
        forecasts=np.stack(paths) if paths else None,
        mirror_aware=row.mirror_aware,
        longest=10.0,
    )
    n = row.n_trajectories
    return picture(summary, "panels", figure, rows, method=row.label, n=n)


def _animation(summary: Summary, rows: Rows, row: Any) -> Iterator[Picture]:
    excerpt = excerpt_of(summary, row, _MEDIAN)
    if not np.isfinite(excerpt.analysis).all():
        return
    frames = plotting.animation(
        excerpt.path,
        excerpt.background,
        excerpt.analysis,
        truth_times=excerpt.path_times,
        times=excerpt.times,
        title=row.label,
        mirror_aware=row.mirror_aware,
        n_frames=_FRAMES,
    )
    words = {"method": row.label, "n": len(frames)}
    yield picture(summary, "animation", frames, rows, **words)


def failures(summary: Summary) -> Iterator[Picture | str]:
    """Yield how often analyses fail in which way, and the worst of each method."""
    for rows, found in diagnosed(summary, "lead", 12):
        shares = {k: d["failure_share"].values[1:].tolist() for k, d in found.items()}
        words = [kind.words for kind in Failure if kind is not Failure.NONE]
        far = float(next(iter(found.values())).attrs["far_off"])
        how: dict[str, Any] = {"far": far, "samples": samples_of(found)}
        if any(map(any, shares.values())):
            figure = plotting.failure_shares(shares, words)
            yield picture(summary, "failures", figure, rows, **how)
        else:
            yield f"No analysis failed: {case_title(rows[0])}."
        for i, row in enumerate(rows):
            if row.label in found:
                yield _atlas(summary, rows, i)


def _atlas(summary: Summary, rows: Rows, number: int) -> Picture:
    row = rows[number]
    data, excerpts, told = summary.diagnostics(row), [], []
    for k in range(data.sizes["excerpt"] - 1):
        kind = Failure(int(data["excerpt_failure"][k]))
        largest = float(data["excerpt_largest"][k])
        is_finite, is_none = math.isfinite(largest), kind is Failure.NONE
        title = f"test {int(data['excerpt_trajectory'][k])}: "
        title += "no failure" if is_none else kind.words
        title += f", largest error {largest:.2f}" if is_finite else ""
        excerpts.append(excerpt_of(summary, row, k, title))
        short = "none" if is_none else kind.words.partition(",")[0]
        told.append(f"{short} ({largest:.3g})" if is_finite else short)
    where = f"{observed(row.operator)} observed, " if len(summary.featured) > 1 else ""
    operator = summary.cell(row).settings.data.operator
    how = {"operator": operator, "title": row.label}
    figure = plotting.failure_panels(excerpts, far_off=data.attrs["far_off"], **how)
    words = {"n_worst": len(excerpts), "n": row.n_trajectories, "method": row.label}
    words |= {"where": where, "told": ", ".join(told), "number": number}
    return picture(summary, "atlas", figure, rows, **words)


def excerpt_of(summary: Summary, row: Any, i: int, title: str = "") -> Excerpt:
    """Return the i-th excerpt of a row's diagnostics."""
    data, names = summary.diagnostics(row), ("time", "truth", "background", "analysis")
    times, truth, *states = (data[f"excerpt_{name}"].values[i] for name in names)
    settings = summary.cell(row).settings
    path, path_times = between(truth, times, settings.data)
    paths = forecasts(states[1], settings)
    return Excerpt(title, times, truth, states[0], states[1], path, path_times, paths)


def horizon(summary: Summary) -> Iterator[Picture | str]:
    """Yield the growth of the error in forecasts from the analyses."""
    names = ("lead", "forecast_error", "forecast_error_low", "forecast_error_high")
    for rows, found in diagnosed(summary, "lead", 9):
        curves = {
            name: ErrorGrowth(*(data[n].values.tolist() for n in names))
            for name, data in found.items()
            if np.isfinite(data["forecast_error"]).any()
        }
        if not curves:
            continue
        first = next(iter(found.values()))
        far = float(first.attrs["far_off"])
        band = getattr(best_of(rows), "label", "")
        times = {name: plotting.horizon(curve, far) for name, curve in curves.items()}
        longest = max(times, key=times.__getitem__)
        how: dict[str, Any] = {"band": band, "among": summary.kinds}
        figure = plotting.forecast_growth(curves, limit=far, **how)
        if math.isfinite(times[longest]):
            longest += f", {times[longest]:.1f} time units"
        words = {"n": int(first["n_forecasts"]), "band": band, "far": far}
        yield picture(summary, "horizon", figure, rows, **words, longest=longest)


def attractor(summary: Summary) -> Iterator[Picture | str]:
    """Yield where on the attractor analyses are wrong, and lose against the optimum."""
    each = list(diagnosed(summary, "map_square", 6))
    for draw in (_errors, _ratios):
        for rows, found in each:
            yield from draw(summary, rows, found)


def _errors(summary: Summary, rows: Rows, found: Found) -> Iterator[Picture]:
    maps = {name: np.sqrt(data["map_square"].values) for name, data in found.items()}
    if maps := _known(maps):
        words = {"samples": samples_of(found), "some": _some(rows, maps)}
        words["blind"] = _blindly(rows)
        label = f"{words['blind']}error (rms)"
        figure = plotting.error_maps(maps, **_edges(found), label=label)
        yield picture(summary, "error_map", figure, rows, **words)


def _ratios(summary: Summary, rows: Rows, found: Found) -> Iterator[Picture]:
    name = next((row.label for row in rows if row.role == "optimum"), "")
    if name not in found:
        return
    # The colours of a method that is far off would hide where an encoder loses.
    encoders = {e.label for e in rows if e.scheme == "encoder"}
    least = _squares(found[name])
    shown = (k for k in found if (k in encoders if encoders else k != name))
    ratios = {k: np.sqrt(_squares(found[k]) / least) for k in shown}
    if maps := _known(ratios):
        label = f"error over that of {name}"
        figure = plotting.error_maps(maps, **_edges(found), label=label, relative=True)
        words = {"blind": _blindly(rows), "optimum": name, "fewest": _FEWEST}
        some = "" if encoders else _some(rows, maps)
        yield picture(summary, "error_ratio", figure, rows, **words, some=some)


def _known(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in maps.items() if np.isfinite(values).any()}


def _edges(found: Found) -> dict[str, Any]:
    first = next(iter(found.values()))
    return {f"{axis}_edges": first[f"map_{axis}_edge"].values for axis in "xz"}


def _blindly(rows: Rows) -> str:
    return "mirror-aware " if rows[0].mirror_aware else ""


def _squares(data: xarray.Dataset) -> np.ndarray:
    """Return the mean square error by place, NaN where it is of a few analyses."""
    many = (data["map_count"] >= _FEWEST) & (data["map_square"] > 0.0)
    return np.asarray(data["map_square"].where(many))


def increments(summary: Summary) -> Iterator[Picture | str]:
    """Yield increments by component beside those that were needed."""
    names = ("edges", "share", "needed", "rms", "needed_rms", "correlation")
    for rows, found in diagnosed(summary, "increment_share", 4):
        drawn = {
            name: Increments(*(data[f"increment_{n}"].values for n in names))
            for name, data in found.items()
        }
        figure = plotting.increment_histograms(drawn, among=summary.kinds)
        words = {"samples": samples_of(found), "some": _some(rows, drawn)}
        yield picture(summary, "increments", figure, rows, **words)


def gain(summary: Summary) -> Iterator[Picture | str]:
    """Yield the gain in the increments, for linear operators."""
    operators = [ObservationOperator(r[0].operator) for r in summary.featured]
    if not any(operator.is_linear for operator in operators):
        yield "No linear operator: there is no gain to compare with."
    for rows, found in diagnosed(summary, "gain", 5):
        explained = ", ".join(f"{k} {_explained(d):.0f} %" for k, d in found.items())
        figure = plotting.gain_comparison(
            {name: data["gain"].values for name, data in found.items()},
            {name: data["gain_needed"].values for name, data in found.items()},
            observed=ObservationOperator(rows[0].operator).labels,
            among=summary.kinds,
        )
        words = {"samples": samples_of(found), "explained": explained}
        yield picture(summary, "gain", figure, rows, **words)


def _explained(data: xarray.Dataset) -> float:
    """Return the share of the increments that the gain explains, in per cent."""
    squares = data["increment_rms"] ** 2
    there = squares > 0.0
    explained = (data["gain_explained"] * squares).where(there).sum()
    return 100.0 * float(explained / squares.where(there).sum())
