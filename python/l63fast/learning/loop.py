"""The training loop: state of a run, one epoch of it, and its checkpoints."""

from __future__ import annotations

import copy
import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from l63fast.errors import (
    BackendError,
    DivergenceError,
    ModelFileError,
    TrainingDiverged,
)
from l63fast.learning.batches import BatchSource
from l63fast.learning.encoders import Encoder
from l63fast.learning.losses import Batch, Loss, squared_error
from l63fast.learning.optimiser import Optimiser
from l63fast.learning.settings import TrainSettings
from l63fast.storage import content_errors, read_file, write_bytes

CHECKPOINT: Final = "checkpoint.pt"
_VERSION: Final = 4
_ANEW: Final = "; without resume the training starts anew"


def write_checkpoint(
    directory: Path, identity: dict[str, Any], progress: dict[str, Any]
) -> None:
    """Replace the checkpoint in a directory.

    Parameters
    ----------
    directory : Path
    identity : dict
        Everything that decides the weights; a run with another one must not resume.
    progress : dict
        Weights, optimiser and records: plain Python values and tensors only.
    """
    buffer = io.BytesIO()
    whole = {"version": _VERSION, "identity": identity, "progress": progress}
    torch.save(whole, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest().encode()
    write_bytes(directory / CHECKPOINT, digest + b"\n" + payload)


def read_checkpoint(directory: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the progress of the checkpoint in a directory, None if there is none.

    Raises
    ------
    ModelFileError
        If it is damaged, or of another run; the message names every difference.
    """
    path = directory / CHECKPOINT
    if not path.exists():
        return None
    digest, _, payload = read_file(path).partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != digest:
        raise ModelFileError(f"{path}: the checkpoint is damaged{_ANEW}")
    # A file with a correct hash may still not be a checkpoint of l63fast.
    with content_errors(
        f"{path}: is not a checkpoint of l63fast{_ANEW}", ModelFileError
    ):
        whole = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        version, saved = whole["version"], whole["identity"]
        if version != _VERSION:
            raise ModelFileError(
                f"{path}: expected checkpoint version {_VERSION}, got {version}{_ANEW}"
            )
        differences = [
            f"{name} {saved.get(name)!r}, not {identity.get(name)!r}"
            for name in sorted({*saved, *identity})
            if saved.get(name) != identity.get(name)
        ]
        if differences:
            listed = "; ".join(differences)
            raise ModelFileError(
                f"{path}: the checkpoint is of another run: {listed}{_ANEW}"
            )
        progress: dict[str, Any] = whole["progress"]
    return progress


Record = dict[str, Any]
Validate = Callable[[Encoder], Record]
_CHUNK = 512  # samples per evaluation call; keeps the intermediates in cache


class TrainingRun:
    """An encoder in training: weights, optimiser, best weights and history.

    Parameters
    ----------
    encoder : Encoder
        The encoder that is validated and kept. With averaging it holds the mean
        weights, and a copy of it is trained.
    settings : TrainSettings
    loss : Loss
    batches : BatchSource
    validate : callable
        Called with the encoder after each epoch; returns the entries "val_..." of the
        record. The epoch with the lowest "val_loss" is the best.
    reference : float
        Mean loss of the background. The optimiser sees the loss divided by it, so that
        learning rate and clipping mean the same for every noise level.
    directory : Path or None
        Directory of the checkpoints, for the message of an error.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: TrainSettings,
        loss: Loss,
        batches: BatchSource,
        validate: Validate,
        *,
        reference: float,
        directory: Path | None,
    ):
        self.encoder = encoder
        self.history: list[Record] = []
        self.best_epoch = 0
        self.best_weights = _copied(encoder.state_dict())
        self._trained = copy.deepcopy(encoder) if settings.averaging else encoder
        # cuDNN needs the weights of a recurrent layer in one block of memory. A copied
        # layer has several, which would be copied in every call on a GPU.
        for module in self._trained.modules():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()
        self._settings = settings
        self._loss = loss
        self._batches = batches
        self._validate = validate
        self._reference = reference if reference > 0.0 else 1.0
        self._directory = directory
        # A smoother is trained alone, after its encoder.
        learning = self._trained.smoother or self._trained
        self._optimiser = Optimiser(learning, settings)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or validation has not improved for long."""
        done = len(self.history)
        waited = done - self.best_epoch
        return done >= self._settings.epochs or waited >= self._settings.patience

    def epoch(self) -> Record:
        """Train for one epoch, validate, and return the epoch's record."""
        done = len(self.history)
        self._trained.train()
        losses, norms = [], []
        batches = self._batches.epoch(done, self._trained)
        try:
            for step, (analysis, batch) in enumerate(batches):
                loss, norm = self._step(done, step, analysis, batch)
                losses.append(loss)
                norms.append(norm)
        except DivergenceError as error:
            raise self._diverged(done, len(losses), "estimate", str(error)) from error
        scores = self._validate(self.encoder.eval())
        if not math.isfinite(scores["val_loss"]):
            raise self._diverged(done, len(losses), "validation loss")
        record = {
            "epoch": done + 1,
            "train_loss": sum(losses) / len(losses) * self._reference,
            **scores,
            "learning_rate": self._rate(done, len(losses) - 1),
            "gradient_norm": sum(norms) / len(norms),
        }
        self._keep(record)
        return record

    def _keep(self, record: Record) -> None:
        best = self.history[self.best_epoch - 1] if self.best_epoch else None
        self.history.append(record)
        if best is None or record["val_loss"] < best["val_loss"]:
            self.best_epoch = record["epoch"]
            self.best_weights = _copied(self.encoder.state_dict())

    def _step(
        self, epoch: int, step: int, analysis: Tensor, batch: Batch
    ) -> tuple[float, float]:
        loss = self._loss_at(epoch, step)(analysis, batch).mean() / self._reference
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(epoch, step, "training loss")
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(
            self._optimiser.parameters, self._settings.clip, foreach=True
        ).item()
        if not math.isfinite(norm):
            raise self._diverged(epoch, step, "gradient")
        self._optimiser.step(self._rate(epoch, step))
        if self._settings.averaging:
            self._average(epoch * self._batches.n_batches + step + 1)
        return value, norm

    def _loss_at(self, epoch: int, step: int) -> Loss:
        growing = self._settings.window_growth * self._settings.epochs
        done = epoch + step / self._batches.n_batches
        return self._loss.at(min(1.0, done / growing) if growing else 1.0)

    @torch.no_grad()
    def _average(self, n_steps: int) -> None:
        # In the first steps the plain mean of all weights so far: the moving average
        # would still be dominated by the initial weights.
        share = max(1.0 - self._settings.averaging, 1.0 / n_steps)
        mean, latest = (tuple(e.parameters()) for e in (self.encoder, self._trained))
        torch._foreach_lerp_(mean, latest, share)
        # Buffers of a user's module may change in training, as those of batch norms.
        kept, trained = (tuple(e.buffers()) for e in (self.encoder, self._trained))
        torch._foreach_copy_(kept, trained)

    def _rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step.

        It rises linearly in the warm-up and then is constant, or falls to zero along
        half a cosine. With restarts there are several such falls, each from half the
        rate of the one before.
        """
        per_epoch, settings = self._batches.n_batches, self._settings
        done = (epoch * per_epoch + step + 1) / (settings.epochs * per_epoch)
        if done <= settings.warm_up:
            return settings.learning_rate * done / settings.warm_up
        if settings.schedule == "constant":
            return settings.learning_rate
        falls = settings.warm_restarts + 1
        left = (1.0 - done) / (1.0 - settings.warm_up) * falls
        to_come = max(math.ceil(left) - 1, 0)
        highest = settings.learning_rate * 0.5 ** (falls - 1 - to_come)
        return highest * 0.5 * (1.0 - math.cos(math.pi * (left - to_come)))

    def _diverged(
        self, epoch: int, step: int, which: str, why: str = "it became non-finite"
    ) -> TrainingDiverged:
        checkpoint = None
        if self._directory is not None and self.history:
            checkpoint = str(self._directory / CHECKPOINT)
        return TrainingDiverged(
            f"training: the {which} diverged in epoch {epoch + 1}, step {step}: {why}; "
            f"last good checkpoint: {checkpoint or 'none'}",
            epoch + 1,
            step,
            checkpoint,
        )

    def progress(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain values and tensors."""
        return {
            "weights": self._trained.state_dict(),
            "shown": self.encoder.state_dict(),
            "batches": self._batches.progress(),
            "best_weights": self.best_weights,
            "optimiser": self._optimiser.state_dict(),
            "history": self.history,
        }

    def restore(self, progress: dict[str, Any]) -> None:
        """Continue from what `progress` returned; invalid content raises any error."""
        # Loaded first, so that best weights of another shape fail now and not later.
        self.encoder.load_state_dict(progress["best_weights"])
        self._trained.load_state_dict(progress["weights"])
        self.encoder.load_state_dict(progress["shown"])
        self._batches.restore(progress["batches"])
        self.best_weights = progress["best_weights"]
        self._optimiser.load_state_dict(progress["optimiser"])
        self.history = progress["history"]
        losses = [float(record["val_loss"]) for record in self.history]
        self.best_epoch = 1 + losses.index(min(losses)) if losses else 0


def evaluate(encoder: Encoder, loss: Loss, batch: Batch) -> Record:
    """Return the mean loss and the root mean square error over all components."""
    blind = loss.operator.is_mirror_blind

    def measure(part: Batch) -> Tensor:
        hidden = encoder.initial_hidden(len(part.background))
        analysis, _, *more = encoder(part.background, part.obs_window, hidden)
        error = squared_error(analysis, part.truth, mirror_aware=blind)
        return torch.stack([loss(more[0] if more else analysis, part), error])

    with torch.inference_mode():
        cost, square = mean_over(batch, measure).cpu().tolist()
    return {"val_loss": cost, "val_rmse_pooled_a": math.sqrt(square / 3.0)}


def mean_over(batch: Batch, value: Callable[[Batch], Tensor]) -> Tensor:
    """Return the mean of `value` over the samples, its last axis, chunk by chunk."""
    n = len(batch.truth)
    sums = []
    for start in range(0, n, _CHUNK):
        part = Batch(*(values[start : start + _CHUNK] for values in batch))
        sums.append(value(part).sum(-1, dtype=torch.float64))
    return torch.stack(sums).sum(0) / n


def torch_device(settings: TrainSettings) -> torch.device:
    """Return the device of the training.

    Raises
    ------
    BackendError
        If the settings ask for a GPU and there is none.
    """
    device = torch.device(settings.device)
    n_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        finds = f"{n_gpus} GPUs" if n_gpus else "no GPU"
        raise BackendError(
            f"device: expected 'cpu', as torch {torch.__version__} finds {finds} here, "
            f"got {settings.device!r}"
        )
    return device


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in weights.items()}
