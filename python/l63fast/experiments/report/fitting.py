"""Figures of ensembles and of how methods were fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from l63fast import plotting
from l63fast.experiments.describe import observed
from l63fast.experiments.report.scene import Chapter, Picture, Rows, Scene
from l63fast.experiments.settings import MEASURES
from l63fast.experiments.tables import case_title
from l63fast.plotting import MethodScore

__all__ = ["ensembles", "training", "tuning_figure"]

_MOST_RANKS: Final = 4


def ensembles(scene: Scene) -> Chapter:
    """Return whether methods know how wrong they are."""
    chapter = Chapter()
    for rows in scene.featured:
        for draw in (_reliability, _ranks, _claims):
            picture = draw(scene, rows)
            chapter.pictures += [picture] if picture else []
    if not chapter.pictures:
        chapter.missing.append(
            "No method of this experiment estimates its own error: no spread, no ranks."
        )
    return chapter


def _reliability(scene: Scene, rows: Rows) -> Picture | None:
    known = {
        e.label: scene.metrics(e)["spread"]
        for e in rows
        if e.role != "baseline" and scene.metrics(e)["spread"]
    }
    curves = {
        name: (np.array(s["spread"], dtype=float), np.array(s["error"], dtype=float))
        for name, s in known.items()
    }
    curves = {name: c for name, c in curves.items() if np.isfinite(c).all()}
    if not curves:
        return None
    ratios = {name: float(s["ratio"]) for name, s in known.items()}
    n_bins = len(next(iter(curves.values()))[0])
    return Picture(
        f"spread_skill{scene.suffix(rows)}",
        plotting.spread_against_error(curves, ratios, among=scene.kinds),
        f"Error made against the spread claimed, in {n_bins} bins of rising spread "
        f"with as many analyses each; {case_title(rows[0])}. On the diagonal the "
        "spread can be trusted; above it a method trusts itself too much. In the key: "
        "spread over error of all analyses.",
        "Error against claimed spread for each method that claims one.",
    )


def _ranks(scene: Scene, rows: Rows) -> Picture | None:
    shares = {
        e.label: np.array(scene.metrics(e)["ranks"]["shares"], dtype=float)
        for e in rows
        if scene.metrics(e)["ranks"]
    }
    shares = {n: s for n, s in shares.items() if np.isfinite(s).all()}
    if not shares:
        return None
    shown = dict(list(shares.items())[:_MOST_RANKS])
    metrics = scene.metrics(rows[0])
    n = metrics["n_trajectories"] * metrics["n_times"]
    return Picture(
        f"ranks{scene.suffix(rows)}",
        plotting.rank_histograms(shown),
        f"Rank of the truth among the members of each ensemble, by component, over "
        f"{n} analyses; {case_title(rows[0])}. Flat on the line: reliable. U: too "
        "little spread. "
        + (
            f"{len(shown)} of {len(shares)} ensembles."
            if len(shown) < len(shares)
            else ""
        ),
        "Rank histograms of the ensembles.",
    )


def _claims(scene: Scene, rows: Rows) -> Picture | None:
    claims = {}
    for row in rows:
        innovation = scene.metrics(row)["innovation"]
        if innovation and np.isfinite(float(innovation["ratio"])):
            low, high = map(float, innovation["ci95"]["ratio"])
            claims[row.label] = MethodScore(float(innovation["ratio"]), (low, high))
    if not claims:
        return None
    return Picture(
        f"claims{scene.suffix(rows)}",
        plotting.method_claims(claims, among=scene.kinds),
        "Mean of dᵀ S⁻¹ d / m over innovations d, 1 where they have the covariance S "
        f"that the method claims, above 1 where it trusts itself too much; "
        f"{case_title(rows[0])}. Lines: 95 % intervals.",
        "Consistency of the innovations with the claimed covariance.",
    )


def training(scene: Scene) -> Chapter:
    """Return how encoders learned, numbers were tuned, and the optimum settled."""
    chapter = Chapter()
    for rows in scene.featured:
        for draw in (_learning, _tuning):
            chapter.pictures += draw(scene, rows)
    settled = _settling(scene)
    chapter.pictures += [settled] if settled else []
    if not chapter.pictures:
        chapter.missing.append("Nothing was trained or tuned in this experiment.")
    return chapter


def _learning(scene: Scene, rows: Rows) -> list[Picture]:
    histories = {}
    for row in rows:
        if row.scheme != "encoder":
            continue
        history = scene.summary.cell(row).history
        if history and "val_rmse_pooled_a" in history[0]:
            found = [
                (float(r["epoch"]), float(r["val_rmse_pooled_a"])) for r in history
            ]
            histories[row.label] = found
    if not histories:
        return []
    return [
        Picture(
            f"training{scene.suffix(rows)}",
            plotting.validation_curves(
                histories, label="rmse_pooled_a, validation split", among=scene.kinds
            ),
            "Root mean square error on the validation split after each epoch; marked: "
            f"the lowest; {case_title(rows[0])}. First seed where there are several.",
            "Validation error of the encoders per epoch.",
        )
    ]


def _tuning(scene: Scene, rows: Rows) -> list[Picture]:
    pictures = []
    for i, row in enumerate(rows):
        metrics = scene.metrics(row)
        if not metrics["tuning"]:
            continue
        parameter = metrics["parameter"]
        pictures.append(
            Picture(
                f"tuning{scene.suffix(rows)}_{i:02d}",
                tuning_figure(metrics),
                f"{row.label}: score on the validation split against "
                f"{parameter['name']}; {case_title(rows[0])}.",
                f"{row.label}: {parameter['name']} {parameter['value']:.3g}",
                folded=True,
            )
        )
    return pictures


def _settling(scene: Scene) -> Picture | None:
    groups: dict[str, list[list[tuple[int, float, float]]]] = {}
    for row in scene.rows:
        stages = (scene.metrics(row)["convergence"] or {}).get("stages")
        if row.role != "optimum" or not stages:
            continue
        curve = [
            (s["n_particles"], float(s["score"]), float(s["effective_size"]))
            for s in stages
        ]
        groups.setdefault(f"{observed(row.operator)} observed", []).append(curve)
    if not groups:
        return None
    n = sum(len(curves) for curves in groups.values())
    return Picture(
        "convergence",
        plotting.convergence(groups),
        "How the optimum was found: score of a bootstrap particle filter on the "
        "validation split as its size was doubled, above that of the last size, and "
        f"the share of particles that still count; {n} case{'s' if n > 1 else ''}.",
        "Score of the particle filter against its size.",
    )


def tuning_figure(metrics: Mapping[str, Any]) -> Any:
    """Return the curve by which a method was tuned on the validation split."""
    tuning, name = metrics["tuning"], metrics["parameter"]["name"]
    measure = MEASURES[metrics["measure"]]
    return plotting.tuning_curve(
        np.asarray(tuning["scales"], dtype=float),
        np.asarray(tuning["scores"], dtype=float),
        float(tuning["scale"]),
        parameter={"b": "scale of B"}.get(name, name),
        label=f"{'mirror-aware ' * metrics['mirror_aware']}{measure.kind}, validation",
    )
