"""How each encoder reads its window of observations: one class per architecture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from l63fast.learning.window_gru import can_train, last_state

__all__ = ["ENCODERS", "GRU", "LSTM", "MLP", "Reader"]


class Reader(nn.Module):
    """Turns a normalised window and a hidden state into a context vector.

    Every reader has this constructor and a
    ``forward(obs_window (n, L, obs_dim), hidden (n, hidden_size))`` that returns
    ``(context (n, context_size), hidden)``. Those here keep nothing from one analysis
    to the next, so their hidden state is empty and handed through.

    Parameters
    ----------
    obs_dim, window : int
        Shape of the window.
    width : int
        The size that `encoders.matched_width` chooses; it scales the parameters.
    hidden : int
        Width of the encoder's head.
    n_innovations : int
        Numbers that stand for the innovation, for those that read it.
    """

    name = ""

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__()
        self.hidden_size = 0
        self.context_size = width


class MLP(Reader):
    """The flattened window through two dense layers."""

    name = "mlp"

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__(obs_dim, window, width, hidden, n_innovations)
        self.context_size = hidden
        self.layers = nn.Sequential(
            nn.Linear(obs_dim * window, width),
            nn.SiLU(),
            nn.Linear(width, hidden),
            nn.SiLU(),
        )

    def forward(self, obs_window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of the window."""
        return self.layers(obs_window.flatten(1)), hidden


class GRU(Reader):
    """The last output of a gated recurrent unit that starts from zero."""

    name = "gru"

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__(obs_dim, window, width, hidden, n_innovations)
        self.cell = nn.GRU(obs_dim, width)

    def forward(self, obs_window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of the window."""
        # TorchScript does not compile a branch under this condition alone.
        if not is_scripting():  # noqa: SIM102
            if can_train(self.cell, obs_window):
                return last_state(self.cell, obs_window), hidden
        outputs, _ = self.cell(obs_window.transpose(0, 1))
        return outputs[-1], hidden


class LSTM(Reader):
    """The last output of a long short-term memory that starts from zero."""

    name = "lstm"

    def __init__(
        self, obs_dim: int, window: int, width: int, hidden: int, n_innovations: int
    ):
        super().__init__(obs_dim, window, width, hidden, n_innovations)
        self.cell = nn.LSTM(obs_dim, width)

    def forward(self, obs_window: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of the window."""
        outputs, _ = self.cell(obs_window.transpose(0, 1))
        return outputs[-1], hidden


ENCODERS: dict[str, type[Reader]] = {reader.name: reader for reader in (MLP, GRU, LSTM)}
