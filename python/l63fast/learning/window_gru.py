"""The training of a GRU that reads windows: the kernels forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from l63fast._kernels import GruBackwardJob, GruJob, Kernels, load_kernels

__all__ = ["can_train", "last_state"]


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
