"""Figures of states: trajectories, failures, and the animation of assimilation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import plotting
from l63fast.experiments.describe import observed
from l63fast.experiments.reporting.answer import Finding
from l63fast.experiments.reporting.entries import Entry
from l63fast.experiments.reporting.pictures import Chapter, Picture
from l63fast.experiments.reporting.states import excerpt_of
from l63fast.experiments.reporting.subject import Subject, as_float, samples_of
from l63fast.observation import ObservationOperator
from l63fast.verification import Failure

if TYPE_CHECKING:
    import xarray

__all__ = ["NOT_STORED", "failures", "states"]

NOT_STORED: Final = (
    "The cells of this experiment keep no diagnostics (they were run by an earlier "
    "version): run it again to see this section."
)
_WORST, _MEDIAN = 0, -1
_FRAMES: Final = 80
_MOST: Final = 12  # methods in one figure of bars


def states(subject: Subject) -> Chapter:
    """Return truth, background and analysis of the best method, still and in motion."""
    chapter = Chapter()
    for i, finding in enumerate(subject.featured):
        if finding.best is None:
            chapter.missing.append(f"Every method diverged: {finding.case.title}.")
            continue
        data = subject.diagnostics(finding.best)
        if data is None:
            chapter.missing.append(NOT_STORED)
            break
        chapter.pictures.append(_panels(subject, finding, finding.best, data))
        if i == 0:
            moving = _animation(finding.best, data)
            chapter.pictures += [moving] if moving else []
    return chapter


def _panels(
    subject: Subject, finding: Finding, entry: Entry, data: xarray.Dataset
) -> Picture:
    settings = entry.results[0].settings.data
    shown = [
        excerpt_of(data, i, name, settings)
        for i, name in ((_MEDIAN, "median"), (_WORST, "worst"))
    ]
    trajectories = [int(data["excerpt_trajectory"][i]) for i in (_MEDIAN, _WORST)]
    n = min(len(e.path) for e in shown)
    figure = plotting.panels(
        np.stack([e.path[:n] for e in shown]),
        np.stack([e.background for e in shown]),
        np.stack([e.analysis for e in shown]),
        as_float(data, "excerpt_observations")[[_MEDIAN, _WORST]],
        truth_times=shown[0].path_times[:n] - shown[0].times[0],
        times=shown[0].times - shown[0].times[0],
        operator=settings.operator,
        titles=[
            f"{e.title} trajectory (test {k}), from time {e.times[0]:.4g}"
            for e, k in zip(shown, trajectories, strict=True)
        ],
        mirror_aware=ObservationOperator(settings.operator).is_mirror_blind,
        longest=10.0,
    )
    return Picture(
        f"panels{subject.suffix(finding.case)}",
        figure,
        f"Truth, background, analysis and observations of {entry.method}, the best "
        f"method: its median and its worst of {entry.n_trajectories} test trajectories "
        f"by time-mean error, around the largest error of each; {finding.case.title}. "
        "The numbers above are the root mean square error of background and analysis "
        "over the stretch shown.",
        f"Time series of x, y, z and error of {entry.method}.",
    )


def _animation(entry: Entry, data: xarray.Dataset) -> Picture | None:
    settings = entry.results[0].settings.data
    excerpt = excerpt_of(data, _MEDIAN, "", settings)
    if not np.isfinite(excerpt.analysis).all():
        return None
    frames = plotting.animation(
        excerpt.path,
        excerpt.background,
        excerpt.analysis,
        truth_times=excerpt.path_times,
        times=excerpt.times,
        title=entry.method,
        mirror_aware=ObservationOperator(settings.operator).is_mirror_blind,
        n_frames=_FRAMES,
    )
    return Picture(
        "animation",
        frames,
        f"Assimilation in progress: {entry.method} on its median test trajectory, one "
        f"frame per analysis, {len(frames)} of them; {entry.case.title}.",
        f"Animation of truth, background and analysis of {entry.method}.",
    )


def failures(subject: Subject) -> Chapter:
    """Return how often analyses fail in which way, and the worst of each method."""
    chapter = Chapter()
    for finding in subject.featured:
        suffix = subject.suffix(finding.case)
        found = subject.diagnosed(finding, _MOST)
        if not found:
            chapter.missing.append(NOT_STORED)
            break
        kinds = [kind for kind in Failure if kind is not Failure.NONE]
        shares = {
            name: as_float(data, "failure_share")[1:].tolist()
            for name, data in found.items()
        }
        far = float(next(iter(found.values())).attrs["far_off"])
        chapter.pictures.append(
            Picture(
                f"failures{suffix}",
                plotting.failure_shares(shares, [kind.words for kind in kinds]),
                f"Share of analyses more than {far:g} (half the error of climatology) "
                f"from the truth, by what went wrong; {finding.case.title}. "
                f"{samples_of(list(found.values()))}. Sign flip: its mirror image is "
                "at most half as far from the truth; wrong lobe: x has the wrong sign.",
                "Share of failed analyses by kind, for each method.",
            )
        )
        chapter.pictures += [
            _atlas(entry, found[entry.method], i, suffix)
            for i, entry in enumerate(finding.entries)
            if entry.method in found
        ]
    return chapter


def _atlas(entry: Entry, data: xarray.Dataset, i: int, suffix: str) -> Picture:
    settings = entry.results[0].settings.data
    worst = range(data.sizes["excerpt"] - 1)
    excerpts = [excerpt_of(data, k, _what(data, k), settings) for k in worst]
    where = f"{observed(entry.case.operator)} observed, " if suffix else ""
    told = ", ".join(_in_short(data, k) for k in worst)
    return Picture(
        f"atlas{suffix}_{i:02d}",
        plotting.failure_panels(
            excerpts,
            operator=settings.operator,
            far_off=float(data.attrs["far_off"]),
            title=entry.method,
        ),
        f"The {len(excerpts)} worst of {entry.n_trajectories} test trajectories of "
        f"{entry.method}, around the largest error of each; {entry.case.title}. "
        "Dotted: the error above which an analysis counts as failed.",
        f"{where}{entry.method}: {told}",
        folded=True,
    )


def _what(data: xarray.Dataset, k: int) -> str:
    kind = Failure(int(data["excerpt_failure"][k]))
    largest: Any = float(data["excerpt_largest"][k])
    words = "no failure" if kind is Failure.NONE else kind.words
    size = f", largest error {largest:.3g}" if np.isfinite(largest) else ""
    return f"test {int(data['excerpt_trajectory'][k])}: {words}{size}"


def _in_short(data: xarray.Dataset, k: int) -> str:
    """Return "sign flip (13)", with the largest error of the trajectory."""
    kind = Failure(int(data["excerpt_failure"][k]))
    largest = float(data["excerpt_largest"][k])
    words = "none" if kind is Failure.NONE else kind.words.partition(",")[0]
    return f"{words} ({largest:.2g})" if np.isfinite(largest) else words
