"""The figures of one result: from its own files, into its `figures/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast import plotting
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.experiments.describe import observed
from l63fast.experiments.report.trajectories import between
from l63fast.experiments.results import Result
from l63fast.experiments.settings import MEASURES
from l63fast.observation import ObservationOperator
from l63fast.storage import update_directory
from l63fast.verification import instantaneous_rms

__all__ = ["draw_figures"]

FIGURES: Final = "figures"


class _Scene:
    """The estimates of a result as arrays, and the truth between them."""

    def __init__(self, result: Result) -> None:
        data = result.settings.data
        estimates = result.estimates
        self.result = result
        self.operator = data.operator
        self.blind = ObservationOperator(data.operator).is_mirror_blind
        self.times = estimates["time"].to_numpy()
        self.truth = estimates["truth"].to_numpy()
        self.observations = estimates["observations"].to_numpy()
        self.background = estimates["background"].to_numpy()
        self.analysis = estimates["analysis"].to_numpy()
        self.label = str(result.metrics["label"])
        self.tuned = result.metrics["three_d_var"]
        self.methods = {"background": self.background, **self._three_d_var()}
        self.methods[self.label] = self.analysis
        method: Any = result.settings.method
        kind = method.model if method.scheme == "encoder" else method.scheme
        kinds = {"background": "background", "3D-Var": "3dvar", self.label: kind}
        self.kinds = {name: kinds[name] for name in self.methods}
        self.errors = {
            name: instantaneous_rms(states, self.truth, mirror_aware=self.blind)
            for name, states in self.methods.items()
        }
        last = list(self.errors.values())[-1]
        self.cases = plotting.select_cases(last.mean(axis=1))

    def _three_d_var(self) -> dict[str, np.ndarray]:
        """Return tuned 3D-Var of the same windows, where it was not the method."""
        settings = self.result.settings
        if self.tuned is None or settings.method.scheme == "3dvar":
            return {}
        R = settings.data.observation_covariance
        B = np.asarray(self.tuned["B"])
        given = (self.background, self.observations, self.operator)
        return {"3D-Var": three_d_var(*given, B=B, R=R).state}

    @property
    def error_label(self) -> str:
        return f"{'mirror-aware ' if self.blind else ''}error (rms)"

    def name_of(self, case: str) -> str:
        return f"{case} (test trajectory {self.cases[case]})"

    def title_of(self, case: str) -> str:
        return (
            f"{self.label}, observed: {observed(self.operator)}; {self.name_of(case)}"
        )

    def between(self, cases: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the truth of some trajectories at every model step, and its times."""
        data = self.result.settings.data
        paths = [between(self.truth[case], self.times, data) for case in cases]
        length = min(len(path) for path, _ in paths)
        return np.stack([path[:length] for path, _ in paths]), paths[0][1][:length]


def draw_figures(directory: str | Path) -> list[Path]:
    """Add the figures of a result to its folder; return their paths.

    Raises
    ------
    DataFileError
        If the result is missing or damaged; ResultError or LockedError if its folder
        cannot be written.
    """
    result = Result.open(directory)
    scene = _Scene(result)
    with update_directory(result.directory) as folder:
        written = _draw(scene, folder / FIGURES)
    return [result.directory / FIGURES / path.name for path in written]


def _draw(scene: _Scene, folder: Path) -> list[Path]:
    drawn = [
        *plotting.save_figure(_panels(scene), folder, "panels"),
        *plotting.save_figure(_attractor(scene), folder, "attractor"),
    ]
    curves = {
        "error_against_time": _errors,
        "error_distribution": _distribution,
        **({"training": _training} if scene.result.history else {}),
        **({"tuning": _tuning} if scene.tuned else {}),
    }
    for name, draw in curves.items():
        drawn += plotting.save_figure(draw(scene), folder, name)
    case = scene.cases["median"]
    path, path_times = scene.between([case])
    frames = plotting.animation(
        path[0],
        scene.background[case],
        scene.analysis[case],
        truth_times=path_times,
        times=scene.times,
        title=scene.title_of("median"),
    )
    return [*drawn, *plotting.save_animation(frames, folder, "animation")]


def _panels(scene: _Scene) -> Any:
    cases = list(scene.cases.values())
    path, path_times = scene.between(cases)
    return plotting.panels(
        path,
        scene.background[cases],
        scene.analysis[cases],
        scene.observations[cases],
        truth_times=path_times,
        times=scene.times,
        operator=scene.operator,
        titles=[scene.name_of(case) for case in scene.cases],
        mirror_aware=scene.blind,
    )


def _attractor(scene: _Scene) -> Any:
    case = scene.cases["median"]
    path, path_times = scene.between([case])
    return plotting.attractor(
        path,
        scene.background[[case]],
        scene.analysis[[case]],
        truth_times=path_times,
        times=scene.times,
        title=scene.title_of("median"),
        mirror_aware=scene.blind,
    )


def _errors(scene: _Scene) -> Any:
    return plotting.error_against_time(
        scene.times, scene.errors, label=scene.error_label, among=scene.kinds
    )


def _distribution(scene: _Scene) -> Any:
    return plotting.error_distribution(
        scene.errors, label=scene.error_label, among=scene.kinds
    )


def _training(scene: _Scene) -> Any:
    method: Any = scene.result.settings.method
    return plotting.training_curves(
        scene.result.history,
        best_epoch=scene.result.metrics["training"]["best_epoch"],
        label=f"loss ({method.training.loss})",
    )


def _tuning(scene: _Scene) -> Any:
    tuning = scene.tuned["tuning"]
    measure = MEASURES[scene.result.metrics["measure"]]
    return plotting.tuning_curve(
        np.asarray(tuning["scales"]),
        np.asarray(tuning["scores"], dtype=float),
        tuning["scale"],
        label=f"{measure.shown(scene.blind)} of 3D-Var, validation",
    )
