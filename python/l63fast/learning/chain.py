"""The cycles of one update of a compiled encoder, as one node of torch's graph.

The kernels run the cycles of an update and the way back in one call each: forecasts,
inputs, network, analyses. Values and gradients are those of the loop in
`CycledBatches`, which all other encoders use.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l63fast._kernels import ChainJob
from l63fast.errors import DivergenceError
from l63fast.learning.dynamics import DifferentiableForecast
from l63fast.learning.network import CompiledEncoder

# Largest gradient of a trajectory, in units of the median one.
MAX_GRADIENT: Final = 8.0


class Chain:
    """The cycles of an update.

    Parameters
    ----------
    encoder : CompiledEncoder
        Of an operator of the package.
    model : DifferentiableForecast
    steps : (n_cycles,) int64
        Model steps of each forecast.
    obs_windows : (n_cycles, n, L, obs_dim)
        As the encoder reads them.
    truth : (n_cycles, n, 3) float64
    centre, reach : (3,) float64
        Estimates further than `reach` from the centre are lost; they continue from the
        truth.
    through : bool
        Whether gradients pass through the forecasts.
    """

    def __init__(
        self,
        encoder: CompiledEncoder,
        model: DifferentiableForecast,
        steps: np.ndarray,
        obs_windows: Tensor,
        truth: Tensor,
        *,
        centre: Tensor,
        reach: Tensor,
        through: bool,
    ):
        self._encoder, self.through = encoder, through
        own = encoder.encoder
        n_cycles, n, _ = truth.shape
        windows = obs_windows.flatten(0, 1)
        if own.equivariant:  # then those of mirror images
            windows = torch.cat([windows, windows * own.obs_signs])
        # The kernels replace the coordinates and innovations of a background of zero.
        inputs = encoder.read(windows.new_zeros(len(windows), 3), windows)
        values = encoder.fill_all([part.view(-1, n, part.shape[1]) for part in inputs])
        n_innovations = own.obs_dim * (2 if own.reads_slope else 1)
        context = inputs[-1][:, : -3 - n_innovations]
        observations = obs_windows[:, :, -1, : own.obs_dim]
        self._job = ChainJob(
            values=values.numpy(),
            context=context.contiguous().numpy(),
            folds=own.folds,
            turns=own.equivariant,
            signs=own.obs_signs[: own.obs_dim].numpy(),
            reads_slope=own.reads_slope,
            components=own.components.numpy(),
            powers=own.powers.numpy(),
            observations=observations.contiguous().numpy(),
            innovation_std=own.innovation_std.numpy(),
            mean=own.state_mean.numpy(),
            std=own.state_std.numpy(),
            scale=own.increment_std.numpy(),
            centre=centre.numpy(),
            reach=reach.numpy(),
            truth=truth.numpy(),
            state=np.empty((n, 3)),
            hidden=np.empty((n, own.hidden_size), np.float32),
            starts=np.empty((n_cycles, n, 3)),
            backgrounds=np.empty(truth.shape, np.float32),
            analyses=np.empty(truth.shape, np.float32),
            lost=np.empty((n_cycles, n), np.uint8),
            n_steps=steps,
            dt=model.dt,
            parameters=model.parameters.as_tuple(),
            through=through,
            max_gradient=MAX_GRADIENT,
            **encoder.slots,
        )

    def run(self, state: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """Return backgrounds and analyses (n_cycles, n, 3), last state and hidden.

        Last come the outputs for an uncertainty (n_cycles, n, size), if any.

        Raises
        ------
        DivergenceError
            If more than half of all estimates are lost in a cycle.
        """
        ran: tuple[Tensor, ...] = _Run.apply(  # type: ignore[no-untyped-call]
            self._encoder.token, self, state, hidden
        )
        return ran

    def forward(self, state: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """Run all cycles."""
        job = self._job
        job.state[:], job.hidden[:] = state.numpy(), hidden.numpy()
        ended = self._encoder.network.chain(job)
        if ended >= 0:
            lost = job.lost[ended].nonzero()[0]
            what = (
                f"{len(lost)} of {len(job.state)} estimates are far from the attractor"
            )
            raise DivergenceError(what, lost, 0, 0.0)
        found = job.backgrounds, job.analyses, job.state, job.hidden
        return *map(torch.from_numpy, found), self._encoder.other_outputs()

    def backward(
        self, of_backgrounds: Tensor, of_analyses: Tensor, of_other: Tensor
    ) -> None:
        """Add the gradients of the weights, given those of the loss."""
        given = of_backgrounds.contiguous().numpy(), of_analyses.contiguous().numpy()
        gradients = self._encoder.gradients.numpy()
        ended = self._encoder.network.chain_backward(
            self._job, *given, of_other.contiguous().numpy(), gradients
        )
        if ended >= 0:
            what = f"the gradient of a forecast became non-finite in cycle {ended}"
            raise DivergenceError(what, np.arange(0), 0, 0.0)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, token: Tensor, chain: Chain, state: Tensor, hidden: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.chain = chain
        backgrounds, analyses, last, hidden, other = chain.forward(state, hidden)
        constant = [last, hidden] if chain.through else [backgrounds, last, hidden]
        ctx.mark_non_differentiable(*constant)
        return backgrounds, analyses, last, hidden, other

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_backgrounds: Tensor, of_analyses: Tensor, *others: Tensor
    ) -> tuple[None, ...]:
        ctx.chain.backward(of_backgrounds, of_analyses, others[-1])
        return None, None, None, None
