"""The optimum of single windows as a cell: what no encoder of them can beat."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from l63fast.assimilation.analogs import WindowPosterior, window_posterior
from l63fast.assimilation.window_evidence import Climate, Evidence
from l63fast.experiments.config import (
    BackgroundSettings,
    CellSettings,
    SampleSettings,
    ScoreSettings,
)
from l63fast.experiments.cycled.result import COLUMNS, trajectories_csv
from l63fast.experiments.problem import Problem, by_trajectory
from l63fast.experiments.result import (
    CONFIG,
    METRICS,
    TIMING,
    opened,
    timing,
    versions,
    write_text,
)
from l63fast.experiments.settings_file import build, dump_tables, to_table
from l63fast.observation import ObservationOperator
from l63fast.storage import read_bytes, result_directory, write_json
from l63fast.twin import TwinExperiment, TwinSettings
from l63fast.verification import score, trajectory_means

__all__ = [
    "OPTIMUM",
    "OptimumCell",
    "OptimumResult",
    "known_background",
    "optimum_of",
    "run_optimum",
]

OPTIMUM: Final = "optimum.csv"

# Backgrounds that say nothing of the state beyond the climate, and those whose errors
# have nothing to do with the observations' of the window.
_OF_CLIMATE: Final = ("mean", "independent", "none")
_OF_TRUTH: Final = ("forecast", "gauss")
_THINNEST: Final = 10.0  # effective size that all but 5 % of the windows have
_HONEST: Final = 1.05  # error made, at least, over the one claimed


@dataclass(frozen=True)
class WindowSettings:
    """Which windows the optimum is of, and how large its library is.

    Attributes
    ----------
    window : int
        Observations in a window.
    library : int
        States of the climate, among which those that fit are found.
    n_trajectories : int
        Test trajectories, the first ones, at most.
    """

    window: int
    library: int
    n_trajectories: int


@dataclass(frozen=True)
class OptimumCell:
    """Everything that decides the optimum of the windows of a twin experiment."""

    data: TwinSettings
    background: BackgroundSettings
    samples: SampleSettings
    optimum: WindowSettings
    scores: ScoreSettings
    data_name: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The cell's name in a results tree, such as "optimum_x_s0.5_w5_forecast"."""
        return f"optimum_{self.data_name}_w{self.optimum.window}_{self.background.kind}"

    def to_tables(self) -> dict[str, Any]:
        """Return the settings as the tables of a `config.toml`."""
        return {name: to_table(getattr(self, name)) for name in _SECTIONS}

    def is_of(self, encoder: CellSettings) -> bool:
        """Return whether it is the optimum of the windows that an encoder sees."""
        how = self.optimum
        return optimum_of(encoder, how.library, how.n_trajectories) == self


_SECTIONS: Final[dict[str, type[Any]]] = {
    "data": TwinSettings,
    "background": BackgroundSettings,
    "samples": SampleSettings,
    "optimum": WindowSettings,
    "scores": ScoreSettings,
}


def optimum_of(
    encoder: CellSettings, library: int, n_trajectories: int
) -> OptimumCell | None:
    """Return the optimum of the windows that an encoder sees, if they have one.

    A background that says nothing beyond the climate has the optimum of none. One that
    was cycled on the window's own observations has no simple one, nor has one at the
    window's start.
    """
    kind = known_background(encoder.background.kind)
    at_start = encoder.model.analysis_at == "first"
    if kind is None or (at_start and kind in _OF_TRUTH):
        return None
    return OptimumCell(
        encoder.data,
        BackgroundSettings(kind),
        encoder.samples,
        WindowSettings(encoder.model.window, library, n_trajectories),
        encoder.scores,
        encoder.data_name,
    )


def known_background(kind: str) -> str | None:
    """Return the background of the optimum for encoders that are given this one."""
    if kind in _OF_CLIMATE:
        return "none"
    return kind if kind in _OF_TRUTH else None


@dataclass(frozen=True)
class OptimumResult:
    """A finished optimum, verified against its manifest when it is opened."""

    directory: Path
    settings: OptimumCell
    metrics: Mapping[str, Any]
    timing: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> OptimumResult:
        """Return the optimum in a folder.

        Raises
        ------
        DataFileError
            If it is missing or damaged, or is no optimum.
        """
        found = opened(path, "an optimum", OPTIMUM)
        source = str(found.directory)
        sections = {
            name: build(section, found.tables[name], source=source, key=name)
            for name, section in _SECTIONS.items()
        }
        return cls(
            found.directory,
            OptimumCell(**sections, data_name=found.metrics["data_name"]),
            found.metrics,
            found.timing(),
        )

    @property
    def settled(self) -> bool:
        """Whether its states were enough: the error is what is claimed.

        Otherwise the score is an upper bound of the optimum's.
        """
        blind = ObservationOperator(self.metrics["operator"]).is_mirror_blind
        scores, pool = ("folded", "mirror_pool") if blind else ("mean", "pool")
        made_at_least = float(self.metrics["scores"][scores]["ci95"][pool][0])
        thinnest = float(self.metrics["effective_size"][0])
        claimed = float(self.metrics["claimed"])
        return thinnest > _THINNEST and made_at_least < _HONEST * claimed

    @property
    def trajectories(self) -> np.ndarray:
        """Time means (n_trajectories, 4), as `verification.trajectory_means`."""
        text = read_bytes(self.directory, OPTIMUM).decode()
        rows = csv.DictReader(io.StringIO(text))
        return np.array([[float(row[name]) for name in COLUMNS] for row in rows])


def run_optimum(
    cell: OptimumCell, data: Path, directory: Path, *, resume: bool = False
) -> dict[str, Any]:
    """Compute the optimum of the test windows; return the metrics of its folder.

    There is no half-done state to `resume` from.
    """
    started, start = datetime.now(UTC), perf_counter()
    with result_directory(directory) as folder:
        twin = TwinExperiment.load(data)
        posterior, truth = _posterior(cell, twin)
        n = truth.shape[0]
        means = trajectory_means(by_trajectory(posterior.mean, n), truth)
        folded = by_trajectory(posterior.folded, n)
        means[:, 2:] = trajectory_means(folded, truth)[:, 2:]
        metrics = _metrics(cell, twin, posterior, truth)
        write_text(folder, CONFIG, dump_tables(cell.to_tables()))
        write_json(folder / METRICS, metrics)
        write_text(folder, OPTIMUM, trajectories_csv(means))
        write_json(
            folder / TIMING, timing(started, {"optimum": perf_counter() - start})
        )
    return metrics


def _posterior(
    cell: OptimumCell, twin: TwinExperiment
) -> tuple[WindowPosterior, np.ndarray]:
    settings = CellSettings(
        data=cell.data,
        background=cell.background,
        samples=cell.samples,
        model=_reader(cell),
    )
    problem = Problem.prepare(twin, settings)
    samples = problem.samples("test")
    n_times = len(samples) // cell.data.n_test
    n = min(cell.optimum.n_trajectories, cell.data.n_test)
    first = slice(0, n * n_times)
    earlier, P, lag = problem.known_before(samples.background[first])
    evidence = Evidence(
        samples.obs_window[first],
        twin.operator,
        twin.R,
        cell.data.steps_per_cycle,
        earlier,
        P,
        lag,
    )
    climate = Climate(cell.data.dt, cell.data.parameters, cell.data.seed)
    posterior = window_posterior(evidence, climate, library=cell.optimum.library)
    return posterior, by_trajectory(samples.truth[first], n)


def _reader(cell: OptimumCell) -> Any:
    from l63fast.learning.settings import EncoderSettings

    return EncoderSettings(operator=cell.data.operator, window=cell.optimum.window)


def _metrics(
    cell: OptimumCell,
    twin: TwinExperiment,
    posterior: WindowPosterior,
    truth: np.ndarray,
) -> dict[str, Any]:
    how = cell.scores.bootstrap
    n = truth.shape[0]
    blind = twin.operator.is_mirror_blind
    scores = {
        name: asdict(score(by_trajectory(states, n), truth, mirror_aware=blind, **how))
        for name, states in (
            ("mean", posterior.mean),
            ("folded", posterior.folded),
        )
    }
    return {
        "cell": cell.name,
        "data_name": cell.data_name,
        "operator": cell.data.operator,
        "n_trajectories": n,
        "n_times": truth.shape[1],
        "scores": scores,
        "claimed": float(np.sqrt(posterior.variance.mean())),
        "effective_size": np.quantile(
            posterior.effective_size, (0.05, 0.5, 0.95)
        ).tolist(),
        "data": dict(twin.hashes),
        "versions": versions(),
    }
