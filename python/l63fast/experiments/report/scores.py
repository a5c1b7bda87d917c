"""Figures of scores, of claimed errors, of training and tuning, and of times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import median
from typing import Any, Final

import numpy as np

from l63fast import plotting
from l63fast.experiments.describe import counted, observed
from l63fast.experiments.figures import Picture, picture, tuning_figure
from l63fast.experiments.methods import method_table
from l63fast.experiments.published import range_of
from l63fast.experiments.scoring import Rows, Summary
from l63fast.experiments.tables import is_best
from l63fast.experiments.wording import answer
from l63fast.plotting import MethodScore

Settings = dict[str, Any]
_FEWEST: Final = 3  # values of a setting that are needed for a figure
# Settings of a network that are the axis of a figure, and those of the training length.
_AXES: Final = ("window", "n_iterations", "unroll", "epochs")
_LENGTH_SETTINGS: Final = ("epochs", "updates", "first_unroll")
_MOST_RANKS: Final = 4
_WORDS: Final = {
    "sigma": "the standard deviation σ of the observation error",
    "interval": "the time between observations",
    "missing": "the share of missing values",
}


def scores(summary: Summary) -> Iterator[Picture | str]:
    """Yield figures of the scores of all methods, and of scores against settings."""
    if len(summary.cases) == len(summary.featured) > 1:
        yield _overview(summary)
    for rows in summary.featured:
        yield _score_figure(summary, rows)
    for axis in _WORDS:
        if len({getattr(row, axis) for row in summary.rows}) > 1:
            yield _scores_across(summary, axis)
    for rows in summary.featured:
        yield from by_settings(summary, rows)


def _common_arguments(summary: Summary, rows: Rows) -> dict[str, Any]:
    """Return the arguments that all figures of scores have."""
    label = summary.measure.shown(all(row.mirror_aware for row in rows))
    if in_decibel := summary.measure.in_decibel:
        label = "mean squared error (dB)"
    return {"label": label, "in_decibel": in_decibel, "among": summary.kinds}


def _score(row: Any) -> MethodScore:
    return MethodScore(row.score, (row.low, row.high))


def _overview(summary: Summary) -> Picture:
    cases = {rows[0].operator: rows for rows in summary.cases}
    figure = plotting.overview(
        {k: {r.label: (r.score, r.low, r.high) for r in c} for k, c in cases.items()},
        labels={k: _common_arguments(summary, c)["label"] for k, c in cases.items()},
        best={k: [r.label for r in rows if is_best(r)] for k, rows in cases.items()},
        ratios={k: {r.label: r.ratio_to_3dvar for r in c} for k, c in cases.items()},
        among=summary.kinds,
    )
    words = {"samples": samples(summary, summary.rows), "answer": answer(summary)}
    return picture(summary, "overview", figure, **words)


def _score_figure(summary: Summary, rows: Rows) -> Picture:
    ranges = {row.label: range_of(row.file, row.rerun, row.paper) for row in rows}
    points = {r.label: _score(r)._replace(published=ranges[r.label]) for r in rows}
    known = any(math.isfinite(low) for low, _ in ranges.values())
    published = "; grey bars: lowest to highest published value" if known else ""
    drawn = _common_arguments(summary, rows)
    figure = plotting.method_scores(points, **drawn)
    words = {"samples": samples(summary, rows), "answer": answer(summary)}
    words |= {"label": drawn["label"], "published": published}
    return picture(summary, "scores", figure, rows, n=len(rows), **words)


def samples(summary: Summary, rows: Rows) -> str:
    """Return the number of trajectories and analyses, in words; some may have fewer."""
    numbers = {row.label: row.n_trajectories // row.n_data for row in rows}
    most = max(numbers.values())
    fewer = [f"{name}: {n}" for name, n in numbers.items() if n < most]
    n_times = summary.source.results[0].metrics["n_times"]
    but = f" ({', '.join(fewer)})" if fewer else ""
    tried = counted(most, "test trajectory", "test trajectories")
    return f"{tried}{but}, {counted(n_times, 'analysis', 'analyses')} each"


def _scores_across(summary: Summary, axis: str) -> Picture:
    panels: dict[tuple[str, str], dict[str, dict[float, MethodScore]]] = {}
    for row in summary.rows:
        if row.role == "baseline":
            continue
        parts = {"sigma": f"σ = {row.sigma:.3g}", "interval": f"every {row.interval:g}"}
        parts.pop(axis, None)
        parts["case"] = row.case
        if axis != "missing" and row.missing:
            parts["missing"] = f"{100.0 * row.missing:.4g} % missing"
        text = ", ".join(filter(None, parts.values()))
        place = (f"{observed(row.operator)} observed", text)
        name = row.role if row.scheme == "optimum" else row.label
        method = panels.setdefault(place, {}).setdefault(name, {})
        method[getattr(row, axis)] = _score(row)
    figure = plotting.scores_across(
        panels, axis, **_common_arguments(summary, summary.rows)
    )
    words = {"samples": samples(summary, summary.rows), "against": _WORDS[axis]}
    return picture(summary, "scores_by", figure, axis=axis, **words)


def by_settings(summary: Summary, rows: Rows) -> Iterator[Picture]:
    """Yield the score against each setting that has several values for a network."""
    networks = []
    for row in rows:
        if row.scheme == "encoder":
            table = method_table(summary.cell(row).settings.method)
            table |= table["training"] | table["cycles"]
            left_out = ("seed", "training", "cycles")
            networks.append((row, {k: table[k] for k in table if k not in left_out}))
    for axis in _AXES:
        lines = _lines(networks, axis)
        if not lines:
            continue
        values = sorted({value for line in lines.values() for value in line})
        lines |= {
            row.label: dict.fromkeys(values, _score(row))
            for row in rows
            if row.scheme in ("3dvar", "4dvar") or row.role == "optimum"
        }
        drawn = _common_arguments(summary, rows)
        figure = plotting.scores_across({("", ""): lines}, axis, **drawn)
        words = {"axis": axis, "samples": samples(summary, rows)}
        yield picture(summary, "by", figure, rows, **words)


def _lines(
    networks: Sequence[tuple[Any, Settings]], axis: str
) -> dict[str, dict[float, MethodScore]]:
    """Return scores by value of a setting; other settings of a line are the same."""
    groups: dict[str, tuple[Settings, dict[float, list[tuple[float, Any]]]]] = {}
    for row, settings in networks:
        if axis not in settings:
            continue
        left_out = {axis, *(_LENGTH_SETTINGS if axis != "epochs" else ())}
        rest = {k: v for k, v in settings.items() if k not in left_out}
        _, line = groups.setdefault(repr(rest), (rest, {}))
        # Approximate cost of a training; an iteration costs half as much as reading the
        # observations once.
        n = settings["epochs"] * settings.get("updates", 1) * settings.get("unroll", 1)
        cost = float(n * (2 + settings["n_iterations"]))
        line.setdefault(float(settings[axis]), []).append((cost, row))
    lines = [(rest, line) for rest, line in groups.values() if len(line) >= _FEWEST]
    differing = [
        name
        for name in (lines[0][0] if lines else ())
        if name != "model" and len({repr(rest.get(name)) for rest, _ in lines}) > 1
    ]
    named = {}
    for rest, line in lines:
        name = [str(rest["model"]).upper(), *(f"{n} {rest.get(n)}" for n in differing)]
        points = {x: _score(row) for x, row in _at_one_cost(line).items()}
        named[", ".join(name)] = points
    return named


def _at_one_cost(candidates: dict[float, list[tuple[float, Any]]]) -> dict[float, Any]:
    """Return one row per value; of several, the one with the usual training cost."""
    alone = [some[0][0] for some in candidates.values() if len(some) == 1]
    usual = median(alone or [cost for some in candidates.values() for cost, _ in some])
    return {
        x: min(some, key=lambda candidate: abs(math.log(candidate[0] / usual)))[1]
        for x, some in candidates.items()
    }


def ensembles(summary: Summary) -> Iterator[Picture | str]:
    """Yield figures that compare claimed errors with actual ones."""
    for rows in summary.featured:
        metrics = {row.label: summary.cell(row).metrics for row in rows}
        for draw in (_reliability, _ranks, _claims):
            yield from draw(summary, rows, metrics)


def _finite(by_method: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of the methods whose values are all finite."""
    arrays = {name: np.array(values, dtype=float) for name, values in by_method.items()}
    return {name: array for name, array in arrays.items() if np.isfinite(array).all()}


def _reliability(summary: Summary, rows: Rows, metrics: Any) -> Iterator[Picture]:
    competing = [row.label for row in rows if row.role != "baseline"]
    known = {k: metrics[k]["spread"] for k in competing if metrics[k]["spread"]}
    curves = _finite({k: (s["spread"], s["error"]) for k, s in known.items()})
    if curves:
        ratios = {name: float(s["ratio"]) for name, s in known.items()}
        pairs = {name: (spread, error) for name, (spread, error) in curves.items()}
        figure = plotting.spread_against_error(pairs, ratios, among=summary.kinds)
        n_bins = next(iter(curves.values())).shape[1]
        yield picture(summary, "spread_skill", figure, rows, n_bins=n_bins)


def _ranks(summary: Summary, rows: Rows, metrics: Any) -> Iterator[Picture]:
    for kind, draw, them in (
        ("ranks", plotting.rank_histograms, "ensembles"),
        ("pit", plotting.pit_histograms, "methods"),
    ):
        shares = _finite({k: m[kind]["shares"] for k, m in metrics.items() if m[kind]})
        shown, first = dict(islice(shares.items(), _MOST_RANKS)), metrics[rows[0].label]
        if shown:
            fewer = len(shown) < len(shares)
            some = f"{len(shown)} of {len(shares)} {them}." if fewer else ""
            n = first["n_trajectories"] * first["n_times"]
            figure = draw(shown, among=summary.kinds)
            yield picture(summary, kind, figure, rows, n=n, some=some)


def _claims(summary: Summary, rows: Rows, metrics: Any) -> Iterator[Picture]:
    claims = {}
    for name, own in metrics.items():
        if own["innovation"] and math.isfinite(float(own["innovation"]["ratio"])):
            low, high = map(float, own["innovation"]["ci95"]["ratio"])
            claims[name] = MethodScore(float(own["innovation"]["ratio"]), (low, high))
    if claims:
        figure = plotting.method_claims(claims, among=summary.kinds)
        yield picture(summary, "claims", figure, rows)


def training(summary: Summary) -> Iterator[Picture | str]:
    """Yield figures of training, tuning, and the convergence of the optimum."""
    for rows in summary.featured:
        yield from _learning(summary, rows)
        for i, row in enumerate(rows):
            metrics = summary.cell(row).metrics
            if metrics["tuning"]:
                names = {"method": row.label, "among": summary.kinds}
                number, figure = metrics["parameter"], tuning_figure(metrics, **names)
                words = {"parameter": number["name"], "value": number["value"]}
                words |= {"method": row.label, "number": i}
                yield picture(summary, "tuning", figure, rows, **words)
    yield from _settling(summary)


def _learning(summary: Summary, rows: Rows) -> Iterator[Picture]:
    trained = {r.label: summary.cell(r).history for r in rows if r.scheme == "encoder"}
    histories = {
        name: [(e["epoch"], e["val_rmse_pooled_a"]) for e in history]
        for name, history in trained.items()
        if history and "val_rmse_pooled_a" in history[0]
    }
    if histories:
        figure = plotting.validation_curves(
            histories, label="rmse_pooled_a, validation split", among=summary.kinds
        )
        yield picture(summary, "training", figure, rows)


def _settling(summary: Summary) -> Iterator[Picture]:
    groups: dict[str, list[list[tuple[int, float, float]]]] = {}
    for row in summary.rows:
        stages = (summary.cell(row).metrics["convergence"] or {}).get("stages")
        if row.role == "optimum" and stages:
            curve = [
                (s["n_particles"], float(s["score"]), float(s["effective_size"]))
                for s in stages
            ]
            groups.setdefault(f"{observed(row.operator)} observed", []).append(curve)
    if groups:
        n, figure = sum(map(len, groups.values())), plotting.convergence(groups)
        yield picture(summary, "convergence", figure, cases=counted(n, "case"))


def timing(summary: Summary) -> Iterator[Picture | str]:
    """Yield the figure of score against time, for the first featured case."""
    rows = summary.featured[0]
    timed = [r for r in rows if math.isfinite(r.seconds_per_cycle + r.score)]
    if timed:
        timings = (summary.cell(row).timing for row in timed)
        names = dict.fromkeys(f"{t['machine']}, {t['backend']}" for t in timings)
        costs = {r.label: (r.seconds_per_cycle, r.score, r.low, r.high) for r in timed}
        figure = plotting.score_against_cost(costs, **_common_arguments(summary, rows))
        yield picture(summary, "cost", figure, rows, machines="; ".join(names))
