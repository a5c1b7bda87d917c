"""Recurrent cells that carry their state from cycle to cycle: one class each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from l63fast.learning.readers import Reader

__all__ = ["CARRIED", "CarriedGRU", "CarriedLSTM"]


class _Carried(Reader):
    """A cell that takes one step per analysis.

    It reads ``(n, n_inputs)``: the flattened window, the background and the
    innovation, each in its own scale; and besides them a layer of features of those
    and of the memory. With linear functions alone in its gates a cell learns slower:
    how uncertain a forecast is follows from both in no linear way.
    """

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__(obs_dim, window, width, hidden, n_innovations)
        self.n_inputs = obs_dim * window + 3 + n_innovations
        self.mixer = nn.Linear(self.n_inputs + width, width)

    def features(self, seen: Tensor, output: Tensor) -> Tensor:
        """Return what the cell reads: (n, width + n_inputs)."""
        mixed = self.mixer(torch.cat([seen, output], 1))
        return torch.cat([nn.functional.silu(mixed), seen], 1)


class CarriedGRU(_Carried):
    """A gated recurrent unit; its output is its memory."""

    name = "gru"

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__(obs_dim, window, width, hidden, n_innovations)
        self.hidden_size = width
        self.cell = nn.GRUCell(width + self.n_inputs, width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of this analysis, and the same as the next memory."""
        later: Tensor = self.cell(self.features(seen, hidden), hidden)
        return later, later


class CarriedLSTM(_Carried):
    """A long short-term memory; h and c in one tensor."""

    name = "lstm"

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__(obs_dim, window, width, hidden, n_innovations)
        self.hidden_size = 2 * width
        self.cell = nn.LSTMCell(width + self.n_inputs, width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output h, and h and c (n, 2 width) as the next memory."""
        output, state = hidden.chunk(2, 1)
        output, state = self.cell(self.features(seen, output), (output, state))
        return output, torch.cat([output, state], 1)


CARRIED: dict[str, type[Reader]] = {
    reader.name: reader for reader in (CarriedGRU, CarriedLSTM)
}
