"""Figures of states and their errors, from the stored diagnostics of cells."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import numpy as np
import xarray

from l63fast import plotting
from l63fast.experiments.describe import captions, observed
from l63fast.experiments.figures import Picture, between, forecasts, picture
from l63fast.experiments.scoring import Rows, Summary, best_of, case_title
from l63fast.observation import ObservationOperator
from l63fast.plotting import ErrorGrowth, Excerpt, Increments, ParameterEstimates
from l63fast.verification import Failure

Diagnosed = dict[str, xarray.Dataset]
_MEDIAN: Final = -1  # index of the median excerpt; the worst ones come first
_FRAMES: Final = 80
_LONGEST: Final = 10.0  # time (time units) that a panel shows of an excerpt
# Methods that come first in figures which cannot show all methods.
_INTERESTING: Final = ("3dvar", "encoder", "optimum")
_FEWEST: Final = 30  # analyses that are needed in a place of the map of ratios


def diagnosed(
    summary: Summary, name: str, most: int
) -> Iterator[tuple[Rows, Diagnosed]]:
    """Yield each featured case, and diagnostics of its methods by label.

    Only diagnostics with the variable `name` are used, of at most `most` methods. The
    best method, 3D-Var, networks and the optimum are chosen before others. The order is
    that of the case.
    """
    for rows in summary.featured:
        best = best_of(rows)
        first = [r for r in rows if r is best or r.scheme in _INTERESTING]
        rest = [r for r in rows if r not in first and r.role == "method"]
        having = (r for r in (*first, *rest) if name in summary.diagnostics(r))
        chosen = {row.label for row in islice(having, most)}
        by_label = {r.label: summary.diagnostics(r) for r in rows if r.label in chosen}
        if by_label:
            yield rows, by_label


def samples_of(by_label: Diagnosed) -> str:
    """Return the number of samples of diagnostics, in words."""
    sizes = (d.attrs for d in by_label.values())
    n, n_times = max((int(a["n_trajectories"]), int(a["n_times"])) for a in sizes)
    total = f"{n * n_times:,}".replace(",", "\u202f")
    return f"{total} analyses ({n} test trajectories, {n_times} times)"


def _some(rows: Rows, shown: dict[str, Any]) -> str:
    n = sum(row.role != "baseline" for row in rows)
    return f" {len(shown)} of {n} methods are shown." if len(shown) < n else ""


def states(summary: Summary) -> Iterator[Picture | str]:
    """Yield states of the best method, an animation, and estimated parameters."""
    for i, rows in enumerate(summary.featured):
        best = best_of(rows)
        if best is None:
            yield f"No method has a finite score: {case_title(rows[0])}."
            continue
        yield _panels(summary, rows, best)
        if i == 0:
            yield from _animation(summary, rows, best)
    yield from _parameters(summary)


def _parameters(summary: Summary) -> Iterator[Picture]:
    names = ("estimate", "half_width", "error")
    for rows, by_label in diagnosed(summary, "parameter_error", 4):
        methods = {
            name: ParameterEstimates(*(data[f"parameter_{n}"].values for n in names))
            for name, data in by_label.items()
        }
        data = next(iter(by_label.values()))
        times, truth = (data[f"parameter_{name}"].values for name in ("time", "truth"))
        figure = plotting.parameter_estimates(
            times, truth, methods, among=summary.kinds
        )
        words = {"n": int(data.attrs["n_trajectories"])}
        yield picture(summary, "parameters", figure, rows, **words)


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
        longest=_LONGEST,
    )
    length, texts = float(np.ptp(shown[0].times)), captions()["panels"]
    words: dict[str, Any] = {
        "method": row.label,
        "n": row.n_trajectories,
        "label": f"{_mirror_words(rows)}error (rms)",
        "length": length,
        "part": texts["part"] if length > _LONGEST else "",
        "background": texts["forecast" if paths else "points"],
    }
    return picture(summary, "panels", figure, rows, **words)


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
    """Yield the shares of failures by kind, and the worst trajectories of methods."""
    for rows, by_label in diagnosed(summary, "lead", 12):
        shares = {
            k: d["failure_share"].values[1:].tolist() for k, d in by_label.items()
        }
        words = [kind.words for kind in Failure if kind is not Failure.NONE]
        far = float(next(iter(by_label.values())).attrs["far_off"])
        values: dict[str, Any] = {"far": far, "samples": samples_of(by_label)}
        if any(map(any, shares.values())):
            figure = plotting.failure_shares(shares, words)
            yield picture(summary, "failures", figure, rows, **values)
        else:
            yield f"No analysis failed: {case_title(rows[0])}."
        for i, row in enumerate(rows):
            if row.label in by_label:
                yield _atlas(summary, rows, i)


def _atlas(summary: Summary, rows: Rows, number: int) -> Picture:
    row = rows[number]
    data, excerpts, kinds = summary.diagnostics(row), [], []
    for k in range(data.sizes["excerpt"] - 1):
        kind = Failure(int(data["excerpt_failure"][k]))
        largest = float(data["excerpt_largest"][k])
        is_finite, is_none = math.isfinite(largest), kind is Failure.NONE
        title = f"test {int(data['excerpt_trajectory'][k])}: "
        title += "no failure" if is_none else kind.words
        title += f", largest error {largest:.2f}" if is_finite else ""
        excerpts.append(excerpt_of(summary, row, k, title))
        short = "none" if is_none else kind.words.partition(",")[0]
        kinds.append(f"{short} ({largest:.3g})" if is_finite else short)
    where = f"{observed(row.operator)} observed, " if len(summary.featured) > 1 else ""
    operator = summary.cell(row).settings.data.operator
    names = {"operator": operator, "title": row.label}
    figure = plotting.failure_panels(excerpts, far_off=data.attrs["far_off"], **names)
    words = {"n_worst": len(excerpts), "n": row.n_trajectories, "method": row.label}
    words |= {"where": where, "kinds": ", ".join(kinds), "number": number}
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
    """Yield the growth of the forecast error with lead time."""
    names = ("lead", "forecast_error", "forecast_error_low", "forecast_error_high")
    for rows, by_label in diagnosed(summary, "lead", 9):
        curves = {
            name: ErrorGrowth(*(data[n].values.tolist() for n in names))
            for name, data in by_label.items()
            if np.isfinite(data["forecast_error"]).any()
        }
        if not curves:
            continue
        first = next(iter(by_label.values()))
        far = float(first.attrs["far_off"])
        band = getattr(best_of(rows), "label", "")
        times = {name: plotting.horizon(curve, far) for name, curve in curves.items()}
        longest = max(times, key=times.__getitem__)
        arguments: dict[str, Any] = {"band": band, "among": summary.kinds}
        figure = plotting.forecast_growth(curves, limit=far, **arguments)
        if math.isfinite(times[longest]):
            longest += f", {times[longest]:.1f} time units"
        words = {"n": int(first["n_forecasts"]), "band": band, "far": far}
        yield picture(summary, "horizon", figure, rows, **words, longest=longest)
    yield from _ages(summary)


def _ages(summary: Summary) -> Iterator[Picture]:
    """Yield the error against the time since the last observation, with gaps."""
    for rows, by_label in diagnosed(summary, "age_error", 9):
        curves = {
            name: (data["age"].values, data["age_error"].values)
            for name, data in by_label.items()
        }
        label = f"{_mirror_words(rows)}error (rms)"
        figure = plotting.error_since_observed(curves, label=label, among=summary.kinds)
        words = {"label": label, "samples": samples_of(by_label)}
        yield picture(summary, "age", figure, rows, **words)
    for rows, by_label in diagnosed(summary, "gap_spread", 9):
        curves = {
            name: (data["gap"].values, data["gap_spread"].values)
            for name, data in by_label.items()
        }
        label = "claimed spread (rms)"
        figure = plotting.error_since_observed(curves, label=label, among=summary.kinds)
        yield picture(summary, "gap", figure, rows, samples=samples_of(by_label))


def attractor(summary: Summary) -> Iterator[Picture | str]:
    """Yield maps of the error on the attractor, and of its ratio to the optimum."""
    each = list(diagnosed(summary, "map_square", 6))
    for draw in (_errors, _ratios):
        for rows, by_label in each:
            yield from draw(summary, rows, by_label)


def _errors(summary: Summary, rows: Rows, by_label: Diagnosed) -> Iterator[Picture]:
    maps = {name: np.sqrt(data["map_square"].values) for name, data in by_label.items()}
    if maps := _known(maps):
        words = {"samples": samples_of(by_label), "some": _some(rows, maps)}
        words["blind"] = _mirror_words(rows)
        label = f"{words['blind']}error (rms)"
        figure = plotting.error_maps(maps, **_edges(by_label), label=label)
        yield picture(summary, "error_map", figure, rows, **words)


def _ratios(summary: Summary, rows: Rows, by_label: Diagnosed) -> Iterator[Picture]:
    name = next((row.label for row in rows if row.role == "optimum"), "")
    if name not in by_label:
        return
    # With encoders, only these are shown: a much larger ratio of another method would
    # stretch the scale of colours.
    encoders = {e.label for e in rows if e.scheme == "encoder"}
    least = _squares(by_label[name])
    shown = (k for k in by_label if (k in encoders if encoders else k != name))
    ratios = {k: np.sqrt(_squares(by_label[k]) / least) for k in shown}
    if maps := _known(ratios):
        label = f"error over that of {name}"
        figure = plotting.error_maps(
            maps, **_edges(by_label), label=label, relative=True
        )
        words = {"blind": _mirror_words(rows), "optimum": name, "fewest": _FEWEST}
        some = "" if encoders else _some(rows, maps)
        yield picture(summary, "error_ratio", figure, rows, **words, some=some)


def _known(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in maps.items() if np.isfinite(values).any()}


def _edges(by_label: Diagnosed) -> dict[str, Any]:
    first = next(iter(by_label.values()))
    return {f"{axis}_edges": first[f"map_{axis}_edge"].values for axis in "xz"}


def _mirror_words(rows: Rows) -> str:
    return "mirror-aware " if rows[0].mirror_aware else ""


def _squares(data: xarray.Dataset) -> np.ndarray:
    """Return the map of mean square errors, NaN where there are too few analyses."""
    many = (data["map_count"] >= _FEWEST) & (data["map_square"] > 0.0)
    return np.asarray(data["map_square"].where(many))


def increments(summary: Summary) -> Iterator[Picture | str]:
    """Yield histograms of the increments and of those that were needed."""
    names = ("edges", "share", "needed", "rms", "needed_rms", "correlation")
    for rows, by_label in diagnosed(summary, "increment_share", 4):
        drawn = {
            name: Increments(*(data[f"increment_{n}"].values for n in names))
            for name, data in by_label.items()
        }
        figure = plotting.increment_histograms(drawn, among=summary.kinds)
        words = {"samples": samples_of(by_label), "some": _some(rows, drawn)}
        yield picture(summary, "increments", figure, rows, **words)


def gain(summary: Summary) -> Iterator[Picture | str]:
    """Yield the gains fitted to the increments, for linear operators."""
    operators = [ObservationOperator(r[0].operator) for r in summary.featured]
    if not any(operator.is_linear for operator in operators):
        yield "No operator is linear: no gain can be fitted."
    for rows, by_label in diagnosed(summary, "gain", 5):
        explained = ", ".join(f"{k} {_explained(d):.0f} %" for k, d in by_label.items())
        figure = plotting.gain_comparison(
            {name: data["gain"].values for name, data in by_label.items()},
            {name: data["gain_needed"].values for name, data in by_label.items()},
            observed=ObservationOperator(rows[0].operator).labels,
            among=summary.kinds,
        )
        words = {"samples": samples_of(by_label), "explained": explained}
        yield picture(summary, "gain", figure, rows, **words)


def _explained(data: xarray.Dataset) -> float:
    """Return the share of the squared increments that the gain explains (per cent)."""
    squares = data["increment_rms"] ** 2
    there = squares > 0.0
    explained = (data["gain_explained"] * squares).where(there).sum()
    return 100.0 * float(explained / squares.where(there).sum())
