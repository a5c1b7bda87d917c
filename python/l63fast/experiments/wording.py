"""The result of an experiment in plain sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from l63fast.experiments.scoring import TRAINING_SCATTER, Rows, Summary, case_title
from l63fast.experiments.tables import lost_between, shown_interval, shown_score

_GAP_TEXTS: Final = {
    "ratio_to_3dvar": "{} times that of tuned 3D-Var",
    "ratio_to_optimum": "{} times that of the optimum (rmse_pooled_a)",
}


def answer(summary: Summary) -> str:
    """Return the result of all cases in one sentence."""
    cases, n_cases = summary.cases, len(summary.cases)
    if n_cases == 1:
        return _winner(cases[0])
    if not any(_leaders(rows) for rows in cases):
        return f"No method has a rank in any of {n_cases} cases."
    if all(sum(row.role == "method" for row in rows) == 1 for rows in cases):
        return f"Each of the {n_cases} cases has only one method: no comparison."
    won = Counter(row.label for row in _winners(cases)).most_common(3)
    others = Counter(_why_nobody_wins(rows) for rows in cases if not _winners([rows]))
    said = [f"{name} scores best in {n} of {n_cases} cases" for name, n in won[:1]]
    said += [f"{name} in {n}" for name, n in won[1:]]
    parts = [", ".join(said)] if said else []
    parts += [f"in {n} of {n_cases} cases {why}" for why, n in others.items()]
    return _capital(f"{'; '.join(parts)}.")


def _why_nobody_wins(rows: Rows) -> str:
    leaders = _leaders(rows)
    if len(leaders) > 1:
        return "the best is not distinguishable from another"
    if any(map(_is_unranked, rows)):
        return "no winner is certain, because rare losses make a score"
    return "there is only one method" if leaders else "no method has a rank"


def overview(summary: Summary) -> list[str]:
    """Return sentences about the best methods of several cases, and the optimum."""
    n_cases = len(summary.cases)
    if n_cases == 1:
        return []
    alone, lines = _winners(summary.cases), []
    for label in dict.fromkeys(row.label for row in alone):
        won = [row for row in alone if row.label == label]
        gaps = {name: _span([getattr(row, name) for row in won]) for name in _GAP_TEXTS}
        parts = [text.format(gaps[n]) for n, text in _GAP_TEXTS.items() if gaps[n]]
        if parts:
            lines.append(f"Where {label} is best, its error is {' and '.join(parts)}.")
    beaten = sum(row.role == "not settled" for row in summary.rows)
    moving = sum(row.role == "optimum" and row.settled < 1.0 for row in summary.rows)
    if beaten:
        lines.append(
            f"In {beaten} of {n_cases} cases a method beats the computed optimum, which"
            " is therefore not the optimum, and no ratio to it is given."
        )
    if moving:
        lines.append(
            f"In {moving} of {n_cases} cases the computed optimum was still improving "
            "with its size, so that the true ratio to the optimum is larger."
        )
    return lines


def _leaders(rows: Rows) -> Rows:
    return [row for row in rows if row.rank == 1]


def _winners(cases: Sequence[Rows]) -> Rows:
    """Return the rows of methods that are certainly the best of their cases."""
    return [row for rows in cases for row in rows if row.wins]


def _is_unranked(row: Any) -> bool:
    """Whether a method has a score but no rank, because rare losses make its score."""
    return row.role == "method" and row.rank is None and math.isfinite(row.score)


def _span(ratios: Sequence[float]) -> str:
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    ends = (f"{end(known):.2f}" for end in (min, max) if known)
    return "–".join(dict.fromkeys(ends))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _winner(rows: Rows) -> str:
    leaders = _leaders(rows)
    able = [row for row in rows if row.role == "method"]
    if not able:
        return "No method competes: there are only baselines and the optimum."
    if not leaders:
        if any(map(_is_unranked, able)):
            known = "" if all(map(_is_unranked, able)) else " that are finite"
            return f"No method has a rank: rare losses make all scores{known}."
        return "No method has a finite score."
    best = leaders[0]
    if len(able) == 1:
        return f"{_capital(best.label)} is the only method."
    parts = []
    if _is_clear(best, "ratio_to_3dvar"):
        parts.append(_gap(best, "ratio_to_3dvar", "tuned 3D-Var")[0])
    if math.isfinite(best.ratio_to_optimum):
        unit = "from" if best.in_decibel else "times"
        parts.append(f"{_times(best, 'ratio_to_optimum')[0]} {unit} the optimum")
    gaps = f": {' and '.join(parts)}" if parts else ""
    *others, last = (row.label for row in leaders)
    names = f"{', '.join(others)} and {last}" if others else last
    below = [r for r in able if r.rank is None and r.score < best.score]
    if below:
        which = " and ".join(row.label for row in below)
        lower = "score lower but have" if len(below) > 1 else "scores lower but has"
        have = "share" if others else "has"
        return (
            f"{_capital(names)} {have} the first rank{gaps}; {which} {lower} "
            "no rank, because a few trajectories make such a score."
        )
    if not others:
        return f"{_capital(last)} wins{gaps}."
    tied = f"{_capital(names)} are not distinguishable"
    if not all(math.isfinite(row.low) for row in leaders):
        return f"{tied}: a single trajectory gives no interval."
    return f"{tied} and score best{gaps}."


def _three(row: Any, name: str) -> list[float]:
    return [float(getattr(row, name + end)) for end in ("", "_low", "_high")]


def _is_clear(row: Any, name: str) -> bool:
    """Whether the interval of a ratio does not contain 1."""
    _, low, high = _three(row, name)
    return low > 1.0 or high < 1.0


def _db(ratio: float) -> float:
    return 20.0 * math.log10(ratio) if ratio > 0.0 else math.nan


def _percent(ratio: float) -> str:
    return f"{abs(100.0 * (ratio - 1.0)):.1f} %"  # as in the table


def _gap(row: Any, name: str, other: str) -> tuple[str, str]:
    """Return "74.2 % below OTHER" or "0.10 dB above OTHER", and its interval."""
    value, low, high = _three(row, name)
    clear, where = _is_clear(row, name), "below" if value < 1.0 else "above"
    where += f" {other}"
    if row.in_decibel:
        text = f"{abs(_db(value)):.2f} dB {where}"
        near, far = sorted(abs(_db(end)) for end in (low, high))
        return text, f" ({near:.2f}–{far:.2f} dB)" if clear else _times(row, name)[1]
    text = f"{_percent(value)} {where}"
    if not clear:
        return text, f" (ratio {low:.2f}–{high:.2f})"
    low, high = sorted((low, high), key=lambda v: abs(math.log(v)) if v > 0.0 else 0.0)
    return text, f" ({_percent(low).removesuffix(' %')}–{_percent(high)})"


def _times(row: Any, name: str) -> tuple[str, str]:
    """Return "1.05" or "+0.42 dB", and its interval if there is one."""
    value, low, high = _three(row, name)
    text, between = f"{value:.2f}", f" ({low:.2f}–{high:.2f})"
    if row.in_decibel:
        text = f"{_db(value):+.2f} dB"
        between = f" ({_db(low):+.2f} to {_db(high):+.2f} dB)"
    known = math.isfinite(low) and math.isfinite(high)
    return text.replace("-", "−"), between.replace("-", "−") if known else ""


def sentences(summary: Summary) -> dict[str, list[str]]:
    """Return the sentences about each case, by its title."""
    return {case_title(rows[0]): _shown(summary, rows) for rows in summary.cases}


def _shown(summary: Summary, rows: Rows) -> list[str]:
    """Return sentences about the best method, the others, the optimum and losses."""
    able = [row for row in rows if row.role == "method"]
    wrong = [_rare(r) for r in able if r.rare_losses and math.isfinite(r.score)]
    for row in (row for row in able if row.diverged > 0.0):
        n_lost, n = max(round(row.diverged * row.n_trajectories), 1), row.n_trajectories
        wrong.append(f"{_capital(row.label)} diverged on {n_lost} of {n} trajectories.")
    leaders = _leaders(rows)
    if not leaders:
        return wrong
    best, *tied = leaders
    measure, unit = summary.measure.shown(best.mirror_aware), ""
    if best.in_decibel:
        measure, unit = "a mean squared error of", " dB"
    interval = f" ({ends})" if (ends := shown_interval(best)) else ""
    text = f"{_capital(best.label)} scores {measure} {shown_score(best, best.score)}"
    lines = [f"{text}{interval}{unit}{_against_3dvar(best)}."]
    lines += [_tie(row, best) for row in tied]
    rest = [row for row in rows if row.rank is not None and row.rank > 1]
    for row in rest[:1]:
        gap = "".join(_gap(row, "ratio_to_best", best.label))
        lines.append(f"Next: {row.label}, {gap}.")
    encoders = (row for row in rows if row.scheme == "encoder")
    for row in (row for row in encoders if row.ratio_to_3dvar_low > 1.0):
        gap = "".join(_gap(row, "ratio_to_3dvar", "it"))
        lines.append(f"{_capital(row.label)} loses to tuned 3D-Var: {gap}.")
    return [*lines, _optimum(rows, best), *_published(rows), *wrong]


def _against_3dvar(best: Any) -> str:
    if not math.isfinite(best.ratio_to_3dvar):
        return ""
    if _is_clear(best, "ratio_to_3dvar"):
        return f", {''.join(_gap(best, 'ratio_to_3dvar', 'tuned 3D-Var'))}"
    times = "".join(_times(best, "ratio_to_3dvar"))
    return f", not distinguishable from tuned 3D-Var ({times} times)"


def _tie(row: Any, best: Any) -> str:
    start = f"Not distinguishable from {row.label}:"
    if not math.isfinite(row.ratio_to_best_low):
        return f"{start} a single trajectory gives no interval."
    what = "paired difference" if row.in_decibel else "paired ratio"
    why = f"the 95 % interval includes {'0' if row.in_decibel else '1'}"
    if _is_clear(row, "ratio_to_best"):
        why = (
            "they differ by less than two trainings of the same network can "
            f"({100.0 * TRAINING_SCATTER:.0f} %), and one of them was trained once"
        )
    times = "".join(_times(row, "ratio_to_best"))
    return f"{start} {what} {times} of it to {best.label}; {why}."


def _optimum(rows: Rows, best: Any) -> str:
    if not math.isfinite(best.ratio_to_optimum):
        why = "the experiment has no optimum for the same trajectories"
        starts = {row.start for row in rows if row.role == "optimum"}
        if any(row.role == "not settled" for row in rows):
            why = "a method beats the computed optimum"
        elif starts and best.start not in starts:
            why = "the optimum is that of methods with another background"
        return f"How far this is from the optimum is not known: {why}."
    text = f"It is {''.join(_gap(best, 'ratio_to_optimum', 'the optimum'))}"
    if not best.in_decibel:
        times = "".join(_times(best, "ratio_to_optimum"))
        text = (
            f"Its rmse_pooled_a, which the optimum minimises, is {times} times that of "
            "the optimum"
        )
    if not _is_clear(best, "ratio_to_optimum"):
        text += " (not distinguishable)"
    if any(row.role == "optimum" and row.settled < 1.0 for row in rows):
        text += "; the computed optimum was still improving with its size"
        if best.ratio_to_optimum > 1.0:
            text += ", so the true ratio is larger"
    return f"{text}."


def _published(rows: Rows) -> list[str]:
    """Return a sentence on how many methods reproduce their published scores."""
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
        f"{_capital(row.label)} has no rank: a few trajectories make its score. "
        f"{n_lost or 'None'} of {row.n_trajectories} {'are' if n_lost > 1 else 'is'} "
        f"lost (95 %: {lost_between(row)} %); the median over trajectories is "
        f"{shown_score(row, row.median)}."
    )
