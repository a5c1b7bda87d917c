"""Readers of observations: one class per architecture and kind of memory.

The training of a GRU over windows has kernels of its own, because torch's GRU takes
most of the training time. With the input x, the state h and the sigmoid s, a step is

    r = s(W_r x + U_r h + b_r),  z = s(W_z x + U_z h + b_z),
    c = tanh(W_c x + r * (U_c h + b_c) + a_c),  h' = (1 - z) * c + z * h.

The forward kernel keeps gates and states. The backward kernel goes from the last step
to the first and gives the gradients of the preactivations: of r, of z, of U_c h + b_c
and of the argument of tanh, four numbers per unit. The gradients of weights, biases and
inputs are products of these with states, inputs and weights, summed over the steps
(backpropagation through time).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.jit import is_scripting  # type: ignore[attr-defined]

from l63fast._kernels import GruBackwardJob, GruJob, Kernels, load_kernels


def can_train(cell: nn.GRU, obs_window: Tensor) -> bool:
    """Return whether `last_state` can be used and is faster than torch's GRU.

    It is for training in float32 on the CPU. Otherwise torch's GRU is used: it can be
    exported, and its gradient can be differentiated again.
    """
    return (
        cell.training
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        and all(_is_plain(values) for values in (obs_window, *cell.parameters()))
        and obs_window.numel() > 0
        and load_kernels().native_fma
    )


def _is_plain(values: Tensor) -> bool:
    return values.dtype == torch.float32 and values.device.type == "cpu"


def last_state(cell: nn.GRU, obs_window: Tensor) -> Tensor:
    """Return the states (n, n_units) of a GRU after windows (n, L, n_inputs), from 0.

    Gradients pass to the cell's parameters and to the windows; second derivatives do
    not exist. States and their gradients are as accurate as torch's, with the same bits
    for every batch size and number of threads; gradients of the weights are sums whose
    last bits depend on both.
    """
    state: Tensor = _LastState.apply(  # type: ignore[no-untyped-call]
        obs_window,
        cell.weight_ih_l0,
        cell.weight_hh_l0,
        cell.bias_ih_l0,
        cell.bias_hh_l0,
        load_kernels(),
    )
    return state


class _LastState(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        obs_window: Tensor,
        input_weights: Tensor,
        state_weights: Tensor,
        input_bias: Tensor,
        state_bias: Tensor,
        kernels: Kernels,
    ) -> Tensor:
        inputs = obs_window.contiguous()
        (n, length, _), units = inputs.shape, state_weights.shape[1]
        # One block of memory for all: several smaller ones would be returned to the
        # system after every step, and mapped again in the next.
        size = length * n * units
        block = inputs.new_empty(9 * size)
        gates, preactivation_grad = block[: 8 * size].view(2, length, n, 4 * units)
        states = block[8 * size :].view(length, n, units)
        weights = input_weights, state_weights, input_bias, state_bias
        # Gates and states are contiguous already, so the kernel fills them in place.
        fields = (inputs, *weights, gates, states)
        job = GruJob(*(field.detach().contiguous().numpy() for field in fields))
        kernels.gru(job, torch.get_num_threads())
        ctx.save_for_backward(inputs, input_weights, state_weights, gates, states)
        ctx.preactivation_grad, ctx.kernels = preactivation_grad, kernels
        last: Tensor = states[-1].clone()
        return last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, input_weights, state_weights, gates, states = ctx.saved_tensors
        job = GruBackwardJob(
            state_weights.detach().contiguous().numpy(),
            gates.numpy(),
            states.numpy(),
            gradient.contiguous().numpy(),
            ctx.preactivation_grad.numpy(),
        )
        ctx.kernels.gru_backward(job, torch.get_num_threads())
        n, units = gradient.shape
        # Columns: r, z, U_c h + b_c, and the argument of tanh.
        grad = ctx.preactivation_grad.view(-1, 4 * units)
        # Inputs and a column of ones: one product gives weights and biases.
        with_ones = torch.cat(
            [inputs.transpose(0, 1), inputs.new_ones((*states.shape[:2], 1))], 2
        )
        summed = with_ones.flatten(0, 1).t() @ grad
        # The inputs enter r, z and the argument of tanh; the states r, z and U_c h.
        input_grad = torch.cat([summed[:, : 2 * units], summed[:, 3 * units :]], 1)
        # The state before the first step is zero and contributes nothing.
        state_weights_grad = grad[n:, : 3 * units].t() @ states[:-1].flatten(0, 1)
        windows_grad = None
        if ctx.needs_input_grad[0]:
            gated = torch.cat([grad[:, : 2 * units], grad[:, 3 * units :]], 1)
            # Contiguous, because BLAS may sum in another order for another layout.
            windows_grad = (gated @ input_weights.contiguous()).view(
                -1, n, inputs.shape[2]
            )
            windows_grad = windows_grad.transpose(0, 1)
        return (
            windows_grad,
            input_grad[:-1].t(),
            state_weights_grad,
            input_grad[-1],
            summed[-1, : 3 * units],
            None,
        )


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
        # TorchScript does not compile a branch under this condition alone.
        if not is_scripting():  # noqa: SIM102
            if can_train(self.cell, obs_window):
                return last_state(self.cell, obs_window), hidden
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
