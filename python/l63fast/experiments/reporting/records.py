"""The leaderboard as numbers and the answer in short, for CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from l63fast.experiments.describe import observed
from l63fast.experiments.reporting.answer import Finding, Margin
from l63fast.experiments.reporting.entries import NAN
from l63fast.experiments.reporting.tables import Standing
from l63fast.experiments.reporting.wording import score_of, times

__all__ = ["answer_rows", "records"]


def records(rows: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return the leaderboard as numbers, every column in every experiment."""
    found = []
    for row in rows:
        entry, case = row.entry, row.entry.case
        record: dict[str, Any] = {
            "operator": case.operator,
            "sigma": case.sigma,
            "interval": case.interval,
            "case": case.more,
            "method": entry.method,
            "role": entry.role,
            "measure": entry.measure,
            **{name: getattr(entry, name) for name in _SCORES},
            "rank": row.place.rank,
            "ties": "; ".join(row.place.ties),
            "n_trainings": entry.n_trainings,
        }
        for name in ("best", "three_d_var", "optimum"):
            beside = getattr(row, name)
            for part in ("value", "low", "high"):
                value = getattr(beside, part) if beside else NAN
                record[f"over_{name}" + ("" if part == "value" else f"_{part}")] = value
        record |= {name: entry.numbers.get(name, NAN) for name in _NUMBERS}
        record["verdict"] = entry.verdict
        record["n_trajectories"] = entry.n_trajectories
        found.append(record)
    return found


_SCORES: Final = ("score", "low", "high", "rms", "pool")
_NUMBERS: Final = (
    *("p95", "sign_flips", "diverged", "spread", "innovation", "file", "rerun"),
    *("paper", "per_cycle", "per_analysis", "training", "n_seeds", "seed_low"),
    "seed_high",
)


def answer_rows(found: Sequence[Finding]) -> list[dict[str, str]]:
    """Return the answer to each case in short, for a table of many cases."""
    rows = []
    for finding in found:
        best = finding.best
        rows.append(
            {
                "operator": observed(finding.case.operator),
                "sigma": f"{finding.case.sigma:.3g}",
                "interval": f"{finding.case.interval:g}",
                "case": finding.case.more,
                "best": _best(finding),
                "score": score_of(best) if best else "",
                "three_d_var": _or_none(finding.three_d_var),
                "optimum": _or_none(finding.optimum)
                + ("" if finding.optimum_settled or not finding.optimum else " *"),
            }
        )
    return rows


def _best(finding: Finding) -> str:
    """Return the best, or all that cannot be told from each other."""
    if finding.best is None:
        return "none: every method diverged"
    return " = ".join([finding.best.method, *(other.other for other in finding.tied)])


def _or_none(found: Margin | None) -> str:
    return "" if found is None else times(found)
