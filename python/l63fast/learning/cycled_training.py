"""Training in cycles: on new simulations, with forecasts of the encoder's own analyses.

`cycles` explains how the batches are made. Here are the data around them: the scales of
the encoder come from a cycled 3D-Var, which is also the warm-up of encoders with a
window. After each epoch the encoder is cycled over the validation split of the twin
experiment; the epoch with the lowest loss there is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from l63fast._progress import Progress
from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.assimilation.backgrounds import perturbed
from l63fast.assimilation.cycling import run_cycles
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentValueError
from l63fast.learning.batches import as_batch
from l63fast.learning.cycles import CycledBatches, SmoothedBatches, TruthChains
from l63fast.learning.data import AssimilationDataset, windows
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.inference import EncoderFunction, NeuralAnalysis
from l63fast.learning.loop import Record, TrainingRun, torch_device
from l63fast.learning.losses import Batch, Loss, WithParameters, build_loss
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.own_model import OwnModel
from l63fast.learning.settings import ChainSettings, EncoderSettings, TrainSettings
from l63fast.learning.training import (
    TrainResult,
    completed,
    identity,
    loss_of_background,
)
from l63fast.learning.uncertainty import as_mixture
from l63fast.lorenz63 import climatology, spin_up
from l63fast.observation import as_operator
from l63fast.twin import TwinExperiment
from l63fast.verification import rmse, rmse_pooled

_BURN_IN: Final = 64  # cycles of a validation trajectory that are not scored
_SCALES: Final = (256, 32, 16)  # trajectories, cycles left out, cycles that count
_LEAST_START: Final = 1e-6  # keeps the covariance of a perfect start invertible
_FAR: Final = 8.0  # standard deviation of a non-finite estimate: that of the climate
_OF_PARAMETERS: Final = 0.1  # weight of their score, in losses of the background
_FEWER: Final = 4  # updates of the filter for one of its smoother, rounded up
_B_SCALE: Final = 0.1  # B of 3D-Var in units of the climatological covariance C


def train_cycled(
    encoder_settings: EncoderSettings,
    train_settings: TrainSettings,
    cycle_settings: ChainSettings,
    twin: TwinExperiment,
    *,
    B: np.ndarray | None = None,
    directory: Path | None = None,
    resume: bool = False,
    report: Callable[[Record], None] | None = None,
    progress: Progress = False,
) -> TrainResult:
    """Return an encoder trained in cycles with the settings of a twin experiment.

    Truth and observations of the training are simulated during the training with the
    settings of the twin, forecasts with its model. Only its validation split is read:
    val_loss, val_rmse_pooled_a and val_rmse_a of a record are scores of the encoder
    cycled on it.

    Parameters
    ----------
    encoder_settings, train_settings, cycle_settings
        A model of your own is imported by its name. A twin with gaps sets `gaps`; the
        training then draws gaps by the same law. With a `lag` the encoder is trained as
        without one, and after it the smoother, with a quarter of the updates.
    twin : TwinExperiment
    B : (3, 3), optional
        Background error covariance, for the losses that need it.
    directory, resume, report, progress
        As in `train`.

    Raises
    ------
    TrainingDiverged
        If the loss or its gradient becomes non-finite, or most estimates are lost.
    BackendError
        If the settings ask for a GPU and there is none.
    ModelFileError
        If the checkpoint is damaged or of another run.
    ArgumentValueError
        If settings and twin do not agree.
    """
    if twin.settings.gaps:
        encoder_settings = replace(encoder_settings, gaps=True)
    encoder_settings.check_loss(train_settings.loss)
    _check_twin(twin, encoder_settings)
    own = OwnModel.imported(encoder_settings.model)
    more = {} if twin.model.is_perfect else {"model": twin.model.to_dict()}

    def trained(
        settings: EncoderSettings, folder: Path | None, frozen: Encoder | None = None
    ) -> TrainResult:
        key = identity(
            settings,
            train_settings,
            cycle_settings,
            source_sha256=own and own.source_sha256,
            twin=twin.settings.to_dict(),
            val_data=twin.hashes["val"],
            B=B,
            **more,
        )
        begin = partial(_begin, settings, train_settings, cycle_settings, twin, B)
        return completed(
            lambda: begin(folder, own, frozen),
            train_settings,
            key,
            directory=folder,
            resume=resume,
            report=report,
            progress=progress,
        )

    if not encoder_settings.lag:
        return trained(encoder_settings, directory)
    # The encoder is the same as without a smoother, and is not trained any more.
    folder = directory and directory / "filter"
    if folder is not None:
        folder.mkdir(exist_ok=True)
    first = trained(replace(encoder_settings, lag=0), folder)
    second = trained(encoder_settings, directory, first.encoder)
    return replace(
        first,
        encoder=second.encoder,
        smoother=second.history,
        seconds=first.seconds + second.seconds,
    )


def _check_twin(twin: TwinExperiment, settings: EncoderSettings) -> None:
    operator = as_operator(settings.operator)
    check_agreement("encoder_settings", Setup(operator=operator), Setup.of(twin))
    simulated = twin.settings.observation_covariance
    if not np.allclose(twin.R, simulated):
        raise ArgumentValueError(
            "twin: expected R as in its settings, with which observations are "
            f"simulated in training, {simulated.tolist()}, got {twin.R.tolist()}"
        )


def _begin(
    encoder_settings: EncoderSettings,
    settings: TrainSettings,
    cycle_settings: ChainSettings,
    twin: TwinExperiment,
    B: np.ndarray | None,
    directory: Path | None,
    own: OwnModel | None,
    frozen: Encoder | None = None,
) -> TrainingRun:
    """Return the untrained run of an encoder, or of the smoother of a frozen one."""
    loss = build_loss(settings.loss, twin.operator, B=B, R=twin.R)
    warm_up = _three_d_var(twin, settings.seed)
    samples = _samples(warm_up, twin, encoder_settings, settings.seed)
    normaliser = Normaliser.fit(samples, twin.operator)
    device = torch_device(settings)
    encoder = build_encoder(
        encoder_settings, normaliser, seed=settings.seed, own=own
    ).to(device)
    encoder.made_for = Setup.of(twin)
    batches = CycledBatches
    if frozen is not None:
        encoder.load_state_dict(frozen.state_dict(), strict=False)
        batches = SmoothedBatches
        fewer = -(-cycle_settings.updates // _FEWER)
        cycle_settings = replace(cycle_settings, updates=fewer)
    source = batches(
        encoder,
        cycle_settings,
        twin.settings,
        model=twin.model,
        n=settings.batch_size,
        n_epochs=settings.epochs,
        seed=settings.seed,
        n_threads=settings.threads,
    )
    reference, trained = loss_of_background(loss, as_batch(samples)), loss
    if encoder_settings.estimates_parameters:
        trained = WithParameters(loss, _OF_PARAMETERS * reference)
    return TrainingRun(
        encoder,
        settings,
        trained.to(device),
        source,
        _CycledValidation(loss, twin, warm_up, cycle_settings.start_sigma),
        reference=reference,
        directory=directory,
    )


def _three_d_var(twin: TwinExperiment, seed: int) -> ThreeDVar:
    """Return the 3D-Var that sets the scales and warms up encoders with a window."""
    settings = twin.settings
    model: dict[str, Any] = {"dt": settings.dt, "parameters": settings.parameters}
    climate = climatology(spin_up(4096, seed=seed, split="train", **model))
    B = _B_SCALE * climate.covariance
    return ThreeDVar.for_twin(twin, B=B)


def _samples(
    scheme: ThreeDVar, twin: TwinExperiment, encoder: EncoderSettings, seed: int
) -> AssimilationDataset:
    """Return samples from cycles of 3D-Var, which set the scales of an encoder."""
    n, n_before, n_scored = _SCALES
    gaps, window, data = encoder.gaps, encoder.window, twin.settings
    chains = TruthChains(data, n, seed=seed, n_threads=1, gaps=gaps)
    state = chains.truth
    n_cycles = n_before + max(n_scored, window)
    segment = chains.advance(n_cycles, 0)
    truth, observations = (
        a.swapaxes(0, 1) for a in (segment.truth, segment.observations)
    )
    backgrounds = np.empty_like(truth)
    for k in range(n_cycles):
        n_steps = twin.model.steps(data, int(segment.steps[k]))
        backgrounds[:, k] = state = scheme.forecast(state, n_steps)
        seen = np.ascontiguousarray(observations[:, k : k + 1, : chains.obs_dim])
        state, _ = scheme.analyse(state, seen)
    last = slice(n_cycles - n_scored, n_cycles)
    read = windows(observations, window)[:, -n_scored:]
    return AssimilationDataset(
        background=backgrounds[:, last].reshape(-1, 3),
        obs_window=np.ascontiguousarray(read).reshape(-1, *read.shape[2:]),
        truth=np.ascontiguousarray(truth[:, last]).reshape(-1, 3),
        trajectory=np.repeat(np.arange(n), n_scored),
        time_index=np.tile(np.arange(last.start, last.stop), n),
        gaps=gaps,
        made_for=Setup(interval=data.steps_per_cycle * data.dt),
    )


class _CycledValidation:
    """Cycles an encoder over the validation split and scores it."""

    def __init__(
        self, loss: Loss, twin: TwinExperiment, warm_up: ThreeDVar, start_sigma: float
    ):
        self._loss = loss
        self._twin = twin
        self._warm_up = warm_up
        self._start = perturbed(
            twin.val.initial_state,
            max(start_sigma, _LEAST_START) ** 2 * np.eye(3),
            seed=twin.settings.seed,
            split_name="val",
        )

    def __call__(self, encoder: Encoder) -> Record:
        """Return the entries val_loss, val_rmse_pooled_a and val_rmse_a of the record.

        With a smoother they are of smoothed states, "..._s".
        """
        settings = self._twin.settings
        if encoder.state_mean.device.type != "cpu":
            encoder = copy.deepcopy(encoder).cpu()
        result = run_cycles(
            NeuralAnalysis.for_twin(self._twin, encoder=EncoderFunction.of(encoder)),
            self._twin,
            "val",
            burn_in=min(_BURN_IN, settings.n_obs // 2),
            initial=self._start,
            warm_up=self._warm_up,
        )
        estimates, end = result.analysis, "a"
        if result.smoothed is not None:
            estimates, end = result.smoothed, "s"
        # The last cycles have too few later observations to be smoothed.
        scored = slice(estimates.shape[1] - result.smoother_lag)
        truth = self._twin.val.truth_at_observations[:, result.scored][:, scored]
        components = result.components
        # A non-finite estimate counts as the climatological mean and stops no training.
        mean = truth.mean(axis=(0, 1))
        background, analysis = (
            np.where(np.isfinite(states), states, mean)
            for states in (result.background[:, scored], estimates[:, scored])
        )
        seen = self._twin.val.observations
        if encoder.gaps:
            seen = self._twin.val.timed_observations
        latest = seen[:, result.scored, None][:, scored]
        blind = self._twin.operator.is_mirror_blind
        estimate = torch.from_numpy(analysis.astype(np.float32)).flatten(0, 1)
        if components is not None:
            broken = ~np.isfinite(components["mean"]).all(axis=(-2, -1))
            components[broken] = (1.0 / components.shape[-1], mean, _FAR * np.eye(3))
            estimate = as_mixture(components).flatten(0, 1)
        return {
            "val_loss": self._cost(estimate, background, latest, truth),
            f"val_rmse_pooled_{end}": rmse_pooled(analysis, truth, blind),
            f"val_rmse_{end}": rmse(analysis, truth, blind),
        }

    def _cost(self, estimate: Tensor, *arrays: np.ndarray) -> float:
        """Return the mean loss of estimates with backgrounds, windows and truths."""
        batch = (torch.from_numpy(a.astype(np.float32)).flatten(0, 1) for a in arrays)
        return float(self._loss(estimate, Batch(*batch)).mean(dtype=torch.float64))
