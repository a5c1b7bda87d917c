"""Optimisers: Adam, or Muon with orthogonal steps for the weight matrices.

Muon replaces the step G of a weight matrix, the momentum of its gradient, by the
orthogonal matrix U V^T of its singular value decomposition G = U S V^T. All directions
of the matrix then move equally fast, also those with small gradients. A recurrent cell
stacks the matrices of its gates; each gate is orthogonalised alone.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from l63fast.learning.encoders import Encoder
from l63fast.learning.pinned import undisturbed_process
from l63fast.learning.settings import TrainSettings

_GATES: Final = {nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
_MOMENTUM: Final = 0.95
_QUINTIC: Final = (3.4445, -4.7750, 2.0315)  # of Jordan et al. (2024)
_N_ITERATIONS: Final = 5


class Optimiser:
    """Adam for all weights; with "muon" for vectors and the last layer only.

    The other weight matrices take orthogonal steps. Source: Jordan et al. (2024), Muon.
    torch.optim.Muon is not used: it does not separate gates and computes in bfloat16.

    Parameters
    ----------
    encoder : Encoder
    settings : TrainSettings
    """

    def __init__(self, encoder: Encoder, settings: TrainSettings):
        matrices = _matrices(encoder) if settings.optimiser == "muon" else []
        self._matrices = [weight for weight, _ in matrices]
        self._gates = [n_gates for _, n_gates in matrices]
        self._momenta = [torch.zeros_like(weight) for weight in self._matrices]
        self._ratio = settings.matrix_rate
        self._all = list(encoder.parameters())
        taken = {id(weight) for weight in self._matrices}
        # torch's optimisers import its compiler, which sets environment variables.
        with undisturbed_process():
            self._adam = torch.optim.Adam(
                [p for p in self._all if id(p) not in taken],
                lr=settings.learning_rate,
                fused=True,
            )

    def zero_grad(self) -> None:
        """Delete the gradients."""
        for parameter in self._all:
            parameter.grad = None

    def step(self, rate: float) -> None:
        """Update the weights from their gradients at this learning rate."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        if self._matrices:
            self._step_matrices(rate * self._ratio)

    @torch.no_grad()
    def _step_matrices(self, rate: float) -> None:
        gradients = [
            torch.zeros_like(w) if w.grad is None else w.grad for w in self._matrices
        ]
        torch._foreach_lerp_(self._momenta, gradients, 1.0 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, self._momenta, _MOMENTUM)
        for weight, n_gates, step in zip(
            self._matrices, self._gates, ahead, strict=True
        ):
            gates = step.reshape(n_gates, -1, step.shape[1])
            rows, columns = gates.shape[1:]
            scale = max(1.0, rows / columns) ** 0.5
            weight.add_(orthogonalised(gates).flatten(0, 1), alpha=-rate * scale)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs, as plain values and tensors."""
        return {"adam": self._adam.state_dict(), "momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._adam.load_state_dict(state["adam"])
        self._momenta = [
            momentum.to(weight.device)
            for momentum, weight in zip(state["momenta"], self._matrices, strict=True)
        ]


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices (k, rows, columns) with the same singular vectors, values near 1.

    A Newton-Schulz iteration: each step applies the odd polynomial a s + b s^3 + c s^5
    to the singular values s, without computing them. They end between about 0.7 and
    1.2, except those that are tiny relative to the largest.
    """
    a, b, c = _QUINTIC
    x: Tensor = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-12)
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    for _ in range(_N_ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x


def _matrices(encoder: Encoder) -> list[tuple[Tensor, int]]:
    """Return the weight matrices without the last layer's, with their numbers of gates.

    The last layer starts at zero; Adam trains it.
    """
    matrices: list[tuple[Tensor, int]] = [
        (weight, _GATES.get(type(module), 1))
        for module in encoder.modules()
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    ]
    return matrices[:-1]
