"""Figures of states: trajectories, failures, and the animation of assimilation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import plotting
from l63fast.experiments.describe import observed
from l63fast.experiments.report.scene import (
    Chapter,
    Picture,
    Rows,
    Scene,
    as_float,
    samples_of,
)
from l63fast.experiments.tables import case_title
from l63fast.lorenz63 import simulate
from l63fast.observation import ObservationOperator
from l63fast.plotting import Excerpt
from l63fast.twin import TwinSettings
from l63fast.verification import Failure

if TYPE_CHECKING:
    import xarray

__all__ = ["failures", "states"]

_WORST, _MEDIAN = 0, -1
_FRAMES: Final = 80
_MOST: Final = 12  # methods in one figure of bars


def states(scene: Scene) -> Chapter:
    """Return truth, background and analysis of the best method, still and in motion."""
    chapter = Chapter()
    for i, rows in enumerate(scene.featured):
        best = scene.best(rows)
        if best is None:
            chapter.missing.append(f"Every method diverged: {case_title(rows[0])}.")
            continue
        data = scene.diagnostics(best)
        chapter.pictures.append(_panels(scene, rows, best, data))
        if i == 0:
            moving = _animation(scene, best, data)
            chapter.pictures += [moving] if moving else []
    return chapter


def _panels(scene: Scene, rows: Rows, row: Any, data: xarray.Dataset) -> Picture:
    settings = scene.data(row)
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
        f"panels{scene.suffix(rows)}",
        figure,
        f"Truth, background, analysis and observations of {row.label}: "
        f"its median and its worst of {row.n_trajectories} test trajectories "
        f"by time-mean error, around the largest error of each; {case_title(rows[0])}. "
        "The numbers above are the root mean square error of background and analysis "
        "over the stretch shown.",
        f"Time series of x, y, z and error of {row.label}.",
    )


def _animation(scene: Scene, row: Any, data: xarray.Dataset) -> Picture | None:
    settings = scene.data(row)
    excerpt = excerpt_of(data, _MEDIAN, "", settings)
    if not np.isfinite(excerpt.analysis).all():
        return None
    frames = plotting.animation(
        excerpt.path,
        excerpt.background,
        excerpt.analysis,
        truth_times=excerpt.path_times,
        times=excerpt.times,
        title=row.label,
        mirror_aware=ObservationOperator(settings.operator).is_mirror_blind,
        n_frames=_FRAMES,
    )
    return Picture(
        "animation",
        frames,
        f"Assimilation in progress: {row.label} on its median test trajectory, one "
        f"frame per analysis, {len(frames)} of them; {case_title(row)}.",
        f"Animation of truth, background and analysis of {row.label}.",
    )


def failures(scene: Scene) -> Chapter:
    """Return how often analyses fail in which way, and the worst of each method."""
    chapter = Chapter()
    for rows in scene.featured:
        suffix = scene.suffix(rows)
        found = scene.diagnosed(rows, _MOST)
        if not found:
            continue
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
                f"from the truth, by what went wrong; {case_title(rows[0])}. "
                f"{samples_of(list(found.values()))}. Sign flip: its mirror image is "
                "at most half as far from the truth; wrong lobe: x has the wrong sign.",
                "Share of failed analyses by kind, for each method.",
            )
        )
        chapter.pictures += [
            _atlas(scene, row, found[row.label], i, suffix)
            for i, row in enumerate(rows)
            if row.label in found
        ]
    return chapter


def _atlas(
    scene: Scene, row: Any, data: xarray.Dataset, i: int, suffix: str
) -> Picture:
    settings = scene.data(row)
    worst = range(data.sizes["excerpt"] - 1)
    excerpts = [excerpt_of(data, k, _what(data, k), settings) for k in worst]
    where = f"{observed(row.operator)} observed, " if suffix else ""
    told = ", ".join(_in_short(data, k) for k in worst)
    return Picture(
        f"atlas{suffix}_{i:02d}",
        plotting.failure_panels(
            excerpts,
            operator=settings.operator,
            far_off=float(data.attrs["far_off"]),
            title=row.label,
        ),
        f"The {len(excerpts)} worst of {row.n_trajectories} test trajectories of "
        f"{row.label}, around the largest error of each; {case_title(row)}. "
        "Dotted: the error above which an analysis counts as failed.",
        f"{where}{row.label}: {told}",
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


def excerpt_of(
    data: xarray.Dataset, i: int, title: str, settings: TwinSettings
) -> Excerpt:
    """Return the i-th excerpt of diagnostics."""
    truth, background, analysis, times = (
        as_float(data, f"excerpt_{name}")[i]
        for name in ("truth", "background", "analysis", "time")
    )
    path, path_times = between(truth, times, settings)
    return Excerpt(title, times, truth, background, analysis, path, path_times)


def between(
    truth: np.ndarray, times: np.ndarray, settings: TwinSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth (n_saved, 3) at every model step, and its times.

    Each interval is integrated from the truth at its start. Where that does not end on
    the next truth (a model error, or the user's own data) only what is stored is
    returned.
    """
    steps = settings.steps_per_cycle
    pieces = simulate(
        truth[:-1],
        steps,
        dt=settings.dt,
        parameters=settings.parameters,
        on_divergence="nan",
    )
    if not np.allclose(pieces[:, -1], truth[1:], rtol=0.0, atol=1e-6):
        return truth, times
    path = np.concatenate([pieces[:, :-1].reshape(-1, 3), truth[-1:]])
    return path, times[0] + settings.dt * np.arange(len(path))
