"""Figures with their captions, and the figures of a single result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast import plotting
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.experiments.describe import captions, observed
from l63fast.experiments.protocols import Cycles
from l63fast.experiments.results import Result
from l63fast.experiments.scoring import Rows, Summary, case_title
from l63fast.experiments.settings import MEASURES, Cell
from l63fast.lorenz63 import simulate
from l63fast.observation import as_operator
from l63fast.storage import content_errors, update_directory
from l63fast.twin import ForecastModel, TwinSettings
from l63fast.verification import instantaneous_rms

FIGURES: Final = "figures"


@dataclass(frozen=True)
class Picture:
    """A figure with its name, caption and summary.

    Attributes
    ----------
    name : str
        Name of the files, without suffix.
    figure : Figure, or list of frames of an animation
    caption : str
        What the figure shows, and the number of samples.
    summary : str
        Alternative text for readers who cannot see the figure.
    folded : bool
        Whether the page first shows only the summary, which opens the figure.
    """

    name: str
    figure: Any
    caption: str
    summary: str
    folded: bool


def picture(
    summary: Summary, kind: str, figure: Any, rows: Rows = (), **values: Any
) -> Picture:
    """Return a figure of a case, or of all cases, with its texts of `captions.toml`."""
    words = {"name": f"{kind}{{suffix}}" if rows else kind, **captions()[kind]}
    if rows:
        values |= {"case": case_title(rows[0]), "suffix": summary.suffix(rows)}
    texts = (words[key].format(**values) for key in ("name", "caption", "summary"))
    name, caption, alternative = texts
    return Picture(name, figure, caption, alternative, words.get("folded", False))


def tuning_figure(metrics: Mapping[str, Any], of: str = "", **method: Any) -> Any:
    """Return the figure of a tuning: score on the validation split against the number.

    Parameters
    ----------
    metrics : mapping
        The metrics of a cell.
    of : str
        Text after the name of the score in the label.
    **method
        `method` and `among` of `tuning_curve`.
    """
    tuning, name = metrics["tuning"], metrics["parameter"]["name"]
    measure = MEASURES[metrics["measure"]].kind
    return plotting.tuning_curve(
        np.asarray(tuning["scales"], dtype=float),
        np.asarray(tuning["scores"], dtype=float),
        float(tuning["scale"]),
        parameter={"b": "scale of B"}.get(name, name),
        label=f"{'mirror-aware ' * metrics['mirror_aware']}{measure}{of}, validation",
        **method,
    )


def between(
    truth: np.ndarray, times: np.ndarray, settings: TwinSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth (n, 3) at every model step, and the times of the steps.

    Each interval is integrated from the truth at its start. If this does not end at the
    next true state (because of model error, or in the user's own data), the given
    states and times are returned.
    """
    model: dict[str, Any] = {"dt": settings.dt, "parameters": settings.parameters}
    model["on_divergence"] = "nan"
    steps = np.rint(np.diff(times) / settings.dt).astype(int)
    pieces = [
        simulate(state, n_steps, **model)
        for state, n_steps in zip(truth[:-1], steps.tolist(), strict=True)
    ]
    ends = np.array([piece[-1] for piece in pieces])
    if not np.allclose(ends, truth[1:], rtol=0.0, atol=1e-6):
        return truth, times
    path = np.concatenate([*(piece[:-1] for piece in pieces), truth[-1:]])
    return path, times[0] + settings.dt * np.arange(len(path))


def forecasts(analysis: np.ndarray, settings: Cell) -> np.ndarray | None:
    """Return states from each analysis to the next (..., n_times - 1, n_steps + 1, 3).

    None for windows, whose backgrounds are no forecasts from earlier analyses, and for
    irregular times. The forecasts of non-finite analyses are NaN.
    """
    if not isinstance(settings.protocol, Cycles) or settings.data.is_irregular:
        return None
    data, starts = settings.data, analysis[..., :-1, :]
    finite = np.isfinite(starts).all(axis=-1)[..., None]
    # The optimum forecasts with the model of the truth.
    is_best = settings.method.role == "optimum"
    model = ForecastModel() if is_best else settings.model
    n_steps = model.steps(data, data.steps_per_cycle)
    starts = np.where(finite, starts, 0.0)
    paths = simulate(starts, n_steps, on_divergence="nan", **model.arguments(data))
    return np.where(finite[..., None], paths, np.nan)


def draw_figures(directory: str | Path) -> list[Path]:
    """Add the figures of a result to its folder; return their paths.

    Raises
    ------
    DataFileError
        If the result is missing or damaged.
    ResultError, LockedError
        If its folder cannot be written.
    """
    result = Result.open(directory)
    with content_errors(result.directory):
        figures = _figures(result)
    written: list[Path] = []
    with update_directory(result.directory) as folder:
        for name, figure in figures.items():
            still = not isinstance(figure, list)
            save: Any = plotting.save_figure if still else plotting.save_animation
            written += save(figure, folder / FIGURES, name)
    return [result.directory / FIGURES / path.name for path in written]


def _figures(result: Result) -> dict[str, Any]:
    """Return the figures and the list of frames of the animation, by name."""
    data, metrics, history = result.settings.data, result.metrics, result.history
    method: Any = result.settings.method
    names = ("time", "truth", "background", "analysis", "observations")
    states = (result.estimates[name].to_numpy() for name in names)
    times, truth, background, analysis, observations = states
    label, blind = metrics["label"], metrics["mirror_aware"]
    tuned = metrics["three_d_var"]
    methods = {"background": background}
    # The operator of the user is not imported here, and 3D-Var would need it.
    needs_h = as_operator(data.operator).is_own
    if tuned is not None and method.scheme != "3dvar" and not needs_h:
        B, R = np.asarray(tuned["B"]), data.observation_covariance
        gaps: dict[str, Any] = {"missing": "nan"} if data.missing else {}
        minimum = three_d_var(background, observations, data.operator, B=B, R=R, **gaps)
        methods["3D-Var"] = minimum.state
    methods[label] = analysis
    errors = {
        name: instantaneous_rms(estimate, truth, mirror_aware=blind)
        for name, estimate in methods.items()
    }
    chosen = plotting.select_cases(errors[label].mean(axis=1))
    titles = [f"{name} (test trajectory {case})" for name, case in chosen.items()]
    cases, median = list(chosen.values()), [chosen["median"]]
    paths = {case: between(truth[case], times, data) for case in cases}
    length = min(len(path) for path, _ in paths.values())
    path, path_times = paths[median[0]]
    shared: dict[str, Any] = {"truth_times": path_times, "times": times}
    shared["title"] = f"{label}, observed: {observed(data.operator_name)}; {titles[1]}"
    kinds = {"background": "background", "3D-Var": "3dvar"}
    kinds[label] = getattr(method, "model", method.scheme)
    words: dict[str, Any] = {"label": f"{'mirror-aware ' * blind}error (rms)"}
    words["among"] = {name: kinds[name] for name in methods}
    figures: dict[str, Any] = {
        "panels": plotting.panels(
            np.stack([paths[case][0][:length] for case in cases]),
            *(background[cases], analysis[cases], observations[cases]),
            truth_times=path_times[:length],
            times=times,
            operator=data.operator,
            titles=titles,
            forecasts=forecasts(analysis[cases], result.settings),
            mirror_aware=blind,
        ),
        "attractor": plotting.attractor(
            path[None],
            background[median],
            analysis[median],
            mirror_aware=blind,
            **shared,
        ),
        "error_against_time": plotting.error_against_time(times, errors, **words),
        "error_distribution": plotting.error_distribution(errors, **words),
    }
    if history:
        best, loss = metrics["training"]["best_epoch"], f"loss ({method.training.loss})"
        drawn = plotting.training_curves(history, best_epoch=best, label=loss)
        figures["training"] = drawn
    if tuned:
        of_b = {"tuning": tuned["tuning"], "parameter": {"name": "b"}}
        figures["tuning"] = tuning_figure({**metrics, **of_b}, " of 3D-Var")
    [first], [last] = background[median], analysis[median]
    return {**figures, "animation": plotting.animation(path, first, last, **shared)}
