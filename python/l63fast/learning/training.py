"""Training on a fixed set: repeatable to the bit and resumable at every epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from l63fast._arithmetic import ieee_arithmetic
from l63fast._progress import Progress, describe_epoch, shown
from l63fast.assimilation.agreement import Setup, check_agreement
from l63fast.errors import ArgumentValueError, ModelFileError
from l63fast.learning.batches import Jittered, Samples, Simulation, as_batch, sampled
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.encoders import Encoder, build_encoder
from l63fast.learning.loop import (
    CHECKPOINT,
    Record,
    TrainingRun,
    evaluate,
    mean_over,
    read_checkpoint,
    torch_device,
    write_checkpoint,
)
from l63fast.learning.losses import Batch, Loss, build_loss
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.own_model import OwnModel
from l63fast.learning.pinned import pinned
from l63fast.learning.settings import ADDED, EncoderSettings, TrainSettings
from l63fast.observation import ObservationOperator, as_operator
from l63fast.storage import content_errors


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained encoder and the record of its training.

    Attributes
    ----------
    encoder : Encoder
        With the weights of the best epoch, in evaluation mode.
    history : list of dict
        One record per epoch: epoch, train_loss, val_loss, val_rmse_pooled_a (over all
        components; mirror-aware where the operator cannot see the sign),
        learning_rate, gradient_norm.
    best_epoch : int
        The epoch with the lowest validation loss, counted from 1.
    seconds : float
        Wall time of this call; after a resume it does not contain earlier epochs.
    smoother : list of dict
        The history of the smoother's training, with scores of smoothed states
        (val_rmse_pooled_s); empty without a smoother.
    """

    encoder: Encoder
    history: list[Record]
    best_epoch: int
    seconds: float
    smoother: list[Record] = field(default_factory=list)


@ieee_arithmetic()
def train(
    encoder_settings: EncoderSettings,
    train_settings: TrainSettings,
    train_data: AssimilationDataset | Simulation,
    val_data: AssimilationDataset,
    *,
    B: np.ndarray | None = None,
    R: np.ndarray | None = None,
    model: DifferentiableForecast | None = None,
    imperfect_model: bool = False,
    directory: Path | None = None,
    resume: bool = False,
    report: Callable[[Record], None] | None = None,
    progress: Progress = False,
) -> TrainResult:
    """Return an encoder trained on one dataset and selected on another.

    Parameters
    ----------
    encoder_settings, train_settings : EncoderSettings, TrainSettings
        A model of your own is imported by its name. Data with gaps set `gaps`.
    train_data, val_data : AssimilationDataset
        `train_data` may also be a function of the epoch (from 0) that simulates a new
        dataset, always of the same size, so that no sample is seen twice.
    B, R : (3, 3) and (obs_dim, obs_dim), optional
        Error covariances, for the variational losses.
    model : DifferentiableForecast, optional
        From one observation to the next, for the loss "var3d_window".
    imperfect_model : bool
        Allow another R, dt or other parameters than those of the data, as in
        `run_cycles`.
    directory : Path, optional
        A checkpoint is written here after every epoch.
    resume : bool
        Continue from the checkpoint in `directory`, if there is one.
    report : callable, optional
        Called with the record of each epoch, for which `progress` then has no line.
    progress : bool or callable
        Show each epoch, a resume and an early stop on standard error; a callable is
        given each line.

    Raises
    ------
    TrainingDiverged
        If the loss becomes non-finite.
    BackendError
        If the settings ask for a GPU and there is none.
    ModelFileError
        If the checkpoint is damaged or of another run.
    ArgumentValueError
        If data and settings do not agree.
    """
    first = train_data(0) if callable(train_data) else train_data
    if first.gaps:
        encoder_settings = replace(encoder_settings, gaps=True)
    encoder_settings.check_loss(train_settings.loss)
    operator = with_function(encoder_settings.operator, first.made_for.operator)
    for name, data in (("train_data", first), ("val_data", val_data)):
        _check_data(name, data, encoder_settings)
        _check_setup(data, operator, R, model, imperfect_model)
    check_agreement(
        "val_data", val_data.made_for, first.made_for, imperfect_model=imperfect_model
    )

    own = OwnModel.imported(encoder_settings.model)
    is_mirrored = train_settings.mirror and operator.has_mirror_signs

    def begin() -> TrainingRun:
        device = torch_device(train_settings)
        loss = build_loss(train_settings.loss, operator, B=B, R=R, model=model)
        loss, normaliser = loss.to(device), Normaliser.fit(first, operator)
        validation = as_batch(val_data).to(device)
        encoder = build_encoder(
            encoder_settings, normaliser, seed=train_settings.seed, own=own
        )
        encoder.made_for = replace(first.made_for, operator=operator)
        source: Samples = sampled(
            train_data,
            train_settings.batch_size,
            seed=train_settings.seed,
            mirror=operator if is_mirrored else None,
            device=device,
        )
        if train_settings.jitter:
            source = Jittered(
                source,
                train_settings.jitter,
                normaliser,
                seed=train_settings.seed,
                device=device,
            )
        return TrainingRun(
            encoder.to(device),
            train_settings,
            loss,
            source,
            lambda encoder: evaluate(encoder, loss, validation),
            reference=loss_of_background(loss, as_batch(first).to(device)),
            directory=directory,
        )

    key = identity(
        encoder_settings,
        train_settings,
        source_sha256=own and own.source_sha256,
        train_data=first.hash,
        val_data=val_data.hash,
        B=B,
        R=R,
        fresh=callable(train_data),
    )
    if model is not None:
        key["forecast_model"] = repr(model)
    return completed(
        begin,
        train_settings,
        key,
        directory=directory,
        resume=resume,
        report=report,
        progress=progress,
    )


def completed(
    begin: Callable[[], TrainingRun],
    settings: TrainSettings,
    identity: dict[str, Any],
    *,
    directory: Path | None,
    resume: bool,
    report: Callable[[Record], None] | None,
    progress: Progress,
) -> TrainResult:
    """Return the result of a training run, done or resumed to its end.

    Parameters
    ----------
    begin : callable
        Returns the untrained run; called with torch set as `pinned` sets it.
    settings : TrainSettings
    identity : dict
        Everything that decides the weights, compared with that of a checkpoint.
    directory, resume, report, progress
        As in `train`.
    """
    start = perf_counter()
    with shown(progress) as say, pinned(settings.threads):
        run = begin()
        if resume and directory is not None:
            state = read_checkpoint(directory, identity)
            if state is not None:
                with content_errors(directory / CHECKPOINT, ModelFileError):
                    run.restore(state)
                say(f"resumed after epoch {len(run.history)} of {settings.epochs}")
        while not run.finished:
            record = run.epoch()
            if directory is not None:
                write_checkpoint(directory, identity, run.progress())
            if report is not None:
                report(record)
            else:
                say(describe_epoch(record, settings.epochs))
        if (done := len(run.history)) < settings.epochs:
            say(
                f"stopped after epoch {done} of {settings.epochs}: no lower validation "
                f"loss since epoch {run.best_epoch}"
            )
    run.encoder.load_state_dict(run.best_weights)
    return TrainResult(
        encoder=run.encoder.cpu().eval(),
        history=run.history,
        best_epoch=run.best_epoch,
        seconds=perf_counter() - start,
    )


def loss_of_background(loss: Loss, samples: Batch) -> float:
    """Return the mean loss of the backgrounds, taken as analyses."""
    return float(mean_over(samples, lambda part: loss(part.background, part)))


def identity(*settings: Any, **data: Any) -> dict[str, Any]:
    """Return everything that decides the weights, to compare with a checkpoint."""
    values: dict[str, Any] = {"torch": str(torch.__version__)}
    added = (*ADDED, "uncertainty", "lag")
    for table in settings:
        is_encoder = isinstance(table, EncoderSettings)
        values |= table.to_dict(added) if is_encoder else dataclasses.asdict(table)
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in data.items()}
    return values | plain


def with_function(
    operator: ObservationOperator | str, of_data: ObservationOperator | None
) -> ObservationOperator:
    """Return the operator of settings; if the data have the same one, that of the data.

    Settings may hold only the name of a user's operator; the data hold its function.
    """
    operator = as_operator(operator)
    return of_data if of_data is not None and of_data == operator else operator


def _check_data(
    name: str, data: AssimilationDataset, settings: EncoderSettings
) -> None:
    if settings.memory != "window":
        raise ArgumentValueError(
            f"memory: expected 'window' for a dataset, whose samples have no past, got "
            f"{settings.memory!r}; train a carried memory in cycles, by train_cycled"
        )
    if settings.lag:
        raise ArgumentValueError(
            f"lag: expected 0 for a dataset, whose samples have no future, got "
            f"{settings.lag}; train a smoother in cycles, by train_cycled"
        )
    expected = (settings.window, as_operator(settings.operator).obs_dim)
    if (data.window, data.obs_dim) != expected:
        raise ArgumentValueError(
            f"{name}: expected windows (N, {expected[0]}, {expected[1]}) for operator "
            f"{as_operator(settings.operator).name!r}, got {data.obs_window.shape}"
        )
    if data.gaps != settings.gaps:
        raise ArgumentValueError(
            f"{name}: expected a dataset with gaps={settings.gaps}, got {data.gaps}"
        )
    if len(data) == 0:
        raise ArgumentValueError(f"{name}: expected samples, got none")


def _check_setup(
    data: AssimilationDataset,
    operator: ObservationOperator,
    R: np.ndarray | None,
    model: DifferentiableForecast | None,
    imperfect_model: bool,
) -> None:
    stated = {"encoder_settings": Setup(operator=operator)}
    if R is not None:
        stated["R"] = Setup(R=R)
    if model is not None:
        interval = model.n_steps * model.dt
        stated["model"] = Setup(
            interval=interval, dt=model.dt, parameters=model.parameters
        )
    for name, setup in stated.items():
        check_agreement(name, setup, data.made_for, imperfect_model=imperfect_model)
