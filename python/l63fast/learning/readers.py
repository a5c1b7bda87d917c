"""How encoders read observations: one class per architecture and kind of memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.jit import is_scripting  # type: ignore[attr-defined]

from l63fast._kernels import GruBackwardJob, GruJob, Kernels, load_kernels


def can_train(cell: nn.GRU, obs_window: Tensor) -> bool:
    """Return whether `last_state` can be asked, and is faster than the cell itself.

    It is there for training in float32 on the CPU. Elsewhere the cell does what it
    always does: programs are made of it, and its gradient has a gradient.
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
    """Return the state (n, n_units) after windows (n, L, n_inputs), from zero.

    The gradient passes to the cell's parameters and to the windows, once: it has no
    gradient itself. Both ways are as exact as torch's own, and their bits depend on
    no batch size and no number of threads; those of the weights' gradients do.
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
        # One block for all: several would go back to the system after every step, and
        # their pages would fault in again in the next.
        size = length * n * units
        block = inputs.new_empty(9 * size)
        gates, preactivation_grad = block[: 8 * size].view(2, length, n, 4 * units)
        states = block[8 * size :].view(length, n, units)
        weights = input_weights, state_weights, input_bias, state_bias
        # gates and states are contiguous: they are filled, and not copies of them.
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
        # Of r, z, the state part, the input part.
        grad = ctx.preactivation_grad.view(-1, 4 * units)
        known = torch.cat(
            [inputs.transpose(0, 1), inputs.new_ones((*states.shape[:2], 1))], 2
        )
        summed = known.flatten(0, 1).t() @ grad
        given = torch.cat([summed[:, : 2 * units], summed[:, 3 * units :]], 1)
        of_states = grad[n:, : 3 * units].t() @ states[:-1].flatten(0, 1)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            gated = torch.cat([grad[:, : 2 * units], grad[:, 3 * units :]], 1)
            # BLAS may add up in another order for another layout.
            of_inputs = (gated @ input_weights.contiguous()).view(
                -1, n, inputs.shape[2]
            )
            of_inputs = of_inputs.transpose(0, 1)
        return (
            of_inputs,
            given[:-1].t(),
            of_states,
            given[-1],
            summed[-1, : 3 * units],
            None,
        )


class Sizes(NamedTuple):
    """What a reader is made for.

    Attributes
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

    obs_dim: int
    window: int
    width: int
    hidden: int
    n_innovations: int


class Reader(nn.Module):
    """Turns a normalised window and a hidden state into a context vector.

    Every reader has this constructor and a
    ``forward(obs_window (n, L, obs_dim), hidden (n, hidden_size))`` that returns
    ``(context (n, context_size), hidden)``. Those here keep nothing from one analysis
    to the next, so their hidden state is empty and handed through.
    """

    name = ""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.hidden_size = 0
        self.context_size = sizes.width


class MLP(Reader):
    """The flattened window through two dense layers."""

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
    """A cell that takes one step per analysis.

    It reads ``(n, n_inputs)``: the flattened window, the background and the
    innovation, each in its own scale; and besides them a layer of features of those
    and of the memory. With linear functions alone in its gates a cell learns slower:
    how uncertain a forecast is follows from both in no linear way.
    """

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.n_inputs = sizes.obs_dim * sizes.window + 3 + sizes.n_innovations
        self.mixer = nn.Linear(self.n_inputs + sizes.width, sizes.width)

    def features(self, seen: Tensor, output: Tensor) -> Tensor:
        """Return what the cell reads: (n, width + n_inputs)."""
        mixed = self.mixer(torch.cat([seen, output], 1))
        return torch.cat([nn.functional.silu(mixed), seen], 1)


class CarriedGRU(_Carried):
    """A gated recurrent unit; its output is its memory."""

    name = "gru"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.hidden_size = sizes.width
        self.cell = nn.GRUCell(sizes.width + self.n_inputs, sizes.width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context of this analysis, and the same as the next memory."""
        later: Tensor = self.cell(self.features(seen, hidden), hidden)
        return later, later


class CarriedLSTM(_Carried):
    """A long short-term memory; h and c in one tensor."""

    name = "lstm"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.hidden_size = 2 * sizes.width
        self.cell = nn.LSTMCell(sizes.width + self.n_inputs, sizes.width)

    def forward(self, seen: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output h, and h and c (n, 2 width) as the next memory."""
        output, state = hidden.chunk(2, 1)
        output, state = self.cell(self.features(seen, output), (output, state))
        return output, torch.cat([output, state], 1)


CARRIED: dict[str, type[Reader]] = {
    reader.name: reader for reader in (CarriedGRU, CarriedLSTM)
}
