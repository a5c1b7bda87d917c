"""The answer in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from l63fast.experiments.reporting.answer import Finding, Margin
from l63fast.experiments.reporting.entries import Entry

__all__ = ["beside", "headline", "number", "percent", "score_of", "sentences", "times"]


def number(value: float, *, decibel: bool = False) -> str:
    """Return a score as the report writes it: three digits, a true minus."""
    if not math.isfinite(value):
        return "diverged"
    if decibel:
        return f"{value:.2f}".replace("-", "−")
    if abs(value) >= 1000.0:
        return f"{value:.3g}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"


def score_of(entry: Entry) -> str:
    """Return a score with its interval: "0.267 (0.265–0.269)"."""
    text = number(entry.score, decibel=entry.in_decibel)
    if not math.isfinite(entry.low) or not entry.is_finite:
        return text
    low, high = (number(v, decibel=entry.in_decibel) for v in (entry.low, entry.high))
    return f"{text} ({low}{' to ' if entry.in_decibel else '–'}{high})"


def percent(ratio: float) -> str:
    """Return how far a ratio is from 1 in per cent, without its sign."""
    change = abs(100.0 * (ratio - 1.0))
    return f"{change:.0f} %" if change >= 10.0 else f"{change:.1f} %"


def beside(margin: Margin, name: str) -> str:
    """Return "74 % below NAME (73–75 %)", or above; "0.1 dB below NAME"."""
    below = margin.value < margin.neutral
    where = f"{'below' if below else 'above'} {name}"
    if margin.in_decibel:
        low, high = sorted((abs(margin.low), abs(margin.high)))
        if not margin.is_clear:
            return f"{abs(margin.value):.2f} dB {where}"
        return f"{abs(margin.value):.2f} dB {where} ({low:.2f}–{high:.2f} dB)"
    if not margin.is_clear:
        return f"{percent(margin.value)} {where}"
    low, high = sorted(
        (percent(margin.low), percent(margin.high)), key=lambda t: float(t[:-2])
    )
    return f"{percent(margin.value)} {where} ({low.removesuffix(' %')}–{high})"


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
    alone: dict[str, int] = {}
    shared: dict[str, int] = {}
    for finding in found:
        if finding.best is None:
            continue
        counts = shared if finding.tied else alone
        counts[finding.best.method] = counts.get(finding.best.method, 0) + 1
    names = sorted(
        {*alone, *shared}, key=lambda n: -(alone.get(n, 0) + shared.get(n, 0))
    )
    if not names:
        return f"Every method diverged in all {len(found)} cases."
    said = [_wins(n, alone.get(n, 0), shared.get(n, 0), len(found)) for n in names[:3]]
    return "; ".join(said) + "."


def _wins(name: str, alone: int, shared: int, n_cases: int) -> str:
    total = alone + shared
    text = f"{name} scores best in {total} of {n_cases} cases"
    if shared:
        text += f", in {shared} of them not distinguishable from another"
    return text


def _winner(finding: Finding) -> str:
    if finding.best is None:
        return "Every method diverged."
    if not finding.tied:
        return f"{finding.best.method} wins."
    names = [finding.best.method, *(margin.other for margin in finding.tied)]
    joined = f"{', '.join(names[:-1])} and {names[-1]}"
    if not all(margin.is_known for margin in finding.tied):
        return (
            f"{joined} are not distinguishable: a single trajectory gives no interval."
        )
    return f"{joined} are not distinguishable."


def sentences(finding: Finding) -> list[str]:
    """Return what one case shows: the score, what is beside it, what went wrong."""
    best = finding.best
    if best is None:
        return [_diverged(entry) for entry in finding.diverged]
    measure = "mean squared error" if best.in_decibel else best.measure
    unit = " dB" if best.in_decibel else ""
    text = f"{best.method} scores {measure} {score_of(best)}{unit}"
    if finding.three_d_var is not None:
        text += f", {_compared(finding.three_d_var)}"
    lines = [text + "."]
    lines += [_tie(margin, finding) for margin in finding.tied]
    if finding.next is not None:
        lines.append(
            f"Next: {finding.next.other}, {beside(finding.next, best.method)}."
        )
    lines.append(_optimum(finding))
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
    return (
        f"Not distinguishable from {margin.other}: {what} {times(margin)} of it to "
        f"{finding.best.method}; the 95 % interval includes "
        f"{'0' if margin.in_decibel else '1'}."
    )


def _optimum(finding: Finding) -> str:
    margin, best = finding.optimum, finding.best
    assert best is not None
    if margin is None:
        return (
            "How far this is from the optimum is not known: the experiment has no "
            "particle filter to compare with."
        )
    which = (
        "the optimum"
        if margin.other == "optimum"
        else (f"{margin.other}, which stands for the optimum here")
    )
    if margin.in_decibel:
        text = f"It is {beside(margin, which)}"
    else:
        pool = "Its pool, which the optimum minimises, is"
        text = f"{pool} {times(margin)} times that of {which}"
    if not margin.is_clear:
        text += " (not distinguishable)"
    if not finding.optimum_settled:
        text += (
            "; that was still improving with its size, so the true distance is larger"
        )
    return text + "."


def _diverged(entry: Entry) -> str:
    n = len(entry.means)
    lost = max(round(entry.numbers["diverged"] * n), 1)
    return f"{entry.method} diverged on {lost} of {n} trajectories."
