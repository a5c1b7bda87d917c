"""Readers of observations: one class per architecture and kind of memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Sizes(NamedTuple):
    """The sizes of a reader.

    Attributes
    ----------
    obs_dim, window : int
        Shape of the window.
    width : int
        Units of the reader, chosen by `encoders.matched_width`.
    hidden : int
        Width of the encoder's head.
    n_innovations : int
        Number of innovation inputs, for a reader with a carried memory.
    """

    obs_dim: int
    window: int
    width: int
    hidden: int
    n_innovations: int


class Reader(nn.Module):
    """Turns a normalised window and a hidden state into a context vector.

    Every reader has this constructor and a
    ``forward(obs_window (n, L, obs_dim), hidden (n, hidden_size))`` that returns
    ``(context (n, context_size), hidden)``. A reader without a carried memory returns
    its empty hidden state unchanged.
    """

    name = ""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.hidden_size = 0
        self.context_size = sizes.width


class MLP(Reader):
    """Two dense layers on the flattened window."""

    name = "mlp"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.context_size = sizes.hidden
        self.layers = nn.Sequential(
            nn.Linear(sizes.obs_dim * sizes.window, sizes.width),
            nn.SiLU(),
            nn.Linear(sizes.width, sizes.hidden),
            nn.SiLU(),
        )

    def forward(self, obs_window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of the window."""
        return self.layers(obs_window.flatten(1)), hidden


class GRU(Reader):
    """The last output of a gated recurrent unit that starts from zero."""

    name = "gru"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.cell = nn.GRU(sizes.obs_dim, sizes.width)

    def forward(self, obs_window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of the window."""
        outputs, _ = self.cell(obs_window.transpose(0, 1))
        return outputs[-1], hidden


class LSTM(Reader):
    """The last output of a long short-term memory that starts from zero."""

    name = "lstm"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.cell = nn.LSTM(sizes.obs_dim, sizes.width)

    def forward(self, obs_window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of the window."""
        outputs, _ = self.cell(obs_window.transpose(0, 1))
        return outputs[-1], hidden


ENCODERS: dict[str, type[Reader]] = {reader.name: reader for reader in (MLP, GRU, LSTM)}


class _Carried(Reader):
    """A recurrent cell that takes one step per analysis.

    Its inputs ``(n, n_inputs)`` are the flattened window, the background and the
    innovation, each scaled, and besides them a dense layer of these inputs and of the
    memory. Without that layer the gates are linear in inputs and memory, and training
    is slower: the uncertainty of a forecast is not a linear function of them.
    """

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.n_inputs = sizes.obs_dim * sizes.window + 3 + sizes.n_innovations
        self.mixer = nn.Linear(self.n_inputs + sizes.width, sizes.width)

    def features(self, seen: Tensor, output: Tensor) -> Tensor:
        """Return the input of the cell, (n, width + n_inputs)."""
        mixed = self.mixer(torch.cat([seen, output], 1))
        return torch.cat([nn.functional.silu(mixed), seen], 1)


class CarriedGRU(_Carried):
    """A gated recurrent unit; its output is also its memory."""

    name = "gru"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.hidden_size = sizes.width
        self.cell = nn.GRUCell(sizes.width + self.n_inputs, sizes.width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of this analysis, which is also the next memory."""
        later: Tensor = self.cell(self.features(seen, hidden), hidden)
        return later, later


class CarriedLSTM(_Carried):
    """A long short-term memory; its memory is h and c in one tensor."""

    name = "lstm"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.hidden_size = 2 * sizes.width
        self.cell = nn.LSTMCell(sizes.width + self.n_inputs, sizes.width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output h, and the next memory: h and c (n, 2 width)."""
        output, state = hidden.chunk(2, 1)
        output, state = self.cell(self.features(seen, output), (output, state))
        return output, torch.cat([output, state], 1)


CARRIED: dict[str, type[Reader]] = {
    reader.name: reader for reader in (CarriedGRU, CarriedLSTM)
}
