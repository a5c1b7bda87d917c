"""Sources of training batches: fixed or new samples, with or without noise."""

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
from l63fast.learning.network import compiled
from l63fast.learning.normaliser import Normaliser
from l63fast.observation import ObservationOperator

CPU: Final = torch.device("cpu")
Simulation = Callable[[int], AssimilationDataset]


class BatchSource(Protocol):
    """A source of batches that are already analysed by the encoder in training.

    In a cycle the next background depends on the encoder's analysis, so drawing a batch
    and analysing it cannot be separated. `n_batches` is the number per epoch.
    """

    n_batches: int

    def epoch(self, epoch: int, encoder: Encoder) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the analyses (n, 3) of each batch of one epoch, and the batch.

        Of an encoder with an uncertainty they are the mixtures (n, k, 13).
        The weights may change between one batch and the next. The same epoch, counted
        from 0, gives the same batches to the same encoder.
        """

    def progress(self) -> dict[str, Any]:
        """Return what `restore` needs between epochs, as plain values and tensors."""

    def restore(self, progress: dict[str, Any]) -> None:
        """Continue from what `progress` returned."""


class Samples:
    """A source whose batches depend on the epoch alone, not on the encoder."""

    n_batches: int

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        raise NotImplementedError

    def epoch(self, epoch: int, encoder: Encoder) -> Iterator[tuple[Tensor, Batch]]:
        """Yield the analyses of each batch, and the batch."""
        for batch in self.batches(epoch):
            n = len(batch.background)
            # Of single windows torch computes dense layers and LSTM faster.
            fast = compiled(encoder, n) if encoder.settings.model == "gru" else None
            analyse: Callable[..., tuple[Tensor, ...]] = fast or encoder
            hidden = encoder.initial_hidden(n)
            analysis, _, *more = analyse(batch.background, batch.obs_window, hidden)
            yield more[0] if more else analysis, batch

    def progress(self) -> dict[str, Any]:
        """Return an empty table: the number of the epoch is enough."""
        return {}

    def restore(self, progress: dict[str, Any]) -> None:
        """Do nothing: there is no state."""


class FixedBatches(Samples):
    """Batches of a dataset, in an order that depends on (seed, epoch) alone.

    Parameters
    ----------
    data : AssimilationDataset
    batch_size : int
        Samples that do not fill a last batch are left out of the epoch.
    seed : int
    mirror : ObservationOperator, optional
        If given, each sample of an epoch is mirrored with probability 1/2; the
        operator tells how observations change.
    device : torch.device
        Device of all samples and batches.
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
        # The epoch is the counter of the random stream: there is no state to save, and
        # a resumed run gets the same batches.
        order, side = _random.uniforms(
            self._seed, "training", "train", 1, (2, n), first=epoch
        )[0]
        used = self.n_batches * self._size
        chosen = torch.from_numpy(np.argsort(order, kind="stable")[:used])
        chosen = chosen.to(self._device)
        # All samples of the epoch are gathered once; its batches are views of them.
        samples = Batch(*(values[chosen] for values in self._all))
        if self._mirror is not None:
            sign = torch.from_numpy(np.where(side < 0.5, -1.0, 1.0).astype(np.float32))
            sign = sign.to(self._device)[chosen]
            samples = mirrored(samples, sign, self._mirror)
        for start in range(0, used, self._size):
            yield Batch(*(values[start : start + self._size] for values in samples))


class FreshBatches(Samples):
    """Batches of a new dataset for every epoch.

    Parameters
    ----------
    simulate : callable
        Returns the dataset of an epoch, counted from 0, always of the same size.
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
    """Return batches of a dataset, or of a function that simulates one per epoch."""
    if isinstance(data, AssimilationDataset):
        return FixedBatches(data, batch_size, **options)
    return FreshBatches(data, batch_size, **options)


def as_batch(data: AssimilationDataset) -> Batch:
    """Return all samples of a dataset as one batch of float32 tensors."""
    arrays = (data.background, data.obs_window, data.truth)
    return Batch(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))


def mirrored(batch: Batch, sign: Tensor, operator: ObservationOperator) -> Batch:
    """Return the mirror images of the samples whose `sign` (n,) is -1."""
    state = sign.new_ones(len(sign), 3)
    state[:, :2] = sign[:, None]
    odd = torch.tensor([s < 0 for s in operator.mirror_signs], device=sign.device)
    seen = torch.where(odd, sign[:, None], sign.new_ones(()))
    n_times = batch.obs_window.shape[2] - len(odd)  # 1 with gaps
    seen = torch.cat([seen, sign.new_ones(len(sign), n_times)], 1)
    return Batch(
        background=batch.background * state,
        obs_window=batch.obs_window * seen[:, None],
        truth=batch.truth * state,
    )


class Jittered(Samples):
    """The batches of another source with noise on backgrounds and observations.

    The truth is unchanged, so the learned function is smooth over the size of the noise
    (training with noise is Tikhonov regularisation: Bishop 1995).

    Parameters
    ----------
    source : Samples
    size : float
        Standard deviation of the noise, in units of the normaliser's `background_std`
        for backgrounds and of its `innovation_std` for observations.
    normaliser : Normaliser
    seed : int
    device : torch.device
        Device of the batches.
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
        n_times = len(normaliser.obs_mean) - len(normaliser.innovation_std)
        on_values = np.append(size * normaliser.innovation_std, np.zeros(n_times))
        self._on_observations = _scale(on_values).to(device)
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
