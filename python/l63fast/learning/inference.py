"""An encoder as a function of NumPy arrays, and as a scheme that can be cycled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch

from l63fast import _checks
from l63fast._arithmetic import ieee_arithmetic
from l63fast.assimilation.agreement import FromTwin, Setup
from l63fast.assimilation.scheme import (
    Analysis,
    Status,
    forecast_members,
    observed_values,
)
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.learning.data import checked_windows
from l63fast.learning.encoders import Encoder
from l63fast.learning.pinned import pinned
from l63fast.learning.programs import Analyse, Graph
from l63fast.learning.settings import EncoderSettings, OwnSettings
from l63fast.learning.uncertainty import as_components
from l63fast.lorenz63 import Lorenz63
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin import TwinExperiment
from l63fast.verification import NORMAL, draw_members, mixture_moments

CHUNK: Final = 512  # samples per call: their intermediates stay in cache


class Estimate(NamedTuple):
    """What an encoder makes of backgrounds and observations.

    Attributes
    ----------
    analysis : (..., 3)
    hidden : (..., hidden_size) float32
        The next hidden state.
    components : (..., k) of dtype `verification.NORMAL`, or None
        The estimated distribution, as in `Analysis`.
    spread : (..., 3) or None
        Standard deviation of the analysis error.
    members : (..., n_members, 3) or None
        An ensemble that a function of your own returns.
    log_parameters, log_parameters_spread : (..., 3) or None
        log(p / p_0) of sigma, rho and beta, and its standard deviation.
    """

    analysis: np.ndarray
    hidden: np.ndarray
    components: np.ndarray | None = None
    spread: np.ndarray | None = None
    members: np.ndarray | None = None
    log_parameters: np.ndarray | None = None
    log_parameters_spread: np.ndarray | None = None

    def at(self, rows: np.ndarray) -> Estimate:
        """Return estimates of which these rows (n,) bool are given here, others NaN."""
        if rows.all():
            return self
        found: list[Any] = []
        for values in self:
            if values is None:
                found.append(None)
                continue
            whole = np.zeros((len(rows), *values.shape[1:]), values.dtype)
            missing = np.nan if values.dtype != NORMAL else _UNKNOWN
            whole[~rows], whole[rows] = missing, values
            found.append(whole)
        return Estimate(*found)


_UNKNOWN: Final = (np.nan, (np.nan,) * 3, ((np.nan,) * 3,) * 3)


class EncoderFunction:
    """Analyses of NumPy arrays in physical units, computed chunk by chunk.

    Parameters
    ----------
    program : callable
        ``(background, obs_window, hidden) -> (analysis, hidden)`` on tensors, with
        the mixture as a third output if the settings have an uncertainty.
    settings : EncoderSettings or OwnSettings
    hidden_size : int
    made_for : Setup, optional
        The setup of the training data, as far as it is known; cycles on data of another
        setup are refused.
    card : dict, optional
        The model card, if the encoder was loaded from a file.

    Attributes
    ----------
    lag : int
        Later observations of smoothed states; 0 without a smoother.
    """

    def __init__(
        self,
        program: Analyse,
        settings: EncoderSettings | OwnSettings,
        *,
        hidden_size: int = 0,
        made_for: Setup | None = None,
        card: dict[str, Any] | None = None,
    ):
        self.settings = settings
        self.operator = as_operator(settings.operator)
        self.made_for = replace(made_for or Setup(), operator=self.operator)
        self.window = settings.window
        self.hidden_size = hidden_size
        # Programs contain no smoother.
        self.lag = program.settings.lag if isinstance(program, Encoder) else 0
        self.card = card
        self._program = program
        self._run = _on_arrays(program)
        # ONNX Runtime does not use torch, and `pinned` would slow down short calls.
        self._arithmetic = ieee_arithmetic if isinstance(program, Graph) else pinned

    def __getstate__(self) -> dict[str, Any]:
        """Return the content of a pickle, with the program.

        Raises
        ------
        ArgumentTypeError
            If the program was loaded from a TorchScript or `.pt2` file.
        """
        is_pt2 = isinstance(self._program, torch.fx.GraphModule) and self.card
        if is_pt2 or isinstance(self._program, torch.jit.ScriptModule):
            raise ArgumentTypeError(
                "EncoderFunction: expected a program that can be pickled, got one of "
                "TorchScript or pt2; load the format 'safetensors' in its place"
            )
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the content of a pickle."""
        vars(self).update(state, _run=_on_arrays(state["_program"]))

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderFunction:
        """Return a trained encoder as a function."""
        return cls(
            encoder.eval(),
            encoder.settings,
            hidden_size=encoder.hidden_size,
            made_for=encoder.made_for,
        )

    @classmethod
    def for_twin(
        cls, twin: TwinExperiment, program: Analyse, *, window: int = 1, **options: Any
    ) -> EncoderFunction:
        """Return a function of your own that was made for the data of a twin.

        Parameters
        ----------
        twin : TwinExperiment
            Gives operator, interval, R, Q and model.
        program, window, **options
            As in `own`.
        """
        function = cls.own(program, twin.operator, window=window, **options)
        function.made_for = Setup.of(twin)
        return function

    @classmethod
    def own(
        cls,
        program: Analyse,
        operator: ObservationOperator | str,
        *,
        window: int = 1,
        hidden_size: int = 0,
    ) -> EncoderFunction:
        """Return a function of your own, such as a torch module, as an encoder.

        Parameters
        ----------
        program : callable or torch.nn.Module
            ``(background (n, 3), obs_window (n, L, obs_dim), hidden (n, hidden_size))
            -> (analysis (n, 3), hidden)``, float32 tensors in physical units. A third
            output may be a spread (n, 3) or members (n, n_members, 3).
        operator : ObservationOperator or its name
        window : int
            Number of observations in its window, L.
        hidden_size : int
            Size of the hidden state that it returns and gets back in the next cycle;
            zeros at the start.

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If an argument is not as described.
        """
        settings = OwnSettings(as_operator(operator), window)
        hidden_size = _checks.count("hidden_size", hidden_size)
        if isinstance(program, torch.nn.Module):
            program = program.eval()
        return cls(program, settings, hidden_size=hidden_size)

    def __call__(self, background: np.ndarray, obs_window: np.ndarray) -> np.ndarray:
        """Return analyses without a past: the hidden states are zero.

        Parameters
        ----------
        background : (..., 3) float64 or float32
        obs_window : (..., L, obs_dim) of the same dtype
            With `gaps` (..., L, obs_dim + 1), as in `EncoderSettings`.

        Returns
        -------
        (..., 3) of the background's dtype; computed in float32

        Raises
        ------
        ArgumentValueError, ArgumentTypeError
            If a shape or dtype is not as described, or a value is not finite.
        """
        analysis, _ = self.step(background, obs_window)
        return analysis

    def step(
        self,
        background: np.ndarray,
        obs_window: np.ndarray,
        hidden: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return analyses (..., 3) and the next hidden states (..., hidden_size)."""
        analysis, later, *_ = self.estimate(background, obs_window, hidden)
        return analysis, later

    def members(
        self,
        background: np.ndarray,
        obs_window: np.ndarray,
        n: int,
        *,
        seed: _checks.Seed = 0,
        hidden: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return members (..., n, 3) drawn from the estimated distributions.

        Raises
        ------
        ArgumentTypeError
            If the encoder estimates none.
        """
        found = self.estimate(background, obs_window, hidden)
        return draw_members(found.components, n, seed)

    def estimate(
        self,
        background: np.ndarray,
        obs_window: np.ndarray,
        hidden: np.ndarray | None = None,
    ) -> Estimate:
        """Return analyses, the next hidden states, and the estimated distributions."""
        background = _checks.states("background", background)
        obs_window = self._checked_window(obs_window, background)
        lead = background.shape[:-1]
        if hidden is None:
            hidden = np.zeros((*lead, self.hidden_size), dtype=np.float32)
        else:  # a non-finite memory spoils the analyses of its own trajectory only
            hidden = _checks.vectors(
                "hidden", hidden, size=self.hidden_size, only_finite=False
            )
        if hidden.shape != (*lead, self.hidden_size):
            raise ArgumentValueError(
                f"hidden: expected {(*lead, self.hidden_size)}, got {hidden.shape}"
            )
        n = background.size // 3
        analysis = np.empty((n, 3), dtype=background.dtype)
        later = np.empty((n, self.hidden_size), dtype=np.float32)
        others: list[np.ndarray] = []
        flat = (
            background.reshape(n, 3),
            obs_window.reshape(n, self.window, self.settings.observation_size),
            hidden.reshape(n, self.hidden_size),
        )
        # No program sees an empty batch: ONNX Runtime ends the process on one.
        with self._arithmetic():
            for start in range(0, n, CHUNK):
                part = slice(start, start + CHUNK)
                # Copies for every dtype: a program could write into its inputs.
                copies = [array[part].astype(np.float32) for array in flat]
                analysed, next_hidden, *other = self._run(*copies)
                # NumPy would broadcast another shape silently.
                _same_shape("analysis", analysed, copies[0])
                _same_shape("hidden", next_hidden, copies[2])
                analysis[part], later[part] = analysed, next_hidden
                others += other
        more = self._distribution(others, lead)
        own = self._program  # a program in a file has no estimates of parameters
        if isinstance(own, Encoder) and own.settings.estimates_parameters:
            with self._arithmetic(), torch.inference_mode():
                logs = own.log_parameters(torch.from_numpy(later))
            names = ("log_parameters", "log_parameters_spread")
            for name, log in zip(names, logs, strict=True):
                more[name] = log.numpy().astype(np.float64).reshape(*lead, 3)
        found = analysis.reshape(*lead, 3), later.reshape(*lead, self.hidden_size)
        return Estimate(*found, **more)

    def smoothed(self, cycles: Sequence[AnalysedCycle]) -> np.ndarray:
        """Return the states (n, 3) of the first of `lag` + 1 cycles, given all.

        Computed in float32; NaN for trajectories with a non-finite state or memory.
        """
        smooth = cast(Encoder, self._program).smooth
        arrays = [np.stack(parts) for parts in zip(*cycles, strict=True)]
        smoothed = np.full(arrays[0].shape[1:], np.nan)
        finite = np.ones(len(smoothed), bool)
        for values in (arrays[0], arrays[2], arrays[3]):  # windows may have gaps
            finite &= np.isfinite(values).all(axis=(0, 2))
        rows = finite.nonzero()[0]
        with self._arithmetic(), torch.inference_mode():
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                given = [array[:, part].astype(np.float32) for array in arrays]
                smoothed[part] = smooth(*map(torch.from_numpy, given))[0].numpy()
        return smoothed

    def _distribution(
        self, others: list[np.ndarray], lead: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """Return the fields of an `Estimate` that the third outputs are."""
        if isinstance(self.settings, EncoderSettings):
            k = {"none": 0, "gaussian": 1, "mixture": 2}[self.settings.uncertainty]
            if k == 0:
                return {}
            mixtures = np.empty((math.prod(lead), k, 13))
            np.concatenate(others or [mixtures[:0]], out=mixtures)
            components = as_components(mixtures).reshape(*lead, k)
            if k == 1 or self.settings.folds:
                # Of a state and its mirror image, the spread is that of each.
                A = components["factor"][..., 0, :, :]
                variance = np.einsum("...ij,...ij->...i", A, A)
            else:
                covariance = mixture_moments(components)[1]
                variance = np.diagonal(covariance, axis1=-2, axis2=-1)
            return {"components": components, "spread": np.sqrt(variance)}
        if not others:
            return {}
        values = np.concatenate(others).astype(np.float64)
        expected = (math.prod(lead), 3)
        if values.shape == expected:
            return {"spread": values.reshape(*lead, 3)}
        if values.ndim != 3 or (len(values), values.shape[2]) != expected:
            raise ArgumentValueError(
                f"program: expected spread {expected} or members "
                f"({expected[0]}, n_members, 3), got {values.shape}"
            )
        members = values.reshape(*lead, *values.shape[1:])
        return {"members": members, "spread": members.std(axis=-2, ddof=1)}

    def _checked_window(
        self, obs_window: np.ndarray, background: np.ndarray
    ) -> np.ndarray:
        size, gaps = self.settings.observation_size, self.settings.gaps
        window = checked_windows(obs_window, size, gaps=gaps, dtype=background.dtype)
        expected = (*background.shape[:-1], self.window, size)
        if window.shape != expected:
            raise ArgumentValueError(
                f"obs_window: expected {expected}, got {window.shape}"
            )
        return window


def _on_arrays(program: Analyse) -> Callable[..., tuple[np.ndarray, ...]]:
    if isinstance(program, Graph):
        return program.run  # converting to tensors takes a sixth of one analysis

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            return tuple(out.numpy() for out in program(*map(torch.from_numpy, arrays)))

    return run


def _same_shape(name: str, output: np.ndarray, given: np.ndarray) -> None:
    if output.shape != given.shape:
        raise ArgumentValueError(
            f"program: expected {name} {given.shape}, got {output.shape}"
        )


class AnalysedCycle(NamedTuple):
    """What a smoother reads of a cycle.

    Attributes
    ----------
    background, analysis : (n, 3)
    obs_window : (n, L, obs_dim)
    hidden : (n, hidden_size)
        The encoder's memory after the analysis.
    """

    background: np.ndarray
    obs_window: np.ndarray
    hidden: np.ndarray
    analysis: np.ndarray


class NeuralState(NamedTuple):
    """The latest estimate, the encoder's memory, and the cycles of its smoother.

    Attributes
    ----------
    estimate : (n, 3)
    hidden : (n, hidden_size)
    past : tuple of at most `lag` + 1 AnalysedCycle
    """

    estimate: np.ndarray
    hidden: np.ndarray
    past: tuple[AnalysedCycle, ...] = ()


@dataclass(frozen=True, eq=False)
class NeuralAnalysis(FromTwin):
    """The scheme that cycles an encoder: forecast, then its analysis.

    Parameters
    ----------
    encoder : EncoderFunction
        From `load_encoder`, `EncoderFunction.of`, `.for_twin` or `.own`.
    dt : float
        Time step of the model (time units).
    parameters : Lorenz63
    n_threads, backend
        As in `forecast`.
    """

    encoder: EncoderFunction
    dt: float = 0.01
    parameters: Lorenz63 = field(default_factory=Lorenz63)
    n_threads: int | None = None
    backend: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.encoder, EncoderFunction):
            raise ArgumentTypeError(
                "encoder: expected an EncoderFunction, which EncoderFunction.own makes "
                "of a module of your own and EncoderFunction.of of a trained Encoder, "
                f"got {type(self.encoder).__name__}"
            )
        if self.encoder.settings.analysis_at != "last":
            raise ArgumentValueError(
                "encoder: expected one whose analysis is at the last observation of "
                "its window, from which a cycle continues, got one at the first"
            )

    @property
    def made_for(self) -> Setup:
        """The setup that scheme and encoder were made for."""
        return replace(super().made_for, encoder=self.encoder.made_for)

    @property
    def reads_gaps(self) -> bool:
        """Whether `analyse` is given the time since the previous observation too."""
        return self.encoder.settings.gaps

    @property
    def window(self) -> int:
        """Number of observations that the encoder reads, L."""
        return self.encoder.window

    @property
    def smoother_lag(self) -> int:
        """Later observations of smoothed states; 0 without a smoother."""
        return self.encoder.lag

    def initial(self, background: np.ndarray, rng: np.random.Generator) -> NeuralState:
        """Return the background itself, and a hidden state of zeros."""
        memory = np.zeros((len(background), self.encoder.hidden_size), np.float32)
        return NeuralState(background, memory)

    def forecast(self, state: NeuralState, n_steps: int) -> NeuralState:
        """Return the state `n_steps` model steps later; the memory is unchanged."""
        later = forecast_members(
            state.estimate,
            n_steps,
            dt=self.dt,
            parameters=self.parameters,
            n_threads=self.n_threads,
            backend=self.backend,
        )
        return state._replace(estimate=later)

    def analyse(
        self, state: NeuralState, obs_window: np.ndarray
    ) -> tuple[NeuralState, Analysis]:
        """Return the state after the window, and the analysis.

        The window is (n, L, obs_dim); if the encoder reads gaps, it has NaN where a
        value is missing, and the times as its last values, (n, L, obs_dim + 1).
        """
        background, n = state.estimate, len(state.estimate)
        operator = self.encoder.operator
        if self.reads_gaps:
            obs_window = observed_values(obs_window)
        # The encoder refuses non-finite input, so such trajectories are left out.
        finite = np.isfinite(background).all(axis=-1)
        found = self.encoder.estimate(
            background[finite], obs_window[finite], state.hidden[finite]
        ).at(finite)
        analysed, hidden = found.analysis, state.hidden.copy()
        hidden[finite] = found.hidden[finite]
        past, smoothed, lag = state.past, None, self.smoother_lag
        if lag:
            latest = AnalysedCycle(background, obs_window, hidden, analysed)
            past, smoothed = (*past, latest)[-lag - 1 :], np.full((n, 3), np.nan)
            if len(past) > lag:
                smoothed = self.encoder.smoothed(past)
        good = np.isfinite(analysed).all(axis=-1)
        more = {}
        if found.log_parameters is not None and found.log_parameters_spread is not None:
            p = np.array(self.parameters.as_tuple()) * np.exp(found.log_parameters)
            spread = p * found.log_parameters_spread  # to first order
            more = {"parameters": p, "parameters_spread": spread}
        n_iter = np.where(good, self.encoder.settings.n_iterations, 0)
        analysis = Analysis(
            state=analysed,
            status=np.where(good, Status.CONVERGED, Status.NON_FINITE).astype(np.int8),
            n_iter=n_iter.astype(np.int32),
            cost=np.full(n, np.nan),
            residual=obs_window[:, -1, : operator.obs_dim] - operator(analysed),
            background=background,
            spread=found.spread,
            members=found.members,
            components=found.components,
            smoothed=smoothed,
            **more,
        )
        return NeuralState(analysed, hidden, past), analysis
