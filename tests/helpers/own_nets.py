"""Torch modules as a user would write them, for tests of own models."""

import torch
from torch import Tensor, nn

from l63fast.observation import ObservationOperator


class Net(nn.Module):
    """A small network of background and window; it starts from the background."""

    def __init__(self, operator: ObservationOperator, window: int, hidden: int):
        super().__init__()
        self.inner = nn.Linear(3 + window * operator.obs_dim, hidden)
        self.outer = nn.Linear(hidden, 3)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen = torch.cat([background, obs_window.flatten(1)], 1) / 10
        return background + self.outer(self.inner(seen).tanh()), hidden


class Memory(nn.Module):
    """A recurrent cell that keeps its state from one analysis to the next."""

    def __init__(self, operator: ObservationOperator, window: int, hidden: int):
        super().__init__()
        self.hidden_size = hidden
        self.cell = nn.GRUCell(3 + window * operator.obs_dim, hidden)
        self.outer = nn.Linear(hidden, 3)

    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        seen = torch.cat([background, obs_window.flatten(1)], 1) / 10
        later = self.cell(seen, hidden)
        return background + self.outer(later), later


class ByNumPy(Net):
    """One that no exporter understands: it looks at its numbers."""

    def forward(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        scale = float(background.detach().abs().max().numpy()) * 0.0 + 1.0
        analysis, later = super().forward(background, obs_window, hidden)
        return analysis * scale, later


def wide(operator: ObservationOperator, window: int, hidden: int) -> Net:
    """Return a net twice as wide: a factory."""
    return Net(operator, window, 2 * hidden)
