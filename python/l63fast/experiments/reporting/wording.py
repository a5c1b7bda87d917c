"""The answer in plain sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from l63fast.experiments.describe import decimals, shown_change
from l63fast.experiments.ranking import TRAINING_SCATTER
from l63fast.experiments.reporting.answer import Finding, Margin
from l63fast.experiments.reporting.entries import Entry

__all__ = [
    "beside",
    "headline",
    "number",
    "overview",
    "percent",
    "score_of",
    "sentences",
    "times",
]


def number(value: float, *, decibel: bool = False) -> str:
    """Return a score as the report writes it: three digits, a true minus."""
    if not math.isfinite(value):
        return "diverged"
    if decibel:
        return f"{value:.2f}".replace("-", "−")
    if abs(value) >= 1000.0:
        return f"{value:.3g}"
    return f"{value:.{decimals(value)}f}"


def score_of(entry: Entry) -> str:
    """Return a score with its interval: "0.267 (0.265–0.269)"."""
    text = number(entry.score, decibel=entry.in_decibel)
    if not math.isfinite(entry.low) or not entry.is_finite:
        return text
    low, high = (number(v, decibel=entry.in_decibel) for v in (entry.low, entry.high))
    return f"{text} ({low}{' to ' if entry.in_decibel else '–'}{high})"


def percent(ratio: float) -> str:
    """Return how far a ratio is from 1 in per cent, without its sign."""
    return shown_change(abs(100.0 * (ratio - 1.0))).removeprefix("+")


def beside(margin: Margin, name: str) -> str:
    """Return "74 % below NAME (73–75 %)", or above; "0.10 dB below NAME"."""
    where = f"{'below' if margin.value < margin.neutral else 'above'} {name}"
    if margin.in_decibel:
        value, *ends = (abs(v) for v in (margin.value, margin.low, margin.high))
        if not margin.is_clear:
            return f"{value:.2f} dB {where}"
        return f"{value:.2f} dB {where} ({min(ends):.2f}–{max(ends):.2f} dB)"
    text = f"{percent(margin.value)} {where}"
    if not margin.is_clear:
        return text
    low, high = sorted((margin.low, margin.high), key=lambda v: abs(v - 1.0))
    return f"{text} ({percent(low).removesuffix(' %')}–{percent(high)})"


def times(margin: Margin) -> str:
    """Return "1.05 (1.04–1.06)", or the difference in dB."""
    unit = " dB" if margin.in_decibel else ""
    text = f"{margin.value:+.2f}{unit}" if unit else f"{margin.value:.2f}"
    if margin.is_known:
        text += f" ({margin.low:.2f}{' to ' if unit else '–'}{margin.high:.2f})"
    return text.replace("-", "−")


def headline(found: Sequence[Finding]) -> str:
    """Return the answer to all cases in one sentence."""
    if len(found) == 1:
        return _winner(found[0])
    if all(finding.best is None for finding in found):
        return f"Every method diverged in all {len(found)} cases."
    won = Counter(f.best.method for f in found if f.best is not None and not f.tied)
    said = [f"{name} in {n}" for name, n in won.most_common(3)]
    said[:1] = [
        f"{_capital(name)} scores best in {n} of {len(found)} cases"
        for name, n in won.most_common(1)
    ]
    shared = sum(bool(finding.tied) for finding in found)
    if shared:
        where = f"in {shared}" if won else f"In {shared} of {len(found)} cases"
        tie = f"{where} the best is not distinguishable from another"
        return f"{', '.join(said)}; {tie}." if won else f"{tie}."
    return f"{', '.join(said)}."


def overview(found: Sequence[Finding]) -> list[str]:
    """Return a sentence on each method that is best somewhere: by how much."""
    lines = []
    clear = [f for f in found if f.best is not None and not f.tied]
    for name in dict.fromkeys(f.best.method for f in clear if f.best is not None):
        won = [f for f in clear if f.best is not None and f.best.method == name]
        gaps = {which: _span([getattr(f, which) for f in won]) for which in _BESIDES}
        said = [text.format(gaps[w]) for w, text in _BESIDES.items() if gaps[w]]
        if said:
            lines.append(f"Where {name} is best, its error is {' and '.join(said)}.")
    beaten = sum(finding.beaten for finding in found)
    if beaten:
        lines.append(
            f"In {beaten} of {len(found)} cases a method beats the particle filter "
            "that was to be the optimum: it is not settled, and no distance is given."
        )
    bound = sum(not finding.optimum_settled for finding in found)
    if bound:
        lines.append(
            f"In {bound} of {len(found)} cases the optimum was still improving with "
            "its size, so that the distance to it is larger."
        )
    return lines


_BESIDES: Final = {
    "three_d_var": "{} times that of tuned 3D-Var",
    "optimum": "{} times that of the optimum (by pool)",
}


def _span(margins: Sequence[Margin | None]) -> str:
    """Return the range of several ratios; differences in dB are left to the table."""
    known = [m.value for m in margins if m is not None and not m.in_decibel]
    if not known:
        return ""
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return low if low == high else f"{low}–{high}"


def _winner(finding: Finding) -> str:
    best = finding.best
    if best is None:
        return "Every method diverged."
    if not finding.tied:
        return f"{_capital(best.method)} wins{_gaps(finding)}."
    names = [best.method, *(margin.other for margin in finding.tied)]
    joined = f"{_capital(', '.join(names[:-1]))} and {names[-1]}"
    if not all(margin.is_known for margin in finding.tied):
        return (
            f"{joined} are not distinguishable: a single trajectory gives no interval."
        )
    return f"{joined} are not distinguishable and score best{_gaps(finding)}."


def _gaps(finding: Finding) -> str:
    """Return the margins of the best in short: ": 74 % below tuned 3D-Var and ..."."""
    said = []
    if finding.three_d_var is not None and finding.three_d_var.is_clear:
        short = beside(finding.three_d_var, f"tuned {finding.three_d_var.other}")
        said.append(short.partition(" (")[0])
    if finding.optimum is not None:
        gap = times(finding.optimum).partition(" (")[0]
        how = "from" if finding.optimum.in_decibel else "times"
        said.append(f"{gap} {how} the optimum")
    return f": {' and '.join(said)}" if said else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def sentences(finding: Finding) -> list[str]:
    """Return what one case shows: the score, what is beside it, what went wrong."""
    best = finding.best
    if best is None:
        return [_diverged(entry) for entry in finding.diverged]
    measure = "mean squared error" if best.in_decibel else best.measure
    unit = " dB" if best.in_decibel else ""
    text = f"{_capital(best.method)} scores {measure} {score_of(best)}{unit}"
    if finding.three_d_var is not None:
        text += f", {_compared(finding.three_d_var)}"
    lines = [text + "."]
    lines += [_tie(margin, finding) for margin in finding.tied]
    if finding.next is not None:
        lines.append(
            f"Next: {finding.next.other}, {beside(finding.next, best.method)}."
        )
    lines.append(_optimum(finding))
    lines += _published(finding)
    lines += [_diverged(entry) for entry in finding.diverged]
    return lines


def _compared(margin: Margin) -> str:
    if margin.is_clear:
        return beside(margin, f"tuned {margin.other}")
    return f"not distinguishable from tuned {margin.other} ({times(margin)} times)"


def _tie(margin: Margin, finding: Finding) -> str:
    assert finding.best is not None
    if not margin.is_known:
        return (
            f"Not distinguishable from {margin.other}: a single trajectory gives no "
            "interval."
        )
    what = "paired difference" if margin.in_decibel else "paired ratio"
    neutral = "0" if margin.in_decibel else "1"
    why = f"the 95 % interval includes {neutral}"
    if margin.is_clear:
        why = (
            "they differ by less than two trainings of one network do "
            f"({100.0 * TRAINING_SCATTER:.0f} %), and one of them was trained once"
        )
    return (
        f"Not distinguishable from {margin.other}: {what} {times(margin)} of it to "
        f"{finding.best.method}; {why}."
    )


def _optimum(finding: Finding) -> str:
    margin, best = finding.optimum, finding.best
    assert best is not None
    if margin is None:
        why = "the experiment has none on the same trajectories"
        if finding.beaten:
            why = "a method beats the particle filter that was to be it"
        return f"How far this is from the optimum is not known: {why}."
    if margin.in_decibel:
        text = f"It is {beside(margin, 'the optimum')}"
    else:
        pool = "Its pool, which the optimum minimises, is"
        text = f"{pool} {times(margin)} times that of the optimum"
    if not margin.is_clear:
        text += " (not distinguishable)"
    if not finding.optimum_settled:
        text += (
            "; that was still improving with its size, so the true distance is larger"
        )
    return text + "."


def _published(finding: Finding) -> list[str]:
    """Return how many methods reproduce what was published of them."""
    known = [entry for entry in finding.entries if entry.verdict]
    if not known:
        return []
    within = sum(entry.verdict == "within" for entry in known)
    text = f"Published scores: {within} of {len(known)} methods are within their range"
    others = [f"{e.method} ({e.verdict})" for e in known if e.verdict != "within"]
    return [f"{text}; outside: {', '.join(others)}." if others else f"{text}."]


def _diverged(entry: Entry) -> str:
    n = entry.n_trajectories
    lost = max(round(entry.numbers["diverged"] * n), 1)
    return f"{entry.method} diverged on {lost} of {n} trajectories."
