"""Encoders as methods: trained in cycles on fresh simulations, then cycled."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from l63fast.experiments.cycled.prepared import Prepared
from l63fast.experiments.cycled.problem import CycledProblem
from l63fast.learning.settings import ChainSettings, EncoderSettings, TrainSettings

if TYPE_CHECKING:
    from l63fast.learning.training import TrainResult

__all__ = ["TrainedEncoder", "of_training"]


def of_training(key: str, seed: int) -> str:
    """Return what a method is called in the training of a seed, such as "gru-t0"."""
    return f"{key}-t{seed}"


@dataclass(frozen=True)
class TrainedEncoder:
    """A neural encoder, trained for the twin experiment that it is cycled on.

    Attributes
    ----------
    model, window, hidden, n_iterations, memory, iteration
        As in `EncoderSettings`; the operator is that of the data.
    training : TrainSettings
    cycles : ChainSettings
        How it learns from the forecasts of its own analyses.
    """

    scheme: ClassVar[str] = "encoder"
    role: ClassVar[str] = "method"
    model: str = "gru"
    window: int = 1
    hidden: int = 64
    n_iterations: int = 1
    memory: str = "carried"
    iteration: str = "fixed_point"
    training: TrainSettings = field(default_factory=TrainSettings)
    cycles: ChainSettings = field(default_factory=ChainSettings)

    def __post_init__(self) -> None:
        self._encoder("x")

    def threads(self) -> AbstractContextManager[None]:
        """Return the context in which it is trained and cycled: torch as by default."""
        from l63fast.learning.pinned import pinned

        return pinned(self.training.threads)

    def _encoder(self, operator: str) -> EncoderSettings:
        return EncoderSettings(
            model=self.model,
            operator=operator,
            window=self.window,
            hidden=self.hidden,
            n_iterations=self.n_iterations,
            memory=self.memory,
            iteration=self.iteration,
        )

    def prepare(self, problem: CycledProblem, *, measure: str) -> Prepared:
        """Return the trained encoder as a scheme, as of its best epoch."""
        from l63fast.learning.cycled_training import train_cycled
        from l63fast.learning.inference import EncoderFunction
        from l63fast.learning.scheme import NeuralAnalysis

        twin = problem.twin
        trained = train_cycled(
            self._encoder(twin.operator.name),
            self.training,
            self.cycles,
            twin,
            B=problem.three_d_var.background,
            directory=problem.working,
            resume=problem.resume,
            report=problem.report,
        )
        memory = "carried" if self.memory == "carried" else f"L={self.window}"
        form = ", legacy" if self.iteration == "legacy" else ""
        return Prepared(
            NeuralAnalysis.for_twin(twin, encoder=EncoderFunction.of(trained.encoder)),
            f"{self.model.upper()}, {memory}{form}",
            training={
                "epochs": len(trained.history),
                "best_epoch": trained.best_epoch,
                "updates": len(trained.history) * self.cycles.updates,
            },
            export=lambda folder: _exported(trained, folder, self, problem),
        )


def _exported(
    trained: TrainResult, folder: Path, method: TrainedEncoder, problem: CycledProblem
) -> None:
    from l63fast.experiments.result import HISTORY, csv_text, write_text
    from l63fast.learning.export import save_model

    twin = problem.twin
    made_for: dict[str, Any] = {
        "data": {"val": twin.hashes["val"]},
        "sigma": twin.settings.sigma,
        "background": "its own forecasts",
        "loss": method.training.loss,
        "seed": method.training.seed,
    }
    save_model(trained.encoder, folder, made_for)
    write_text(folder, HISTORY, csv_text(trained.history))
