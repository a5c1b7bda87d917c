"""Recurrent cells that carry their state from cycle to cycle: one class each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from l63fast.learning.readers import Reader

__all__ = ["CARRIED", "CarriedGRU", "CarriedLSTM"]


class CarriedGRU(Reader):
    """One step of a gated recurrent unit per analysis; its output is its memory.

    It reads ``(n, n_inputs)``: the flattened window, the background and the
    innovation, each in its own scale.
    """

    name = "gru"

    def __init__(self, obs_dim: int, window: int, width: int, hidden: int):
        super().__init__(obs_dim, window, width, hidden)
        self.hidden_size = width
        self.cell = nn.GRUCell(_n_inputs(obs_dim, window), width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of this analysis, and the same as the next memory."""
        later: Tensor = self.cell(seen, hidden)
        return later, later


class CarriedLSTM(Reader):
    """One step of a long short-term memory per analysis; h and c in one tensor."""

    name = "lstm"

    def __init__(self, obs_dim: int, window: int, width: int, hidden: int):
        super().__init__(obs_dim, window, width, hidden)
        self.hidden_size = 2 * width
        self.cell = nn.LSTMCell(_n_inputs(obs_dim, window), width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output h, and h and c (n, 2 width) as the next memory."""
        output, state = hidden.chunk(2, 1)
        output, state = self.cell(seen, (output, state))
        return output, torch.cat([output, state], 1)


def _n_inputs(obs_dim: int, window: int) -> int:
    return obs_dim * window + 3 + obs_dim


CARRIED: dict[str, type[Reader]] = {
    reader.name: reader for reader in (CarriedGRU, CarriedLSTM)
}
