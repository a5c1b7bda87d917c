"""A trained encoder as an assimilation scheme that can be cycled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from l63fast.assimilation.agreement import FromTwin, Setup
from l63fast.assimilation.scheme import Analysis, Status, forecast_members
from l63fast.errors import ArgumentValueError
from l63fast.learning.inference import EncoderFunction
from l63fast.lorenz63 import Lorenz63

__all__ = ["NeuralAnalysis", "NeuralState"]


class NeuralState(NamedTuple):
    """The latest estimate (n, 3) and the encoder's memory (n, hidden_size)."""

    estimate: np.ndarray
    hidden: np.ndarray


@dataclass(frozen=True, eq=False)
class NeuralAnalysis(FromTwin):
    """Cycles an encoder: forecast, then a correction by the last L observations.

    Parameters
    ----------
    encoder : EncoderFunction
        As `load_encoder` and `EncoderFunction.of`, `.for_twin` or `.own` give it.
    dt : float
        Time step of the model (time units).
    parameters : Lorenz63
    n_threads, backend
        Of the forecast, as in `forecast`.
    """

    encoder: EncoderFunction
    dt: float = 0.01
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    n_threads: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.encoder.settings.analysis_at != "last":
            raise ArgumentValueError(
                "encoder: expected one whose analysis is at the last observation of "
                "its window, got one at the first: a cycle goes on from the last"
            )

    @property
    def made_for(self) -> Setup:
        """What scheme and encoder take for granted."""
        return replace(super().made_for, encoder=self.encoder.made_for)

    @property
    def window(self) -> int:
        """Observations the encoder reads, L."""
        return self.encoder.window

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> NeuralState:
        """Return the background itself, and an empty memory."""
        memory = np.zeros((len(background), self.encoder.hidden_size), np.float32)
        return NeuralState(background, memory)

    def forecast(self, state: NeuralState, n_steps: int) -> NeuralState:
        """Return the state `n_steps` model steps later; the memory waits."""
        later = forecast_members(
            state.estimate,
            n_steps,
            dt=self.dt,
            parameters=self.parameters,
            n_threads=self.n_threads,
            backend=self.backend,
        )
        return NeuralState(later, state.hidden)

    def analyse(
        self, state: NeuralState, obs_window: np.ndarray
    ) -> tuple[NeuralState, Analysis]:
        """Return the state after the window (n, L, obs_dim), and the analysis."""
        background, n = state.estimate, len(state.estimate)
        finite = np.isfinite(background).all(axis=-1)
        analysed, hidden = np.full((n, 3), np.nan), state.hidden.copy()
        analysed[finite], hidden[finite] = self.encoder.step(
            background[finite], obs_window[finite], state.hidden[finite]
        )
        good = np.isfinite(analysed).all(axis=-1)
        n_iter = np.where(good, self.encoder.settings.n_iterations, 0)
        analysis = Analysis(
            state=analysed,
            status=np.where(good, Status.CONVERGED, Status.NON_FINITE).astype(np.int8),
            n_iter=n_iter.astype(np.int32),
            cost=np.full(n, np.nan),
            residual=obs_window[:, -1] - self.encoder.operator(analysed),
            background=background,
        )
        return NeuralState(analysed, hidden), analysis
