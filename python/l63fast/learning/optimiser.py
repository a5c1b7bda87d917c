"""How weights are changed: Adam, or orthogonal steps for the matrices among them."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from l63fast.learning.encoders import Encoder
from l63fast.learning.pinned import undisturbed_process
from l63fast.learning.settings import TrainSettings

_GATES: Final = {nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
_MOMENTUM: Final = 0.95
_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
_N_ITERATIONS: Final = 5


class Optimiser:
    """Adam for everything; or, with "muon", for what is no matrix and the last layer.

    The matrices then move in steps whose singular values are all about the same: the
    momentum of their gradient, orthogonalised, each gate of a recurrent cell for
    itself. Source: Jordan et al. (2024), Muon; torch.optim.Muon knows no gates, and
    computes in bfloat16.

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
        # torch's optimisers import its compiler, which sets variables for itself.
        with undisturbed_process():
            self._adam = torch.optim.Adam(
                [p for p in self._all if id(p) not in taken],
                lr=settings.learning_rate,
                fused=True,
            )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._all:
            parameter.grad = None

    def step(self, rate: float) -> None:
        """Change the weights by their gradients at this learning rate."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        if self._matrices:
            self._turn(rate * self._ratio)

    @torch.no_grad()
    def _turn(self, rate: float) -> None:
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
        """Go back to where `state` was taken."""
        self._adam.load_state_dict(state["adam"])
        self._momenta = [
            momentum.to(weight.device)
            for momentum, weight in zip(state["momenta"], self._matrices, strict=True)
        ]


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return matrices (k, rows, columns) with singular values of about 1, turned as is.

    Newton-Schulz iteration by an odd quintic that is steep at zero: the singular
    values end between about 0.7 and 1.2 unless they were tiny against the largest.
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
    """Return the weight matrices but the last layer's, and how many gates are in each.

    The last layer starts at zero, and its three rows are no direction to be kept.
    """
    found: list[tuple[Tensor, int]] = [
        (weight, _GATES.get(type(module), 1))
        for module in encoder.modules()
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    ]
    return found[:-1]
