"""The answer of an experiment in plain sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from l63fast.experiments.describe import shown_change
from l63fast.experiments.scoring import TRAINING_SCATTER
from l63fast.experiments.tables import (
    Summary,
    lost_between,
    shown_interval,
    shown_score,
)

__all__ = ["answer", "overview", "sentences"]

_BESIDES: Final = {
    "ratio_to_3dvar": "{} times that of tuned 3D-Var",
    "ratio_to_optimum": "{} times that of the optimum (rmse_pooled_a)",
}


def answer(summary: Summary) -> str:
    """Return the answer to all cases in one sentence."""
    cases, in_decibel = summary.cases, summary.measure.in_decibel
    if len(cases) == 1:
        return _winner(cases[0], in_decibel)
    if not any(_leaders(rows) for rows in cases):
        return f"No method has a rank in any of {len(cases)} cases."
    won = Counter(row.label for row in map(_only_best, cases) if row is not None)
    if all(sum(row.role == "method" for row in rows) == 1 for rows in cases):
        return f"One method in each of {len(cases)} cases: nothing to compare it with."
    shared = sum(len(_leaders(rows)) > 1 for rows in cases)
    unsure = sum(
        len(_leaders(rows)) < 2 and any(_is_unranked(row) for row in rows)
        for rows in cases
        if _only_best(rows) is None
    )
    said = [f"{name} in {n}" for name, n in won.most_common(3)]
    said[:1] = [
        f"{_capital(name)} scores best in {n} of {len(cases)} cases"
        for name, n in won.most_common(1)
    ]
    parts = [", ".join(said)] if said else []
    for n, why in (
        (shared, "the best is not distinguishable from another"),
        (unsure, "nobody wins for sure, as rare losses make a score"),
    ):
        if n:
            parts.append(f"in {n} of {len(cases)} cases {why}")
    text = "; ".join(parts)
    return f"{_capital(text)}."


def overview(summary: Summary) -> list[str]:
    """Return a sentence on each method that is best in some of several cases."""
    if len(summary.cases) == 1:
        return []
    alone = [row for row in map(_only_best, summary.cases) if row is not None]
    lines = []
    for label in dict.fromkeys(row.label for row in alone):
        won = [row for row in alone if row.label == label]
        gaps = {name: _span([getattr(row, name) for row in won]) for name in _BESIDES}
        said = [text.format(gaps[n]) for n, text in _BESIDES.items() if gaps[n]]
        if said:
            lines.append(f"Where {label} is best, its error is {' and '.join(said)}.")
    every = [row for rows in summary.cases for row in rows]
    beaten = sum(row.role == "not settled" for row in every)
    moving = sum(row.role == "optimum" and row.settled < 1.0 for row in every)
    n = len(summary.cases)
    if beaten:
        lines.append(
            f"In {beaten} of {n} cases a method beats what was to be the optimum: it "
            "is not settled, and no distance is given."
        )
    if moving:
        lines.append(
            f"In {moving} of {n} cases the optimum was still improving with its size, "
            "so that the distance to it is larger."
        )
    return lines


def _leaders(rows: Sequence[Any]) -> list[Any]:
    return [row for row in rows if row.rank == 1]


def _is_unranked(row: Any) -> bool:
    """Whether a method has a score and, as few trajectories make it, no rank."""
    return row.role == "method" and row.rank is None and math.isfinite(row.score)


def _only_best(rows: Sequence[Any]) -> Any:
    """Return the row that is better than all others beyond doubt; None without one."""
    return next((row for row in rows if row.wins), None)


def _span(ratios: Sequence[float]) -> str:
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    if not known:
        return ""
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return low if low == high else f"{low}–{high}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _winner(rows: Sequence[Any], in_decibel: bool) -> str:
    leaders = _leaders(rows)
    able = [row for row in rows if row.role == "method"]
    if not able:
        return "No method competes: there are baselines and the optimum alone."
    if not leaders:
        if any(math.isfinite(row.score) for row in able):
            return "No method has a rank: rare losses make every score."
        return "Every method diverged."
    if len(able) == 1:
        return f"{_capital(able[0].label)} is the only method."
    gaps = _gaps(leaders[0], in_decibel)
    below = [r for r in able if r.rank is None and r.score < leaders[0].score]
    if below:
        which = " and ".join(row.label for row in below)
        lower = "score lower but have" if len(below) > 1 else "scores lower but has"
        return (
            f"{_capital(leaders[0].label)} has the first rank{gaps}; {which} {lower} "
            "no rank, as few trajectories make such a score."
        )
    if len(leaders) == 1:
        return f"{_capital(leaders[0].label)} wins{gaps}."
    names = [row.label for row in leaders]
    joined = f"{_capital(', '.join(names[:-1]))} and {names[-1]}"
    if not all(math.isfinite(row.low) for row in leaders):
        return (
            f"{joined} are not distinguishable: a single trajectory gives no interval."
        )
    return f"{joined} are not distinguishable and score best{gaps}."


def _gaps(best: Any, in_decibel: bool) -> str:
    """Return how the best stands in short: ": 74 % below tuned 3D-Var and ..."."""
    said = []
    if _is_clear(best, "ratio_to_3dvar"):
        said.append(_beside(best, "ratio_to_3dvar", "tuned 3D-Var", in_decibel)[0])
    if math.isfinite(best.ratio_to_optimum):
        text = _times(best, "ratio_to_optimum", in_decibel)[0]
        said.append(f"{text} {'from' if in_decibel else 'times'} the optimum")
    return f": {' and '.join(said)}" if said else ""


def _three(row: Any, name: str) -> tuple[float, float, float]:
    value, low, high = (
        float(getattr(row, name + end)) for end in ("", "_low", "_high")
    )
    return value, low, high


def _is_clear(row: Any, name: str) -> bool:
    """Whether the interval of a ratio leaves out 1."""
    _, low, high = _three(row, name)
    return low > 1.0 or high < 1.0


def _db(ratio: float) -> float:
    return 20.0 * math.log10(ratio) if ratio > 0.0 else math.nan


def _beside(row: Any, name: str, other: str, in_decibel: bool) -> tuple[str, str]:
    """Return "74 % below OTHER" or "0.10 dB above OTHER", and its interval."""
    value, low, high = _three(row, name)
    where = f"{'below' if value < 1.0 else 'above'} {other}"
    if in_decibel:
        text = f"{abs(_db(value)):.2f} dB {where}"
        if not _is_clear(row, name):
            ends = f" ({_db(low):+.2f} to {_db(high):+.2f} dB)"
            return text, ends.replace("-", "−")
        near, far = sorted(abs(_db(end)) for end in (low, high))
        return text, f" ({near:.2f}–{far:.2f} dB)"
    text = f"{_percent(value)} {where}"
    if not _is_clear(row, name):
        return text, f" (ratio {low:.2f}–{high:.2f})"
    low, high = sorted((low, high), key=lambda v: abs(math.log(v)) if v > 0.0 else 0.0)
    return text, f" ({_percent(low).removesuffix(' %')}–{_percent(high)})"


def _percent(ratio: float) -> str:
    return shown_change(abs(100.0 * (ratio - 1.0))).removeprefix("+")


def _times(row: Any, name: str, in_decibel: bool) -> tuple[str, str]:
    """Return "1.05" or "+0.42 dB", and its interval if there is one."""
    value, low, high = _three(row, name)
    if in_decibel:
        value, low, high = _db(value), _db(low), _db(high)
        text, between = f"{value:+.2f} dB", f" ({low:+.2f} to {high:+.2f} dB)"
    else:
        text, between = f"{value:.2f}", f" ({low:.2f}–{high:.2f})"
    known = math.isfinite(low) and math.isfinite(high)
    return text.replace("-", "−"), between.replace("-", "−") if known else ""


def sentences(summary: Summary, rows: Sequence[Any]) -> list[str]:
    """Return what one case shows: the score, what is beside it, what went wrong."""
    leaders, in_decibel = _leaders(rows), summary.measure.in_decibel
    lost = [_lost(row) for row in rows if row.role == "method" and row.diverged > 0.0]
    rare = [r for r in rows if r.rare_losses and math.isfinite(r.score)]
    marked = [_rare(row) for row in rare if row.role == "method"]
    if not leaders:
        return [*marked, *lost]
    best, *tied = leaders
    measure = summary.measure.shown(best.mirror_aware)
    measure = "a mean squared error of" if in_decibel else measure
    ends = shown_interval(best)
    interval = f" ({ends})" if ends else ""
    unit = " dB" if in_decibel else ""
    text = f"{_capital(best.label)} scores {measure} {shown_score(best, best.score)}"
    lines = [f"{text}{interval}{unit}{_against_3dvar(best, in_decibel)}."]
    lines += [_tie(row, best, in_decibel) for row in tied]
    rest = [row for row in rows if row.rank is not None and row.rank > 1]
    if rest:
        gap = "".join(_beside(rest[0], "ratio_to_best", best.label, in_decibel))
        lines.append(f"Next: {rest[0].label}, {gap}.")
    lines += [
        f"{_capital(row.label)} loses to tuned 3D-Var: "
        f"{''.join(_beside(row, 'ratio_to_3dvar', 'it', in_decibel))}."
        for row in rows
        if row.scheme == "encoder" and row.ratio_to_3dvar_low > 1.0
    ]
    lines.append(_optimum(rows, best, in_decibel))
    lines += _published(rows)
    return [*lines, *marked, *lost]


def _against_3dvar(best: Any, in_decibel: bool) -> str:
    if not math.isfinite(best.ratio_to_3dvar):
        return ""
    if _is_clear(best, "ratio_to_3dvar"):
        text = _beside(best, "ratio_to_3dvar", "tuned 3D-Var", in_decibel)
        return f", {''.join(text)}"
    times = "".join(_times(best, "ratio_to_3dvar", in_decibel))
    return f", not distinguishable from tuned 3D-Var ({times} times)"


def _tie(row: Any, best: Any, in_decibel: bool) -> str:
    if not math.isfinite(row.ratio_to_best_low):
        return (
            f"Not distinguishable from {row.label}: a single trajectory gives no "
            "interval."
        )
    what = "paired difference" if in_decibel else "paired ratio"
    why = f"the 95 % interval includes {'0' if in_decibel else '1'}"
    if _is_clear(row, "ratio_to_best"):
        why = (
            "they differ by less than two trainings of one network do "
            f"({100.0 * TRAINING_SCATTER:.0f} %), and one of them was trained once"
        )
    times = "".join(_times(row, "ratio_to_best", in_decibel))
    return (
        f"Not distinguishable from {row.label}: {what} {times} of it to {best.label}; "
        f"{why}."
    )


def _optimum(rows: Sequence[Any], best: Any, in_decibel: bool) -> str:
    if not math.isfinite(best.ratio_to_optimum):
        why = "the experiment has none on the same trajectories"
        starts = {row.start for row in rows if row.role == "optimum"}
        if any(row.role == "not settled" for row in rows):
            why = "a method beats what was to be it"
        elif starts and best.start not in starts:
            why = "it is the optimum of methods that are given another background"
        return f"How far this is from the optimum is not known: {why}."
    if in_decibel:
        where = "".join(_beside(best, "ratio_to_optimum", "the optimum", in_decibel))
        text = f"It is {where}"
    else:
        times = "".join(_times(best, "ratio_to_optimum", in_decibel))
        text = (
            f"Its rmse_pooled_a, which the optimum minimises, is {times} times that of "
            "the optimum"
        )
    if not _is_clear(best, "ratio_to_optimum"):
        text += " (not distinguishable)"
    if any(row.role == "optimum" and row.settled < 1.0 for row in rows):
        text += "; that was still improving with its size"
        if best.ratio_to_optimum > 1.0:
            text += ", so the true distance is larger"
    return text + "."


def _published(rows: Sequence[Any]) -> list[str]:
    """Return how many methods reproduce what was published of them."""
    known = [row for row in rows if row.verdict]
    if not known:
        return []
    within = sum(row.verdict == "within" for row in known)
    text = f"Published scores: {within} of {len(known)} methods are within their range"
    others = [f"{r.label} ({r.verdict})" for r in known if r.verdict != "within"]
    return [f"{text}; outside: {', '.join(others)}." if others else f"{text}."]


def _rare(row: Any) -> str:
    n_lost = round(row.lost * row.n_trajectories)
    return (
        f"{_capital(row.label)} has no rank: few trajectories make its score. "
        f"{n_lost or 'None'} of {row.n_trajectories} {'are' if n_lost > 1 else 'is'} "
        f"lost (95 %: {lost_between(row)} %); the median over trajectories is "
        f"{shown_score(row, row.median)}."
    )


def _lost(row: Any) -> str:
    n = row.n_trajectories
    lost = max(round(row.diverged * n), 1)
    return f"{_capital(row.label)} diverged on {lost} of {n} trajectories."
