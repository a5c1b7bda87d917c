"""Figures of scores: methods beside each other, across sigma and interval, and cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from l63fast import plotting
from l63fast.experiments.cycled.published import range_of
from l63fast.experiments.describe import counted, observed
from l63fast.experiments.reporting.answer import Finding
from l63fast.experiments.reporting.entries import NAN, SOURCES, Case, Entry
from l63fast.experiments.reporting.pictures import Chapter, Picture
from l63fast.experiments.reporting.subject import Subject
from l63fast.experiments.reporting.wording import headline
from l63fast.plotting import MethodScore

__all__ = ["samples", "scores", "timing"]

_NO_SCORE = "A method that diverged has no point."


def scores(subject: Subject) -> Chapter:
    """Return every method beside the others, and across sigma and interval."""
    chapter = Chapter()
    for finding in subject.featured:
        chapter.pictures.append(_ranking(subject, finding))
    for axis in ("sigma", "interval"):
        if len({getattr(f.case, axis) for f in subject.findings}) > 1:
            chapter.pictures.append(_across(subject, axis))
    if len(subject.findings) == 1:
        chapter.missing.append(
            "One case only: nothing to draw against σ or the time between observations."
        )
    return chapter


def _label(entries: Iterable[Entry]) -> str:
    measures = list(dict.fromkeys(entry.measure for entry in entries))
    if len(measures) == 1:
        return _unit(measures[0])
    return _unit(" or ".join(measures))


def _unit(measure: str) -> str:
    return f"mean squared error ({measure})" if measure.endswith("dB") else measure


def _ranking(subject: Subject, finding: Finding) -> Picture:
    shown = [e for e in finding.entries if e.role != "baseline" or e.is_finite]
    shown = sorted(shown, key=lambda e: e.score if e.is_finite else float("inf"))
    points = {
        e.method: MethodScore(
            e.score,
            (e.low, e.high),
            range_of(*(e.numbers.get(name, NAN) for name in SOURCES)),
        )
        for e in shown
    }
    return Picture(
        f"scores{subject.suffix(finding.case)}",
        plotting.method_scores(points, label=_label(shown), among=subject.methods),
        f"{_score_words(shown[0])} of each method; {finding.case.title}. "
        f"{samples(shown)} Lines: 95 % intervals, bootstrap over trajectories"
        f"{_published(points.values())}.",
        f"Scores of {len(shown)} methods. {headline([finding])}",
    )


def _published(points: Iterable[MethodScore]) -> str:
    known = any(p.published[0] == p.published[0] for p in points)
    return (
        "; grey bars: from the lowest to the highest published value" if known else ""
    )


def _score_words(entry: Entry) -> str:
    measure = entry.measure
    if measure.endswith("dB"):
        return "Mean squared error in dB, 10 log₁₀ of the mean of |x_a − x_t|²/3,"
    kind = "Mirror-aware analysis" if measure.startswith("mirror") else "Analysis"
    what = (
        "time mean of the instantaneous root mean square over x, y, z"
        if measure.endswith("rms")
        else "root of the mean square over everything"
    )
    return f"{kind} error ({what})"


def samples(entries: Sequence[Entry]) -> str:
    """Return on how many analyses methods were tried, and which of them on fewer."""
    tried = {e.method: e.results[0].metrics for e in entries}
    numbers = {name: metrics["n_trajectories"] for name, metrics in tried.items()}
    most = max(numbers.values())
    fewer = [f"{name}: {n}" for name, n in numbers.items() if n < most]
    metrics = next(m for m in tried.values() if m["n_trajectories"] == most)
    n_times = metrics.get("n_cycles", metrics.get("n_times"))
    but = f" ({', '.join(fewer)})" if fewer else ""
    each = counted(n_times, "analysis", "analyses")
    return f"{most} test trajectories{but}, {each} each."


def _across(subject: Subject, axis: str) -> Picture:
    other = "interval" if axis == "sigma" else "sigma"
    panels: dict[tuple[str, str], dict[str, dict[float, MethodScore]]] = {}
    for entry in subject.entries:
        case = entry.case
        if entry.role == "baseline":
            continue
        column, row = observed(case.operator), _place(case, other)
        method = panels.setdefault((f"{column} observed", row), {})
        point = MethodScore(entry.score, (entry.low, entry.high))
        method.setdefault(entry.method, {})[getattr(case, axis)] = point
    words = {
        "sigma": "the standard deviation σ of the observation error",
        "interval": "the time between observations",
    }
    return Picture(
        f"scores_by_{axis}",
        plotting.scores_across(
            panels, axis, label=_label(subject.entries), among=subject.methods
        ),
        f"Score against {words[axis]}, with tuned 3D-Var and the optimum where the "
        f"experiment has them. {samples(subject.entries)} Bars: 95 % intervals. "
        f"Mirror-aware where x² alone is observed. {_NO_SCORE}",
        f"Scores of all methods against {words[axis]}.",
    )


def _place(case: Case, axis: str) -> str:
    text = f"σ = {case.sigma:.3g}" if axis == "sigma" else f"every {case.interval:g}"
    return f"{text}, {case.more}" if case.more else text


def timing(subject: Subject) -> Chapter:
    """Return what the accuracy of each method costs."""
    chapter = Chapter()
    for finding in subject.featured[:1]:
        costs = {
            e.method: (e.numbers["per_cycle"], e.score)
            for e in finding.entries
            if "per_cycle" in e.numbers and e.is_finite
        }
        if not costs:
            chapter.missing.append(
                "Encoders on single backgrounds: the time of one analysis is not "
                "measured; that of training stands in the table."
            )
            continue
        machine = _machines([e for e in finding.entries if e.method in costs])
        chapter.pictures.append(
            Picture(
                "cost",
                plotting.score_against_cost(
                    costs, label=_label(finding.entries), among=subject.methods
                ),
                f"Score against the wall time of one forecast and analysis, averaged "
                f"over all trajectories and cycles with the burn-in; "
                f"{finding.case.title}. {machine}",
                "Score of each method against its time per cycle.",
            )
        )
    return chapter


def _machines(entries: Sequence[Entry]) -> str:
    names = dict.fromkeys(
        f"{r.timing['machine']}, {r.timing['backend']}"
        for e in entries
        for r in e.results
    )
    return f"Measured on {'; '.join(names)}; other work on the machine makes it larger."
