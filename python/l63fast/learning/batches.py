"""Where training gets its batches from: fixed and fresh samples, with noise or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor

from l63fast import _random
from l63fast.learning.data import AssimilationDataset
from l63fast.learning.encoders import Encoder
from l63fast.learning.losses import Batch
from l63fast.learning.normaliser import Normaliser
from l63fast.observation import ObservationOperator

CPU: Final = torch.device("cpu")
Simulation = Callable[[int], AssimilationDataset]


class BatchSource(Protocol):
    """Gives the batches of an epoch, with what the encoder in training makes of them.

    An encoder in a cycle decides what it meets next; so a source does not only draw
    the batch but also has it analysed. `n_batches` are those of an epoch.
    """

    n_batches: int

    def epoch(self, epoch: int, encoder: Encoder) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the analyses (n, 3) of each batch of one epoch, and the batch.

        The weights may change between one batch and the next. The same epoch, counted
        from 0, gives the same batches to the same encoder.
        """

    def progress(self) -> dict[str, Any]:
        """Return what `restore` needs between epochs, plain values and tensors."""

    def restore(self, progress: dict[str, Any]) -> None:
        """Go back to where `progress` was taken."""


class Samples:
    """A source whose batches do not depend on the encoder, nor on what came before."""

    n_batches: int

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        raise NotImplementedError

    def epoch(self, epoch: int, encoder: Encoder) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the analyses of each batch, and the batch."""
        for batch in self.batches(epoch):
            hidden = encoder.initial_hidden(len(batch.background))
            analysis, _ = encoder(batch.background, batch.obs_window, hidden)
            yield analysis, batch

    def progress(self) -> dict[str, Any]:
        """Return nothing: the epoch says it all."""
        return {}

    def restore(self, progress: dict[str, Any]) -> None:
        """Do nothing."""


class FixedBatches(Samples):
    """Batches of a dataset, in an order that depends on (seed, epoch) alone.

    Parameters
    ----------
    data : AssimilationDataset
    batch_size : int
        Samples that do not fill a last batch wait for another epoch.
    seed : int
    mirror : ObservationOperator, optional
        If given, each sample of an epoch is mirrored with probability 1/2, its
        observations as this operator's are.
    device : torch.device
        Where all samples lie, and the batches.
    """

    def __init__(
        self,
        data: AssimilationDataset,
        batch_size: int,
        *,
        seed: int,
        mirror: ObservationOperator | None = None,
        device: torch.device = CPU,
    ):
        self._all = as_batch(data).to(device)
        self._device = device
        self._size = min(batch_size, len(data))
        self.n_batches = len(data) // self._size
        self._seed = seed
        self._mirror = mirror

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        n = len(self._all.truth)
        # The epoch is the counter of the stream: no state to save, so a resumed run
        # sees the very batches it would have seen.
        order, side = _random.uniforms(
            self._seed, "training", "train", 1, (2, n), first=epoch
        )[0]
        used = self.n_batches * self._size
        chosen = torch.from_numpy(np.argsort(order, kind="stable")[:used])
        chosen = chosen.to(self._device)
        # All of the epoch at once: its batches are then views, which cost nothing.
        samples = Batch(*(values[chosen] for values in self._all))
        if self._mirror is not None:
            sign = torch.from_numpy(np.where(side < 0.5, -1.0, 1.0).astype(np.float32))
            sign = sign.to(self._device)[chosen]
            samples = mirrored(samples, sign, self._mirror)
        for start in range(0, used, self._size):
            yield Batch(*(values[start : start + self._size] for values in samples))


class FreshBatches(Samples):
    """Batches of a dataset that is simulated anew for every epoch.

    Parameters
    ----------
    simulate : callable
        Gives the dataset of an epoch, counted from 0; always of the same size.
    batch_size, **options
        As in `FixedBatches`.
    """

    def __init__(self, simulate: Simulation, batch_size: int, **options: Any):
        def fixed(epoch: int) -> FixedBatches:
            return FixedBatches(simulate(epoch), batch_size, **options)

        self._of = fixed
        self.n_batches = self._of(0).n_batches

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        return self._of(epoch).batches(epoch)


def sampled(
    data: AssimilationDataset | Simulation, batch_size: int, **options: Any
) -> FixedBatches | FreshBatches:
    """Return the batches of a dataset, or of one that is simulated for every epoch."""
    if isinstance(data, AssimilationDataset):
        return FixedBatches(data, batch_size, **options)
    return FreshBatches(data, batch_size, **options)


def as_batch(data: AssimilationDataset) -> Batch:
    """Return all samples of a dataset as one batch of float32 tensors."""
    arrays = (data.background, data.obs_window, data.truth)
    return Batch(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))


def mirrored(batch: Batch, sign: Tensor, operator: ObservationOperator) -> Batch:
    """Return samples with S applied where `sign` (n,) is -1, as it is where it is 1."""
    state = sign.new_ones(len(sign), 3)
    state[:, :2] = sign[:, None]
    odd = torch.tensor([s < 0 for s in operator.mirror_signs], device=sign.device)
    seen = torch.where(odd, sign[:, None], sign.new_ones(()))
    return Batch(
        background=batch.background * state,
        obs_window=batch.obs_window * seen[:, None],
        truth=batch.truth * state,
    )


class Jittered(Samples):
    """Another source's batches, with noise on backgrounds and observations.

    The truth stays, so that what is learned is smooth over the size of the noise
    (Bishop 1995: training with noise is Tikhonov regularisation).

    Parameters
    ----------
    source : Samples
    size : float
        Standard deviation of the noise: of that on backgrounds in units of the
        normaliser's `background_std`, of that on observations in units of its
        `innovation_std`.
    normaliser : Normaliser
    seed : int
    device : torch.device
        Where the source's batches lie.
    """

    def __init__(
        self,
        source: Samples,
        size: float,
        normaliser: Normaliser,
        *,
        seed: int,
        device: torch.device = CPU,
    ):
        self._source = source
        self.n_batches = source.n_batches
        self._on_background = _scale(size * normaliser.background_std).to(device)
        self._on_observations = _scale(size * normaliser.innovation_std).to(device)
        self._seed = seed

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        for step, batch in enumerate(self._source.batches(epoch)):
            shape = tuple(batch.obs_window.shape[1:])
            draws = _random.standard_normals(
                self._seed,
                "training",
                "train",
                len(batch.truth),
                (3 + int(np.prod(shape)),),
                draw=epoch * self.n_batches + step,
            )
            noise = torch.from_numpy(draws.astype(np.float32))
            noise = noise.to(batch.truth.device)
            seen = noise[:, 3:].reshape(-1, *shape)
            yield batch._replace(
                background=batch.background + self._on_background * noise[:, :3],
                obs_window=batch.obs_window + self._on_observations * seen,
            )


def _scale(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
