"""Neural encoders as methods: trained on windows or in cycles, then run like others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from l63fast import _checks, _random
from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import three_d_var, variational_cost
from l63fast.errors import ArgumentValueError
from l63fast.experiments.protocols import Cycles, Estimates, Fitted, Problem, Windows
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.settings import (
    CARRIED_NAMES,
    ChainSettings,
    EncoderSettings,
    TrainSettings,
)
from l63fast.lorenz63 import forecast
from l63fast.storage import write_bytes
from l63fast.twin import TwinExperiment
from l63fast.verification import compare

if TYPE_CHECKING:
    from l63fast.learning.inference import EncoderFunction
    from l63fast.learning.training import TrainResult

__all__ = ["HISTORY", "TrainedEncoder", "recipe"]

HISTORY: Final = "history.csv"
_FRESH_WINDOWS: Final = 10  # of each trajectory that is simulated anew

# What brings a GRU to within a few per cent of the optimum in some minutes on a core.
_IN_CYCLES: Final[dict[str, Any]] = {
    "training": {
        "loss": "distance",
        "epochs": 32,
        "batch_size": 192,
        "learning_rate": 0.001,
        "warm_up": 0.02,
        "clip": 0.1,
        "patience": 1000,
        "averaging": 0.998,
        "optimiser": "muon",
        "matrix_rate": 6.0,
    },
    "cycles": {
        "updates": 400,
        "unroll": 24,
        "first_unroll": 8,
        "growth": 0.1,
        "through_model": 0.1,
    },
}


def recipe(protocol: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return how an encoder is trained where its table is silent."""
    if protocol != Cycles.name:
        return {}
    carried = table.get("model", TrainedEncoder.model) in CARRIED_NAMES
    return {"memory": "carried" if carried else "window", "window": 1, **_IN_CYCLES}


@dataclass(frozen=True)
class TrainedEncoder:
    """A neural encoder, trained for the data and the protocol that it is tried on.

    Attributes
    ----------
    model, hidden, n_iterations, memory, iteration
        As in `EncoderSettings`; the operator is that of the data.
    window : int, optional
        Of cycles: the observations that it reads. Windows have their own length.
    analysis_at : {"last", "first"}, optional
        Of windows: as in `EncoderSettings`; by default as the loss needs it.
    training : TrainSettings
    cycles : ChainSettings
        Of cycles: how it learns from the forecasts of its own analyses.
    fresh : int
        Of windows: trajectories that are simulated anew for each epoch, to learn from
        in place of the training split; 0: the training split.
    """

    scheme: ClassVar[str] = "encoder"
    role: ClassVar[str] = "method"
    model: str = "gru"
    window: int | None = None
    hidden: int = 64
    n_iterations: int = 1
    memory: str = "window"
    iteration: str = "fixed_point"
    analysis_at: str | None = None
    training: TrainSettings = field(default_factory=TrainSettings)
    cycles: ChainSettings = field(default_factory=ChainSettings)
    fresh: int = 0

    def __post_init__(self) -> None:
        _checks.count("fresh", self.fresh)
        self._settings("x", self.window or 1, self.analysis_at or "last")

    def settings(self, operator: str, protocol: Windows | Cycles) -> EncoderSettings:
        """Return the encoder for an operator and a protocol.

        Raises
        ------
        ArgumentValueError
            If it is not one for the protocol.
        """
        of_a_window = self.training.loss == "var3d_window"
        if isinstance(protocol, Cycles):
            if of_a_window:
                raise ArgumentValueError(
                    "training.loss: expected one of a single analysis in cycles, got "
                    f"{self.training.loss!r}"
                )
            if self.analysis_at == "first":
                raise ArgumentValueError(
                    "analysis_at: expected 'last' in cycles, which go on from "
                    "there, got 'first'"
                )
            return self._settings(operator, self.window or 1, "last")
        if self.window not in (None, protocol.window):
            raise ArgumentValueError(
                "window: expected none of its own beside windows of "
                f"{protocol.window} observations, got {self.window}"
            )
        if self.memory == "carried":
            raise ArgumentValueError(
                "memory: expected 'window' in windows, whose observations have no "
                "past, got 'carried'"
            )
        analysis_at = self.analysis_at or ("first" if of_a_window else "last")
        if of_a_window and analysis_at != "first":
            raise ArgumentValueError(
                "analysis_at: expected 'first' for the loss 'var3d_window', got "
                f"{analysis_at!r}"
            )
        return self._settings(operator, protocol.window, analysis_at)

    def _settings(
        self, operator: str, window: int, analysis_at: str
    ) -> EncoderSettings:
        return EncoderSettings(
            model=self.model,
            operator=operator,
            window=window,
            hidden=self.hidden,
            n_iterations=self.n_iterations,
            memory=self.memory,
            iteration=self.iteration,
            analysis_at=analysis_at,
        )

    def describe(self, protocol: Windows | Cycles) -> list[str]:
        """Return the lines that say how it will be trained."""
        settings, training = self.settings("x", protocol), self.training
        more = f", {settings.n_iterations} iterations" * (settings.n_iterations > 1)
        more += " (legacy)" * (self.iteration == "legacy")
        what = f"at most {training.epochs} epochs, batch {training.batch_size}"
        if isinstance(protocol, Cycles):
            updates = training.epochs * self.cycles.updates
            what = (
                f"{updates} updates of {training.batch_size} trajectories, "
                f"{self.cycles.unroll} cycles each"
            )
        return [
            f"model       {self.model}, {self.hidden} hidden, memory {self.memory}, "
            f"window of {settings.window}{more}",
            f"training    loss {training.loss}, {what}, learning rate "
            f"{training.learning_rate:g}, seed {training.seed}",
        ]

    def fit(self, problem: Problem) -> Fitted:
        """Return the encoder of its best epoch, trained as the protocol is."""
        from l63fast.learning.inference import EncoderFunction

        settings = self.settings(problem.twin.operator.name, problem.protocol)
        in_windows = isinstance(problem.protocol, Windows)
        train = self._trained_on_windows if in_windows else self._trained_in_cycles
        trained = train(settings, problem)
        best, n_epochs = trained.best_epoch, len(trained.history)
        problem.work.say(f"trained     {n_epochs} epochs, the best was {best}")
        updates = None if in_windows else n_epochs * self.cycles.updates
        return dataclasses.replace(
            self.as_trained(EncoderFunction.of(trained.encoder), problem),
            facts={
                "training": {
                    "epochs": n_epochs,
                    "best_epoch": best,
                    "updates": updates,
                },
                **self._fixed_point(trained, problem, settings),
            },
            judge=_cost if in_windows and self.training.loss == "var3d" else None,
            export=lambda folder: self._exported(trained, folder, problem),
        )

    def as_trained(self, function: EncoderFunction, problem: Problem) -> Fitted:
        """Return an encoder that was trained before, ready to run."""
        from l63fast.learning.inference import NeuralAnalysis

        settings = self.settings(problem.twin.operator.name, problem.protocol)
        label = self._label(settings, problem.protocol)
        if settings.analysis_at == "first":
            scheme = _AtStart(function, problem.twin, settings.window)
            return Fitted(scheme, label, start="first")
        return Fitted(NeuralAnalysis.for_twin(problem.twin, encoder=function), label)

    def _label(self, settings: EncoderSettings, protocol: Windows | Cycles) -> str:
        memory = "carried" if self.memory == "carried" else f"L={settings.window}"
        usual = "mse" if isinstance(protocol, Windows) else "distance"
        parts = [
            *(self.model.upper(), memory),
            *([f"K={self.n_iterations}"] if self.n_iterations != 1 else []),
            *(["legacy"] if self.iteration == "legacy" else []),
            *([self.training.loss] if self.training.loss != usual else []),
        ]
        return ", ".join(parts)

    def _trained_in_cycles(
        self, settings: EncoderSettings, problem: Problem
    ) -> TrainResult:
        from l63fast.learning.cycled_training import train_cycled

        work = problem.work
        return train_cycled(
            settings,
            self.training,
            self.cycles,
            problem.twin,
            B=problem.forecast_covariance,
            directory=work.folder,
            resume=work.resume,
            report=lambda row: work.epoch(row, self.training.epochs),
        )

    def _trained_on_windows(
        self, settings: EncoderSettings, problem: Problem
    ) -> TrainResult:
        from l63fast.learning.dynamics import DifferentiableForecast
        from l63fast.learning.training import train

        work, at = problem.work, settings.analysis_at
        steps = problem.twin.settings.steps_per_cycle
        seed = self.training.seed
        return train(
            settings,
            self.training,
            _simulation(problem, self.fresh, seed, settings)
            if self.fresh
            else problem.samples("train", analysis_at=at),
            problem.samples("val", analysis_at=at),
            B=problem.window_covariance,
            R=problem.twin.R,
            model=DifferentiableForecast(steps, **problem.model)
            if self.training.loss == "var3d_window"
            else None,
            directory=work.folder,
            resume=work.resume,
            report=lambda row: work.epoch(row, self.training.epochs),
        )

    def _fixed_point(
        self, trained: TrainResult, problem: Problem, settings: EncoderSettings
    ) -> dict[str, Any]:
        """Return how iterations move on the validation split, where there are some."""
        if settings.n_iterations == 1 or not isinstance(problem.protocol, Windows):
            return {}
        from l63fast.learning.fixed_point import fixed_point_report

        samples = problem.samples("val", analysis_at=settings.analysis_at)
        return {"fixed_point": asdict(fixed_point_report(trained.encoder, samples))}

    def _exported(self, trained: TrainResult, folder: Path, problem: Problem) -> None:
        """Write model and history, and what the model is good for."""
        import pandas as pd

        from l63fast.learning.export import save_model

        twin, protocol = problem.twin, problem.protocol
        in_windows = isinstance(protocol, Windows)
        made_for: dict[str, Any] = {
            "data": {
                name: twin.hashes[name]
                for name in (("train", "val") if in_windows else ("val",))
            },
            "sigma": twin.settings.sigma,
            "background": protocol.background
            if isinstance(protocol, Windows)
            else "its own forecasts",
            "loss": self.training.loss,
            "seed": self.training.seed,
        }
        if in_windows:
            made_for["background_covariance"] = problem.backgrounds.B.tolist()
        save_model(trained.encoder, folder, made_for)
        rows = pd.DataFrame(trained.history)
        text = rows.to_csv(index=False, na_rep="nan", lineterminator="\n")
        write_bytes(folder / HISTORY, text.encode())


class _AtStart:
    """An encoder that analyses a window's start; the model carries that to its end."""

    def __init__(
        self, function: EncoderFunction, twin: TwinExperiment, window: int
    ) -> None:
        settings = twin.settings
        self.window, self.function, self.made_for = window, function, function.made_for
        self.n_steps = (window - 1) * settings.steps_per_cycle
        self.model: dict[str, Any] = {
            "dt": settings.dt,
            "parameters": settings.parameters,
        }

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the background (n, 3) at the window's start."""
        return background

    def forecast(self, state: np.ndarray, n_steps: int) -> np.ndarray:
        """Return the state `n_steps` model steps later."""
        return forecast(state, n_steps, **self.model, on_divergence="nan")

    def analyse(
        self, state: np.ndarray, obs_window: np.ndarray
    ) -> tuple[np.ndarray, Analysis]:
        """Return the state at the window's end after all of its observations."""
        analysed = self.function(state, np.ascontiguousarray(obs_window[:, ::-1]))
        end = self.forecast(analysed, self.n_steps)
        finite = np.isfinite(end).all(axis=-1)
        status = np.where(finite, Status.CONVERGED, Status.NON_FINITE)
        return end, Analysis(
            state=end,
            status=status.astype(np.int8),
            n_iter=np.ones(len(end), dtype=np.int32),
            cost=np.full(len(end), np.nan),
            residual=obs_window[:, -1] - self.function.operator(end),
            background=self.forecast(state, self.n_steps),
        )


def _simulation(
    problem: Problem, n_trajectories: int, seed: int, settings: EncoderSettings
) -> Callable[[int], AssimilationDataset]:
    """Return what gives the samples of an epoch, counted from 0.

    They are the training split of another twin experiment of the same settings but for
    the length of its trajectories and its seed, which follows from `seed` and epoch;
    their backgrounds are drawn as the problem's are.
    """
    data = problem.twin.settings
    n_obs = settings.window + _FRESH_WINDOWS - 1
    short = dataclasses.replace(
        data,
        n_train=n_trajectories,
        n_val=1,
        n_test=1,
        n_steps=n_obs * data.steps_per_cycle,
        save_every=data.steps_per_cycle,
    )

    def simulated(epoch: int) -> AssimilationDataset:
        draw = _random.uniforms(seed, "training", "train", 1, (1,), first=epoch, draw=0)
        twin = TwinExperiment.generate(
            dataclasses.replace(short, seed=int(draw[0, 0] * 2.0**52))
        )
        return AssimilationDataset.from_twin(
            twin,
            "train",
            problem.backgrounds,
            window=settings.window,
            analysis_at=settings.analysis_at,
        )

    return simulated


def _cost(problem: Problem, found: Estimates, scores: dict[str, Any]) -> dict[str, Any]:
    """Return the mean cost J of the analyses over that of 3D-Var on the same windows.

    1 is what an encoder reaches at best that was trained with the loss `var3d`.
    """
    twin, B = problem.twin, problem.window_covariance
    given = (found.background, found.observations, twin.operator)
    best = three_d_var(*given, B=B, R=twin.R).state
    ours, least = (
        variational_cost(states, *given, B=B, R=twin.R).mean(axis=1)
        for states in (found.analysis, best)
    )
    ratio = compare(ours, least, measure="rmse_a")  # of means over trajectories
    return {
        "cost": {
            "analysis": float(ours.mean()),
            "3dvar": float(least.mean()),
            "ratio": ratio.ratio,
            "ci95": ratio.ratio_ci95,
        }
    }
