"""Figures of scores: methods beside each other, across settings, and cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

from l63fast import plotting
from l63fast.experiments.describe import counted, observed
from l63fast.experiments.methods import method_table
from l63fast.experiments.published import range_of
from l63fast.experiments.report.scene import Chapter, Picture, Rows, Scene
from l63fast.experiments.tables import case_title, is_best
from l63fast.experiments.wording import answer
from l63fast.plotting import MethodScore

__all__ = ["samples", "scores", "timing"]

_FEWEST: Final = 3  # values of a setting that make a figure
# Settings of a network that a figure is drawn against, and what only makes it longer.
_AXES: Final = ("window", "n_iterations", "unroll", "epochs")
_HOW_LONG: Final = ("epochs", "updates", "first_unroll")


def scores(scene: Scene) -> Chapter:
    """Return every method beside the others, and across what varies."""
    chapter = Chapter()
    if len(scene.cases) == len(scene.featured) > 1:
        chapter.pictures.append(_overview(scene))
    chapter.pictures += [_beside(scene, rows) for rows in scene.featured]
    for axis in ("sigma", "interval"):
        if len({getattr(row, axis) for row in scene.rows}) > 1:
            chapter.pictures.append(_across(scene, axis))
    for rows in scene.featured:
        chapter.pictures += _by_settings(scene, rows)
    return chapter


def _label(scene: Scene, rows: Rows) -> str:
    measure = scene.summary.measure
    if measure.in_decibel:
        return "mean squared error (dB)"
    return measure.shown(all(row.mirror_aware for row in rows))


def _score(row: Any) -> MethodScore:
    return MethodScore(row.score, (row.low, row.high))


def _overview(scene: Scene) -> Picture:
    found = {
        rows[0].operator: {r.label: (r.score, r.low, r.high) for r in rows}
        for rows in scene.cases
    }
    labels = {rows[0].operator: _label(scene, rows) for rows in scene.cases}
    best = {
        rows[0].operator: [row.label for row in rows if is_best(row)]
        for rows in scene.cases
    }
    ratios = {
        rows[0].operator: {r.label: r.ratio_to_3dvar for r in rows}
        for rows in scene.cases
    }
    return Picture(
        "overview",
        plotting.overview(
            found, labels=labels, best=best, ratios=ratios, among=scene.kinds
        ),
        "Score of each method for each observation operator. "
        f"{samples(scene.rows, scene)}. Lines: 95 % intervals, bootstrap over "
        "trajectories. Bold: the best, and what cannot be told from it.",
        answer(scene.summary),
    )


def _beside(scene: Scene, rows: Rows) -> Picture:
    points = {
        row.label: MethodScore(
            row.score, (row.low, row.high), range_of(row.file, row.rerun, row.paper)
        )
        for row in rows
    }
    known = any(math.isfinite(point.published[0]) for point in points.values())
    published = "; grey bars: lowest to highest published value" if known else ""
    return Picture(
        f"scores{scene.suffix(rows)}",
        plotting.method_scores(points, label=_label(scene, rows), among=scene.kinds),
        f"{_label(scene, rows)} of each method; {case_title(rows[0])}. "
        f"{samples(rows, scene)}. Lines: 95 % intervals, bootstrap over trajectories"
        f"{published}.",
        f"Scores of {len(rows)} methods. {answer(scene.summary)}",
    )


def samples(rows: Rows, scene: Scene) -> str:
    """Return on how many analyses methods were tried, and which of them on fewer."""
    numbers = {row.label: row.n_trajectories // row.n_data for row in rows}
    most = max(numbers.values())
    fewer = [f"{name}: {n}" for name, n in numbers.items() if n < most]
    metrics = scene.summary.source.results[0].metrics
    each = counted(metrics["n_times"], "analysis", "analyses")
    but = f" ({', '.join(fewer)})" if fewer else ""
    tried = counted(most, "test trajectory", "test trajectories")
    return f"{tried}{but}, {each} each"


def _across(scene: Scene, axis: str) -> Picture:
    other = "interval" if axis == "sigma" else "sigma"
    panels: dict[tuple[str, str], dict[str, dict[float, MethodScore]]] = {}
    for row in scene.rows:
        if row.role == "baseline":
            continue
        text = f"σ = {row.sigma:.3g}" if other == "sigma" else f"every {row.interval:g}"
        place = (
            f"{observed(row.operator)} observed",
            f"{text}, {row.case}" if row.case else text,
        )
        name = row.role if row.scheme == "optimum" else row.label
        method = panels.setdefault(place, {}).setdefault(name, {})
        method[getattr(row, axis)] = _score(row)
    words = {
        "sigma": "the standard deviation σ of the observation error",
        "interval": "the time between observations",
    }
    return Picture(
        f"scores_by_{axis}",
        plotting.scores_across(
            panels, axis, label=_label(scene, scene.rows), among=scene.kinds
        ),
        f"Score against {words[axis]}, with tuned 3D-Var and the optimum where the "
        f"experiment has them. {samples(scene.rows, scene)}. Bars: 95 % intervals. "
        "Mirror-aware where x² alone is observed. A method that diverged has no point.",
        f"Scores of all methods against {words[axis]}.",
    )


Settings = dict[str, Any]


def _settings(scene: Scene, row: Any) -> Settings:
    """Return the settings of a network, without seeds, under their own names."""
    table = method_table(scene.summary.cell(row).settings.method)
    tables = [table, table["training"], table["cycles"]]
    return {
        name: value
        for table in tables
        for name, value in table.items()
        if name != "seed" and not isinstance(value, dict)
    }


def _by_settings(scene: Scene, rows: Rows) -> Iterator[Picture]:
    """Yield the score against each setting of which a network has several values."""
    networks = [(row, _settings(scene, row)) for row in rows if row.scheme == "encoder"]
    for axis in _AXES:
        found = _lines(networks, axis)
        if not found:
            continue
        lines = {name: line for name, (_, line) in found.items()}
        kinds = scene.kinds | {name: model for name, (model, _) in found.items()}
        values = sorted({value for line in lines.values() for value in line})
        lines |= {
            row.label: dict.fromkeys(values, _score(row))
            for row in rows
            if row.scheme in ("3dvar", "4dvar") or row.role == "optimum"
        }
        yield Picture(
            f"by_{axis}{scene.suffix(rows)}",
            plotting.scores_across(
                {("", ""): lines}, axis, label=_label(scene, rows), among=kinds
            ),
            f"Score against {axis}, of networks that are alike in all else, or differ "
            f"at most in how long they were trained; {case_title(rows[0])}. "
            f"{samples(rows, scene)}.",
            f"Scores against {axis}.",
        )


def _lines(
    networks: Sequence[tuple[Any, Settings]], axis: str
) -> dict[str, tuple[str, dict[float, MethodScore]]]:
    """Return model and score by value of a setting, for networks alike but for it."""
    found: dict[str, tuple[Settings, dict[float, list[tuple[float, Any]]]]] = {}
    for row, settings in networks:
        if axis not in settings:
            continue
        left_out = {axis, *(_HOW_LONG if axis != "epochs" else ())}
        rest = {k: v for k, v in settings.items() if k not in left_out}
        _, line = found.setdefault(repr(rest), (rest, {}))
        line.setdefault(float(settings[axis]), []).append((_cost(settings), row))
    lines = [(rest, line) for rest, line in found.values() if len(line) >= _FEWEST]
    differing = [
        name
        for name in (lines[0][0] if lines else ())
        if name != "model" and len({repr(rest.get(name)) for rest, _ in lines}) > 1
    ]
    return {
        ", ".join(
            [str(rest["model"]).upper(), *(f"{n} {rest.get(n)}" for n in differing)]
        ): (
            str(rest["model"]),
            {x: _score(row) for x, row in _at_one_cost(line).items()},
        )
        for rest, line in lines
    }


def _cost(settings: Settings) -> float:
    """Return about what a training costs: an iteration half of what is read once."""
    n = settings["epochs"] * settings.get("updates", 1) * settings.get("unroll", 1)
    return float(n * (2 + settings["n_iterations"]))


def _at_one_cost(candidates: dict[float, list[tuple[float, Any]]]) -> dict[float, Any]:
    """Return one row per value: of several, that of the cost usual at the others."""
    alone = [some[0][0] for some in candidates.values() if len(some) == 1]
    usual = median(alone or [cost for some in candidates.values() for cost, _ in some])

    def distance(candidate: tuple[float, Any]) -> float:
        return abs(math.log(candidate[0] / usual))

    return {x: min(some, key=distance)[1] for x, some in candidates.items()}


def timing(scene: Scene) -> Chapter:
    """Return what the accuracy of each method costs."""
    chapter = Chapter()
    for rows in scene.featured[:1]:
        costs = {
            row.label: (row.seconds_per_cycle, row.score)
            for row in rows
            if math.isfinite(row.seconds_per_cycle) and math.isfinite(row.score)
        }
        if not costs:
            continue
        timings = [scene.summary.cell(row).timing for row in rows if row.label in costs]
        names = dict.fromkeys(f"{t['machine']}, {t['backend']}" for t in timings)
        chapter.pictures.append(
            Picture(
                "cost",
                plotting.score_against_cost(
                    costs, label=_label(scene, rows), among=scene.kinds
                ),
                "Score against the wall time of one analysis, with the forecasts "
                "that it needs, averaged over all of them; "
                f"{case_title(rows[0])}. Measured on {'; '.join(names)}; other "
                "work on the machine makes it larger.",
                "Score of each method against its time per cycle.",
            )
        )
    return chapter
