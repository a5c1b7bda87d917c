"""Figures of ensembles and of how methods were fitted."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

import numpy as np

from l63fast import plotting
from l63fast.experiments.cycled.report import tuning_figure
from l63fast.experiments.describe import observed
from l63fast.experiments.reporting.answer import Finding
from l63fast.experiments.reporting.entries import Entry
from l63fast.experiments.reporting.pictures import Chapter, Picture
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.result import HISTORY
from l63fast.plotting import MethodScore
from l63fast.storage import read_bytes

__all__ = ["ensembles", "training"]

_MOST_RANKS: Final = 4


def ensembles(subject: Subject) -> Chapter:
    """Return whether methods know how wrong they are."""
    chapter = Chapter()
    for finding in subject.featured:
        for draw in (_reliability, _ranks, _claims):
            picture = draw(subject, finding)
            chapter.pictures += [picture] if picture else []
    if not chapter.pictures:
        chapter.missing.append(
            "No method of this experiment estimates its own error: no spread, no ranks."
        )
    return chapter


def _metrics(entry: Entry) -> Any:
    return entry.results[0].metrics if entry.shown_in == "analysis" else {}


def _reliability(subject: Subject, finding: Finding) -> Picture | None:
    known = {
        e.method: _metrics(e)["spread"]
        for e in finding.entries
        if e.role != "baseline" and "spread" in _metrics(e)
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
        f"spread_skill{subject.suffix(finding.case)}",
        plotting.spread_against_error(curves, ratios, among=subject.methods),
        f"Error made against the spread claimed, in {n_bins} bins of rising spread "
        f"with as many analyses each; {finding.case.title}. On the diagonal the spread "
        "can be trusted; above it a method trusts itself too much. In the key: spread "
        "over error of all analyses.",
        "Error against claimed spread for each method that claims one.",
    )


def _ranks(subject: Subject, finding: Finding) -> Picture | None:
    shares = {
        e.method: np.array(_metrics(e)["ranks"]["shares"], dtype=float)
        for e in finding.entries
        if "ranks" in _metrics(e)
    }
    shares = {n: s for n, s in shares.items() if np.isfinite(s).all()}
    if not shares:
        return None
    shown = dict(list(shares.items())[:_MOST_RANKS])
    entry = finding.entries[0]
    n = (
        entry.results[0].metrics["n_trajectories"]
        * entry.results[0].metrics["n_cycles"]
    )
    return Picture(
        f"ranks{subject.suffix(finding.case)}",
        plotting.rank_histograms(shown),
        f"Rank of the truth among the members of each ensemble, by component, over "
        f"{n} analyses; {finding.case.title}. Flat on the line: reliable. U: too "
        "little spread. "
        + (
            f"{len(shown)} of {len(shares)} ensembles."
            if len(shown) < len(shares)
            else ""
        ),
        "Rank histograms of the ensembles.",
    )


def _claims(subject: Subject, finding: Finding) -> Picture | None:
    claims = {}
    for entry in finding.entries:
        innovation = _metrics(entry).get("innovation")
        if innovation is not None and np.isfinite(float(innovation["ratio"])):
            low, high = map(float, innovation["ci95"]["ratio"])
            claims[entry.method] = MethodScore(float(innovation["ratio"]), (low, high))
    if not claims:
        return None
    return Picture(
        f"claims{subject.suffix(finding.case)}",
        plotting.method_claims(claims, among=subject.methods),
        "Mean of dᵀ S⁻¹ d / m over innovations d, 1 where they have the covariance S "
        f"that the method claims, above 1 where it trusts itself too much; "
        f"{finding.case.title}. Lines: 95 % intervals.",
        "Consistency of the innovations with the claimed covariance.",
    )


def training(subject: Subject) -> Chapter:
    """Return how encoders learned, numbers were tuned, and the optimum settled."""
    chapter = Chapter()
    for finding in subject.featured:
        for draw in (_learning, _tuning):
            chapter.pictures += draw(subject, finding)
    settled = _settling(subject)
    chapter.pictures += [settled] if settled else []
    if not chapter.pictures:
        chapter.missing.append("Nothing was trained or tuned in this experiment.")
    return chapter


def _learning(subject: Subject, finding: Finding) -> list[Picture]:
    histories = {}
    for entry in finding.entries:
        if entry.scheme != "encoder":
            continue
        rows = _history(entry)
        if rows and "val_rmse" in rows[0]:
            found = [(float(r["epoch"]), float(r["val_rmse"])) for r in rows]
            histories[entry.method] = found
    if not histories:
        return []
    return [
        Picture(
            f"training{subject.suffix(finding.case)}",
            plotting.validation_curves(
                histories, label="pool, validation split", among=subject.methods
            ),
            "Root mean square error on the validation split after each epoch; marked: "
            f"the lowest; {finding.case.title}. First seed where there are several.",
            "Validation error of the encoders per epoch.",
        )
    ]


def _history(entry: Entry) -> list[dict[str, str]]:
    directory = entry.results[0].directory
    if not (directory / HISTORY).exists():
        return []
    text = read_bytes(directory, HISTORY).decode()
    return list(csv.DictReader(io.StringIO(text)))


def _tuning(subject: Subject, finding: Finding) -> list[Picture]:
    pictures = []
    for i, entry in enumerate(finding.entries):
        metrics = _metrics(entry)
        if "tuning" not in metrics or "parameter" not in metrics:
            continue
        parameter = metrics["parameter"]
        measure = entry.results[0].settings.measure
        pictures.append(
            Picture(
                f"tuning{subject.suffix(finding.case)}_{i:02d}",
                tuning_figure(metrics, measure),
                f"{entry.method}: score on the validation split against "
                f"{parameter['name']}; {finding.case.title}.",
                f"{entry.method}: {parameter['name']} {parameter['value']:.3g}",
                folded=True,
            )
        )
    return pictures


def _settling(subject: Subject) -> Picture | None:
    groups: dict[str, list[list[tuple[int, float, float]]]] = {}
    for entry in subject.entries:
        if entry.role != "optimum" or "convergence" not in _metrics(entry):
            continue
        stages = _metrics(entry)["convergence"]["stages"]
        curve = [
            (s["n_particles"], float(s["score"]), float(s["effective_size"]))
            for s in stages
        ]
        groups.setdefault(f"{observed(entry.case.operator)} observed", []).append(curve)
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
