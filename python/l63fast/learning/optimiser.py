"""Optimisers: Adam, or Muon with orthogonal steps for the weight matrices.

Muon replaces the step G of a weight matrix, the momentum of its gradient, by the
orthogonal matrix U V^T of its singular value decomposition G = U S V^T. All directions
of the matrix then move equally fast, also those with small gradients. A recurrent cell
stacks the matrices of its gates; each gate is orthogonalised alone.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

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
    module : nn.Module
        The encoder, or the part of it that is trained.
    settings : TrainSettings

    Attributes
    ----------
    parameters : list of Parameter
        Those that are not frozen.
    """

    def __init__(self, module: nn.Module, settings: TrainSettings):
        matrices = _matrices(module) if settings.optimiser == "muon" else []
        self._stacks = _stacked(matrices)
        self._momenta = [stack.zeros() for stack in self._stacks]
        self._ratio = settings.matrix_rate
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        taken = {id(weight) for weight, _ in matrices}
        # torch's optimisers import its compiler, which sets environment variables.
        with undisturbed_process():
            self._adam = torch.optim.Adam(
                [p for p in self.parameters if id(p) not in taken],
                lr=settings.learning_rate,
                fused=True,
            )

    def zero_grad(self) -> None:
        """Delete the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, rate: float) -> None:
        """Update the weights from their gradients at this learning rate."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        for stack, momentum in zip(self._stacks, self._momenta, strict=True):
            stack.step(momentum, rate * self._ratio)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs, as plain values and tensors."""
        return {"adam": self._adam.state_dict(), "momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._adam.load_state_dict(state["adam"])
        self._momenta = [
            momentum.to(stack.weights[0][0].device)
            for momentum, stack in zip(state["momenta"], self._stacks, strict=True)
        ]


class _Stack(NamedTuple):
    """Matrices of the same number of rows, which take their steps together.

    Columns of zeros make them equally wide; they change no singular value but zero.

    Attributes
    ----------
    weights : list of (Tensor, int)
        Weights with their numbers of gates; each gate is a matrix.
    shape : tuple of int
        Number of matrices, rows and columns of the stack.
    """

    weights: list[tuple[Tensor, int]]
    shape: tuple[int, int, int]

    def zeros(self) -> Tensor:
        """Return an empty stack."""
        return self.weights[0][0].new_zeros(self.shape).detach()

    @torch.no_grad()
    def step(self, momentum: Tensor, rate: float) -> None:
        """Update momentum and weights from the gradients of the weights."""
        gradients, first = self.zeros(), 0
        for weight, n_gates in self.weights:
            if weight.grad is not None:
                part = gradients[first : first + n_gates, :, : weight.shape[1]]
                part.copy_(weight.grad.view(n_gates, -1, weight.shape[1]))
            first += n_gates
        momentum.lerp_(gradients, 1.0 - _MOMENTUM)
        steps, first = orthogonalised(gradients.lerp_(momentum, _MOMENTUM)), 0
        for weight, n_gates in self.weights:
            rows, columns = len(weight) // n_gates, weight.shape[1]
            part = steps[first : first + n_gates, :, :columns]
            scale = max(1.0, rows / columns) ** 0.5
            weight.view(n_gates, rows, columns).add_(part, alpha=-rate * scale)
            first += n_gates


def _stacked(matrices: list[tuple[Tensor, int]]) -> list[_Stack]:
    stacks = []
    for rows in sorted({len(weight) // n_gates for weight, n_gates in matrices}):
        of_rows = [(w, n_gates) for w, n_gates in matrices if len(w) == rows * n_gates]
        n_matrices = sum(n_gates for _, n_gates in of_rows)
        widest = max(weight.shape[1] for weight, _ in of_rows)
        stacks.append(_Stack(of_rows, (n_matrices, rows, widest)))
    return stacks


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
        x = torch.baddbmm(
            x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a
        )
    return x.transpose(1, 2) if tall else x


def _matrices(trained: nn.Module) -> list[tuple[Tensor, int]]:
    """Return the weight matrices without the last layer's, with their numbers of gates.

    The last layer starts at zero; Adam trains it.
    """
    matrices: list[tuple[Tensor, int]] = [
        (weight, _GATES.get(type(module), 1))
        for module in trained.modules()
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2 and weight.requires_grad
    ]
    return matrices[:-1]
