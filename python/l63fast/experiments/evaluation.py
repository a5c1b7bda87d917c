"""Scores of an encoder beside background, climatology and tuned 3D-Var."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from l63fast.experiments.config import ScoreSettings
from l63fast.experiments.describe import counted, decimals, shown_measure
from l63fast.experiments.result import csv_text
from l63fast.observation import ObservationOperator
from l63fast.verification import MEASURES as PLAIN_MEASURES
from l63fast.verification import paired_difference, score, skill

__all__ = [
    "MEASURES",
    "METHODS",
    "evaluate",
    "headline",
    "metrics_csv",
    "metrics_table",
]

METHODS: Final = ("climatology", "background", "3D-Var", "4D-Var", "analysis")
MEASURES: Final = ("rms", "pool", "mirror_rms", "mirror_pool")
REFERENCES: Final = ("climatology", "3D-Var")


def headline(operator: str) -> str:
    """Return the measure that decides: mirror-aware where the sign is unknowable."""
    blind = ObservationOperator(operator).is_mirror_blind
    return "mirror_pool" if blind else "pool"


def evaluate(
    estimates: Mapping[str, np.ndarray], operator: str, settings: ScoreSettings
) -> dict[str, Any]:
    """Return scores, skill and paired differences of all methods on the same samples.

    Parameters
    ----------
    estimates : dict of (n_trajectories, n_times, 3)
        "truth" and `METHODS`, of which "4D-Var" may be left out.
    operator : str
        Where it is mirror-blind, components and quantiles are mirror-aware too.
    settings : ScoreSettings

    Returns
    -------
    dict
        "scores" by method; "skill" by reference, method and measure;
        "paired_difference", analysis minus 3D-Var, by measure, with its 95 % interval.
    """
    truth = estimates["truth"]
    how = settings.bootstrap
    blind = ObservationOperator(operator).is_mirror_blind
    scores = {
        name: dataclasses.asdict(
            score(estimates[name], truth, mirror_aware=blind, **how)
        )
        for name in METHODS
        if name in estimates
    }
    return {
        "n_trajectories": truth.shape[0],
        "n_times": truth.shape[1],
        "headline": headline(operator),
        "scores": scores,
        "skill": {reference: _skill(scores, reference) for reference in REFERENCES},
        "paired_difference": {
            measure: _difference(estimates, measure, how) for measure in MEASURES
        },
    }


def _skill(
    scores: Mapping[str, Mapping[str, Any]], reference: str
) -> dict[str, dict[str, float]]:
    return {
        name: {m: skill(scores[name][m], scores[reference][m]) for m in MEASURES}
        for name in scores
        if name != reference
    }


def _difference(
    estimates: Mapping[str, np.ndarray], measure: str, how: Mapping[str, int]
) -> dict[str, float]:
    plain = measure.removeprefix("mirror_")
    assert plain in PLAIN_MEASURES
    difference, low, high = paired_difference(
        estimates["analysis"],
        estimates["3D-Var"],
        estimates["truth"],
        measure=plain,
        mirror_aware=plain != measure,
        **how,
    )
    return {"difference": difference, "low": low, "high": high}


def metrics_csv(metrics: Mapping[str, Any]) -> str:
    """Return metrics as CSV text: one row per method, intervals in two columns each."""
    return csv_text([_row(metrics, name) for name in metrics["scores"]])


def _row(metrics: Mapping[str, Any], method: str) -> dict[str, Any]:
    scores = dict(metrics["scores"][method])
    intervals = scores.pop("ci95")
    scores.pop("rare_losses", None)
    row: dict[str, Any] = {"method": method, **scores}
    for measure in MEASURES:
        row[f"{measure}_low"], row[f"{measure}_high"] = intervals[measure]
    for reference in REFERENCES:
        skills = metrics["skill"][reference].get(method, {})
        for measure in MEASURES:
            row[f"skill_{measure}_against_{reference}"] = skills.get(measure, 0.0)
    return row


def metrics_table(metrics: Mapping[str, Any]) -> Any:
    """Return the scores of one result as a table for a terminal."""
    from rich.table import Table

    blind = metrics["headline"] == "mirror_pool"
    measures = MEASURES[::-1] if blind else ("pool", "rms")
    table = Table(caption=_caption(metrics), caption_justify="left")
    table.add_column("method")
    for measure in measures:
        table.add_column(shown_measure(measure), justify="right")
    table.add_column("x, y, z", justify="right")
    table.add_column("95th percentile", justify="right")
    for name in metrics["scores"]:
        scores = metrics["scores"][name]
        values = [float(scores[measure]) for measure in measures]
        values += [float(scores[f"rms_{c}"]) for c in "xyz"] + [float(scores["p95"])]
        *first, x, y, z, p95 = (f"{v:.{decimals(values[0])}f}" for v in values)
        table.add_row(name, *first, f"{x} {y} {z}", p95)
    return table


def _caption(metrics: Mapping[str, Any]) -> str:
    measure = metrics["headline"]
    found = metrics["paired_difference"][measure]
    difference, low, high = (float(found[k]) for k in ("difference", "low", "high"))
    name, n = shown_measure(measure), decimals(metrics["scores"]["analysis"][measure])
    each = counted(metrics["n_times"], "analysis", "analyses")
    return (
        f"{metrics['split']} split: {metrics['n_trajectories']} trajectories, "
        f"{each} each.\nAnalysis minus 3D-Var, {name}: "
        f"{difference:+.{n}f}, 95 % interval {low:+.{n}f} to {high:+.{n}f}."
    )
