"""Entries from the results of either kind of experiment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from l63fast.experiments.cycled.groups import Group, grouped
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.rows import CycledRow, group_rows
from l63fast.experiments.describe import shown_measure
from l63fast.experiments.evaluation import headline
from l63fast.experiments.ranking import beaten_optimum
from l63fast.experiments.reporting.entries import NAN, Case, Entry
from l63fast.experiments.reporting.names import case_notes, method_names
from l63fast.experiments.reporting.seeds import averaged
from l63fast.experiments.reporting.source import Source
from l63fast.experiments.result import VARIABLES, Result
from l63fast.experiments.seeds import by_seed
from l63fast.verification import trajectory_means

__all__ = ["entries_of"]

_BASELINES: Final = ("climatology", "background")
_WHOLE: Final = {
    "extended Kalman": "extended Kalman filter",
    "optimal interp.": "optimal interpolation",
}
_COMPARED: Final = (*_BASELINES, "3D-Var")
_SCHEMES: Final = {"3D-Var": "3dvar", "4D-Var": "4dvar", "analysis": "encoder"}


def entries_of(source: Source) -> list[Entry]:
    """Return one entry per method and case, case by case."""
    if source.is_cycled:
        return _of_cycled(source.results)
    return _of_encoders(source.results)


def _of_cycled(results: Sequence[CycledResult]) -> list[Entry]:
    entries = []
    for groups in grouped(results):
        for group, row in zip(groups, group_rows(groups), strict=True):
            entries.append(_of_group(group, row))
    return entries


def _of_group(group: Group, row: CycledRow) -> Entry:
    first = group.first
    return Entry(
        case=_case(first),
        method=_method(row, first),
        role=row.role,
        scheme=first.settings.method.scheme,
        measure=row.measure,
        score=row.score,
        low=row.low,
        high=row.high,
        rms=row.rms,
        pool=row.pool,
        blocks=group.blocks,
        numbers=_cycled_numbers(row, group),
        verdict=row.verdict,
        results=group.results,
        n_trainings=row.n_trainings,
    )


def _method(row: CycledRow, result: CycledResult) -> str:
    # The size at which the optimum settled differs from case to case: not its name.
    if row.role in ("optimum", "not settled"):
        return row.role
    return _WHOLE.get(row.method, row.method.replace("particles,", "particle filter,"))


def _case(result: Any, more: str = "") -> Case:
    data = result.settings.data
    if data.R is not None and "R " not in more:
        more = ", ".join(filter(None, [more, f"R {[list(row) for row in data.R]}"]))
    return Case(data.operator, data.sigma, data.steps_per_cycle * data.dt, more)


def _cycled_numbers(row: CycledRow, group: Group) -> dict[str, float]:
    n_seeds = len(group.results)
    p95 = [float(result.metrics["scores"]["p95"]) for result in group.results]
    numbers = {
        "diverged": row.diverged,
        "sign_flips": row.sign_flips,
        "p95": float(np.mean(p95)),
        "per_cycle": row.seconds_per_cycle,
        "per_analysis": row.seconds_per_analysis,
        "training": row.training_seconds,
        "spread": row.spread,
        "innovation": row.innovation,
        "file": row.file,
        "rerun": row.rerun,
        "paper": row.paper,
        "n_seeds": float(n_seeds) if n_seeds > 1 else NAN,
        "seed_low": row.seed_low if n_seeds > 1 else NAN,
        "seed_high": row.seed_high if n_seeds > 1 else NAN,
    }
    return {name: value for name, value in numbers.items() if not math.isnan(value)}


def _of_encoders(results: Sequence[Any]) -> list[Entry]:
    encoders = [result for result in results if isinstance(result, Result)]
    names, notes = method_names(encoders), case_notes(encoders)
    entries: list[Entry] = []
    for group in by_seed(encoders):
        first = group[0]
        case = _case(first, notes[id(first)])
        if all(entry.case != case for entry in entries):
            entries += [_of_states(case, group, name, name) for name in _COMPARED]
            found = [r for r in results if any(_is_bound_of(r, e) for e in group)]
            entries += [_bound(case, found)] if found else []
        seen = {entry.method for entry in entries if entry.case == case}
        if "4D-Var" in first.metrics["scores"] and "4D-Var" not in seen:
            entries.append(_of_states(case, group, "4D-Var", "4D-Var"))
        entries.append(_of_states(case, group, "analysis", names[id(first)]))
    cases = list(dict.fromkeys(entry.case for entry in entries))
    return [
        entry
        for case in cases
        for entry in _unsettled([e for e in entries if e.case == case])
    ]


def _unsettled(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries of a case; an optimum that a method beats is not settled."""
    candidates = [entry.candidate for entry in entries]
    if not beaten_optimum(candidates, **entries[0].scoring):
        return list(entries)
    return [
        dataclasses.replace(e, role="not settled", method="not settled")
        if e.role == "optimum"
        else e
        for e in entries
    ]


def _is_bound_of(result: Any, encoder: Any) -> bool:
    """Return whether a result is the optimum of the windows that an encoder sees."""
    if isinstance(result, Result):
        return False
    return bool(result.settings.is_of(encoder.settings))


def _bound(case: Case, results: Sequence[Any]) -> Entry:
    """Return the optimum of the windows of a case."""
    metrics, measure = results[0].metrics, headline(case.operator)
    blind = measure.startswith("mirror_")
    scores = metrics["scores"]["folded" if blind else "mean"]
    low, high = map(float, scores["ci95"][measure])
    entry = Entry(
        case=case,
        method="optimum",
        role="optimum",
        scheme="optimum",
        measure=shown_measure(measure),
        score=float(scores[measure]),
        low=low,
        high=high,
        rms=float(scores["mirror_rms" if blind else "rms"]),
        pool=float(scores[measure]),
        blocks={},
        numbers={"settled": float(all(r.settled for r in results))},
        results=tuple(results),
        shown_in="",
    )
    columns = slice(2, 4) if blind else slice(0, 2)
    return averaged(entry, [r.trajectories[:, columns] for r in results])


def _of_states(case: Case, group: Sequence[Result], states: str, method: str) -> Entry:
    metrics = group[0].metrics
    scores, measure = metrics["scores"][states], metrics["headline"]
    low, high = map(float, scores["ci95"][measure])
    prefix = "mirror_" if measure.startswith("mirror_") else ""
    seconds = group[0].timing["seconds"]
    role = "baseline" if states in _BASELINES else "method"
    numbers = {
        "sign_flips": float(scores["sign_flip_rate"]),
        "p95": float(scores["p95"]),
    }
    if role == "method":
        numbers["diverged"] = float(scores["divergence_rate"])
    if states == "analysis" and "training and export" in seconds:
        numbers["training"] = float(seconds["training and export"])
    entry = Entry(
        case=case,
        method=method,
        role=role,
        scheme=_SCHEMES.get(states, states),
        measure=shown_measure(measure),
        score=float(scores[measure]),
        low=low,
        high=high,
        rms=float(scores[f"{prefix}rms"]),
        pool=float(scores[f"{prefix}pool"]),
        blocks={},
        numbers=numbers,
        results=tuple(group),
        shown_in=states,
        n_trainings=len(group) if states == "analysis" else None,
    )
    means = [_encoder_means(r, states, mirror_aware=bool(prefix)) for r in group]
    return averaged(entry, means)


def _encoder_means(result: Result, states: str, *, mirror_aware: bool) -> np.ndarray:
    truth = result.estimates["truth"].to_numpy()
    if states == "climatology":  # is not stored and is not compared with
        return np.full((len(truth), 2), NAN)
    means = trajectory_means(result.estimates[VARIABLES[states]].to_numpy(), truth)
    return means[:, 2:] if mirror_aware else means[:, :2]
