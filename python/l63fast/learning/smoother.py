"""The smoother: a network that takes an encoder's analyses back in time."""

# No `from __future__ import annotations`: TorchScript needs the types themselves.

import torch
from torch import Tensor, nn

from l63fast.learning.readers import CarriedGRU, Sizes


class Smoother(nn.Module):
    """Corrects the analyses of some cycles by what was observed in the later ones.

    The encoder's memory runs forward in time; here a gated recurrent unit runs
    backward, from the last cycle to the first: both together are a bidirectional
    network. Like the smoother of Rauch, Tung & Striebel (1965), which adds
    G (x_s - x_b) of the next cycle to an analysis, it reads in each cycle by how much
    the observations have moved the background of the next one. The memory of the
    encoder takes the place of the covariances in the gain G. All values are scaled to
    order one.

    Parameters
    ----------
    n_inputs : int
        Values that it reads of each cycle, besides that move of the next background.
    hidden : int
        Width.
    """

    def __init__(self, n_inputs: int, hidden: int):
        super().__init__()
        self.reader = CarriedGRU(Sizes(n_inputs, 1, hidden, hidden, 0))
        self.inner = nn.Linear(hidden + n_inputs + 3, hidden)
        self.outer = nn.Linear(hidden, 3)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, seen: Tensor, increments: Tensor) -> Tensor:
        """Return corrections (n_cycles, n, 3) of the analyses.

        Parameters
        ----------
        seen : (n_cycles, n, n_inputs)
        increments : (n_cycles, n, 3)
            x_a - x_b.
        """
        state = torch.zeros_like(seen[0, :, :1]).repeat(1, self.reader.hidden_size)
        moved, corrections = torch.zeros_like(increments[0]), []
        for k in range(len(seen) - 1, -1, -1):
            inputs = torch.cat([seen[k], moved], 1)
            context, state = self.reader(inputs, state)
            features = self.inner(torch.cat([context, inputs], 1))
            corrections.append(self.outer(nn.functional.silu(features)))
            moved = increments[k] + corrections[-1]
        return torch.stack(corrections[::-1])
