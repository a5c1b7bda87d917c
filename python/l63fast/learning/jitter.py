"""Noise on what an encoder sees in training, so that a small set is not learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l63fast import _random
from l63fast.learning.batches import CPU, Samples
from l63fast.learning.losses import Batch
from l63fast.learning.normaliser import Normaliser

__all__ = ["Jittered"]


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
        self._on_background = _scale(size * normaliser.background_std).to(device)
        self._on_observations = _scale(size * normaliser.innovation_std).to(device)
        self._seed = seed

    @property
    def n_batches(self) -> int:
        """Batches in an epoch."""
        return self._source.n_batches

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
