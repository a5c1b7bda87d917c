"""Fast training on the CPU: reader and head of an encoder as one compiled network.

A network is data: layers that read slots and write others, where a slot holds some
values of each sample (`Network` in kernels.hpp). One call of a kernel computes all
layers, another one backpropagates through them. The gradients of the weights are summed
over all analyses of an update and given to torch once. All else stays in torch: scales,
innovations, coordinates and the loss.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary, finalize, ref

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l63fast._kernels import NetworkKernels, network_kernels
from l63fast.learning.encoders import Encoder, OwnEncoder, UncertainEncoder
from l63fast.learning.readers import MLP
from l63fast.learning.uncertainty import n_outputs

_KINDS: Final = ("linear", "silu", "gru", "lstm")  # as the core numbers them
_SAVED: Final = {"silu": 1, "gru": 4, "lstm": 5}  # per unit, for the backpropagation
_PADDING: Final = 16  # values after the last slot, which the kernels may read


def compiled(encoder: Encoder, n: int, n_calls: int = 1) -> CompiledEncoder | None:
    """Return the encoder for one update of its weights; None where torch is needed.

    The kernels compute one iteration of an encoder of ours, in float32 on the CPU.

    Parameters
    ----------
    encoder : Encoder
    n : int
        Samples per call.
    n_calls : int
        Calls that the update makes.
    """
    mean, kernels = encoder.state_mean, network_kernels()
    if (
        isinstance(encoder, OwnEncoder)
        or encoder.n_iterations != 1
        or (mean.dtype, mean.device.type) != (torch.float32, "cpu")
        or n == 0
        or kernels is None
    ):
        return None
    program = _PROGRAMS.get(encoder)
    if program is None:
        program = _PROGRAMS[encoder] = _Program(encoder)
    return CompiledEncoder(encoder, program, kernels, n, n_calls)


class _Program:
    """The layers of an encoder.

    Attributes
    ----------
    slots, layers, pieces, n_weights
        As the kernels take them.
    inputs, outputs : list of int
        Slots that a call fills, and those that it returns: the scaled increment, the
        outputs for an uncertainty if there are any, the next hidden state in one or two
        parts.
    blocks : list of Tensor
        Memory of updates that are over.
    """

    def __init__(self, encoder: Encoder):
        self.layers: list[tuple[int, ...]] = []
        self.pieces: list[tuple[int, ...]] = []
        self.n_weights = 0
        self.blocks: list[Tensor] = []
        self._slots: list[tuple[int, bool]] = []
        self._names = [name for name, _ in encoder.named_parameters()]
        is_uncertain = isinstance(encoder, UncertainEncoder)
        self._n_uncertain = n_outputs(encoder.settings) if is_uncertain else 0
        head, reader = encoder.head, encoder.reader
        # What the head reads of background and innovation.
        n_read = head.fixed.in_features - reader.context_size
        n_read += head.moving.in_features - 3
        if encoder.carries:
            last, context, later = self._carried(encoder)
        else:
            last, context, later = self._windowed(encoder, n_read)
        hidden = encoder.settings.hidden
        self.outputs = [*self._head(last, context, n_read, hidden), *later]
        self.slots = [
            (width, differentiated, number in self.outputs)
            for number, (width, differentiated) in enumerate(self._slots)
        ]

    def block(self, size: int) -> Tensor:
        """Return memory for some values, where possible that of an earlier update.

        New memory of this size is mapped and cleared by the system, which takes as long
        as the forward kernels.
        """
        while self.blocks:
            block = self.blocks.pop()
            if len(block) >= size:
                return block
        return torch.from_numpy(np.empty(size, np.float32))

    def places(self, slots: list[int], n: int) -> list[tuple[int, int]]:
        """Return where slots of n samples begin, and their widths."""
        widths = [width for width, _ in self._slots]
        return [(n * sum(widths[:slot]), widths[slot]) for slot in slots]

    def _carried(self, encoder: Any) -> tuple[int, int, list[int]]:
        reader = encoder.reader
        units, n_seen, kind = reader.mixer.out_features, reader.n_inputs, reader.name
        seen, state = self._slot(n_seen), self._slot(units)
        self.inputs, cell = [seen, state], -1
        if kind == "lstm":
            cell = self._slot(units)
            self.inputs.append(cell)
        mixer = self._dense_weights("reader.mixer", units, [n_seen, units])
        mixed = self._dense("silu", units, mixer, seen, state)
        weights = self._cell_weights(kind, "", units, [units, n_seen])
        later = self._recurrent(kind, units, weights, (mixed, seen), state, cell)
        return seen, later[0], later

    def _windowed(self, encoder: Any, n_read: int) -> tuple[int, int, list[int]]:
        reader, length = encoder.reader, encoder.settings.window
        n_obs = len(encoder.obs_mean) + encoder.gaps * encoder.obs_dim  # and flags
        if isinstance(reader, MLP):
            context = self._slot(n_obs * length, differentiated=False)
            self.inputs = [context]
            for i in (0, 2):
                layer: Any = reader.layers[i]
                sizes = layer.out_features, [layer.in_features]
                weights = self._dense_weights(f"reader.layers.{i}", *sizes)
                context = self._dense("silu", sizes[0], weights, context)
        else:
            units, kind = reader.cell.hidden_size, reader.name
            weights = self._cell_weights(kind, "_l0", units, [n_obs])
            self.inputs = [
                self._slot(n_obs, differentiated=False) for _ in range(length)
            ]
            context = cell = -1
            for seen in self.inputs:
                after = self._recurrent(kind, units, weights, (seen, -1), context, cell)
                context, cell = (*after, -1)[:2]
        last = self._slot(n_read)
        self.inputs.append(last)
        return last, context, []

    def _head(self, last: int, context: int, n_read: int, hidden: int) -> list[int]:
        """Add the head's first iteration, whose increment is zero; return its outputs.

        The slot `last` ends with the scaled background and the innovation.
        """
        n_last, n_context = self._slots[last][0], self._slots[context][0]
        first = self._matrix(n_last * hidden)
        begin = first + (n_last - n_read) * hidden  # what stands before is not read
        fixed, moving = "head.fixed.weight", "head.moving.weight"
        rows = 0, hidden
        self._piece(fixed, rows, (0, 3), begin, hidden)
        self._piece(moving, rows, (3, n_read), begin + 3 * hidden, hidden)
        context_begin = self._matrix(n_context * hidden)
        self._piece(fixed, rows, (3, 3 + n_context), context_begin, hidden)
        self._piece("head.fixed.bias", rows, (0, 1), self._matrix(hidden), hidden)
        layer = self._dense("silu", hidden, first, last, context)
        weights = self._dense_weights("head.inner", hidden, [hidden])
        layer = self._dense("silu", hidden, weights, layer)
        outputs = []
        for name, size in (("outer", 3), ("uncertainty", self._n_uncertain)):
            if size:
                weights = self._dense_weights(f"head.{name}", size, [hidden])
                outputs.append(self._dense("linear", size, weights, layer))
        return outputs

    def _slot(self, width: int, *, differentiated: bool = True) -> int:
        self._slots.append((width, differentiated))
        return len(self._slots) - 1

    def _matrix(self, size: int) -> int:
        """Return where the next weights begin."""
        self.n_weights += size
        return self.n_weights - size

    def _piece(
        self,
        name: str,
        rows: tuple[int, int],
        columns: tuple[int, int],
        begin: int,
        stride: int,
    ) -> None:
        """Add rows (outputs) and columns (inputs) of a parameter to the weights.

        Its transpose begins at `begin`, with `stride` weights from row to row.
        """
        spans = (rows[0], rows[1] - rows[0], columns[0], columns[1] - columns[0])
        self.pieces.append((self._names.index(name), *spans, begin, stride))

    def _dense_weights(self, name: str, units: int, widths: list[int]) -> int:
        begin, first = self.n_weights, 0
        for width in widths:
            at, columns = self._matrix(width * units), (first, first + width)
            self._piece(f"{name}.weight", (0, units), columns, at, units)
            first += width
        self._piece(f"{name}.bias", (0, units), (0, 1), self._matrix(units), units)
        return begin

    def _cell_weights(
        self, kind: str, suffix: str, units: int, widths: list[int]
    ) -> int:
        """Add the weights of a recurrent cell, whose gates are in the kernels' order.

        Torch's GRU has r, z, n for inputs and state; the kernels' biases are those of
        the state part of n, r, z, and the input part of n.
        """
        n_gates = 4 if kind == "lstm" else 3
        begin, first, wide = self.n_weights, 0, n_gates * units
        names = [f"reader.cell.{of}{suffix}" for of in ("weight_ih", "bias_ih")]
        names += [f"reader.cell.{of}{suffix}" for of in ("weight_hh", "bias_hh")]
        of_inputs, b, of_state, c = names
        for width in widths:
            at, columns = self._matrix(width * wide), (first, first + width)
            self._piece(of_inputs, (0, wide), columns, at, wide)
            first += width
        at, biases = self._matrix(units * wide), self._matrix(4 * units)
        everything, one = (0, units), (0, 1)
        if kind == "lstm":
            self._piece(of_state, (0, wide), everything, at, wide)
            for name in (b, c):
                self._piece(name, (0, wide), one, biases, wide)
            return begin
        r_and_z, n = (0, 2 * units), (2 * units, wide)
        self._piece(of_state, n, everything, at, wide)
        self._piece(of_state, r_and_z, everything, at + units, wide)
        self._piece(c, n, one, biases, wide)
        for name in (b, c):
            self._piece(name, r_and_z, one, biases + units, wide)
        self._piece(b, n, one, biases + wide, wide)
        return begin

    def _dense(
        self, kind: str, units: int, weights: int, first: int, second: int = -1
    ) -> int:
        """Add a dense layer, and return the slot of its output."""
        output = self._slot(units)
        saved = self._slot(units) if kind == "silu" else -1
        number = _KINDS.index(kind)
        self.layers.append((number, first, second, -1, -1, saved, output, -1, weights))
        return output

    def _recurrent(
        self,
        kind: str,
        units: int,
        weights: int,
        inputs: tuple[int, int],
        state: int,
        cell: int,
    ) -> list[int]:
        """Add a recurrent layer; return the slots of its state and its cell (LSTM)."""
        after = [self._slot(units) for _ in range(2 if kind == "lstm" else 1)]
        saved = self._slot(_SAVED[kind] * units)
        number, (output, after_cell) = _KINDS.index(kind), (*after, -1)[:2]
        outputs = saved, output, after_cell, weights
        self.layers.append((number, *inputs, state, cell, *outputs))
        return after


_PROGRAMS: Final[WeakKeyDictionary[Encoder, _Program]] = WeakKeyDictionary()


class CompiledEncoder:
    """The calls of an encoder during one update of its weights.

    Attributes
    ----------
    token : Tensor
        Nodes of torch's graph that call `forward` take it as an input; after all of
        them, the gradients of the weights pass through it.
    """

    def __init__(
        self,
        encoder: Encoder,
        program: _Program,
        kernels: NetworkKernels,
        n: int,
        n_calls: int,
    ):
        self.encoder, self.n = encoder, n
        self.network = kernels.network(
            program.slots, program.layers, program.pieces, program.n_weights
        )
        parameters = list(encoder.parameters())
        self.network.pack([p.detach().contiguous().numpy() for p in parameters])
        size = self.network.n_values * n + _PADDING
        block = program.block(n_calls * size)
        # Nothing refers to the block any more when this object is gone.
        finalize(self, program.blocks.append, block)
        self._values = block[: n_calls * size].view(n_calls, size)
        self._free = list(self._values.unbind())
        self.gradients = torch.empty(size)
        self._program = program
        self._inputs = program.places(program.inputs, n)
        self._outputs = program.places(program.outputs, n)
        self.token: Tensor = _Weights.apply(self, *parameters)  # type: ignore[no-untyped-call]

    def __call__(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, ...]:
        """Return analysis and next hidden state, as `Encoder.forward` does."""
        encoder = self.encoder
        where, background, obs_window, hidden = encoder.turned(
            background, obs_window, hidden
        )
        start = encoder.coordinates(background)
        inputs = [*self.read(start, obs_window), *self.parts(hidden)]
        increment, *later = _Call.apply(self.token, self, *inputs)  # type: ignore[no-untyped-call]
        state = encoder.state(start + increment * encoder.increment_std, background)
        if not isinstance(encoder, UncertainEncoder):
            memory = encoder.mirrored_memory(self.joined(later), where)
            return encoder.mirrored(state, where), memory
        outputs, *later = later
        return state, self.joined(later), encoder.mixture(state, outputs)

    def read(self, start: Tensor, obs_window: Tensor) -> list[Tensor]:
        """Return the inputs that depend on observations and background."""
        encoder = self.encoder
        window, scaled, innovation = encoder.inputs(start, obs_window)
        if encoder.carries:
            return [torch.cat([window.flatten(1), scaled, innovation], 1)]
        is_mlp = isinstance(encoder.reader, MLP)
        seen = [window.flatten(1)] if is_mlp else list(window.unbind(1))
        return [*seen, torch.cat([scaled, innovation], 1)]

    @property
    def slots(self) -> dict[str, Any]:
        """Slots by their names in a ChainJob."""
        inputs, (increment, *after) = self._program.inputs, self._program.outputs
        other = after.pop(0) if self.is_uncertain else -1
        n_read = len(inputs) - len(after)
        return {
            "last_slot": inputs[n_read - 1],
            "increment_slot": increment,
            "other_slot": other,
            "parts_before": tuple(inputs[n_read:]),
            "parts_after": tuple(after),
        }

    def fill_all(self, inputs: list[Tensor]) -> Tensor:
        """Return the slots of all calls (n_calls, n_values), filled with these inputs.

        The inputs are (n_calls, n, width); the last one is left out.
        """
        for (begin, width), given in zip(self._inputs, inputs[:-1], strict=False):
            part = self._values[:, begin : begin + self.n * width]
            part.view(len(part), self.n, width).copy_(given)
        return self._values

    @property
    def n_parts(self) -> int:
        """Number of parts of the hidden state: GRU 1, LSTM 2 (h and c), windows 0."""
        return len(self._outputs) - 1 - self.is_uncertain

    @property
    def is_uncertain(self) -> bool:
        """Whether there are outputs for an uncertainty."""
        return isinstance(self.encoder, UncertainEncoder)

    def other_outputs(self) -> Tensor:
        """Return the outputs for an uncertainty in all calls, (n_calls, n, size).

        Without them the size is 0.
        """
        begin, width = self._outputs[1] if self.is_uncertain else (0, 0)
        part = self._values[:, begin : begin + self.n * width]
        return part.reshape(len(part), self.n, width).clone()

    def parts(self, hidden: Tensor) -> list[Tensor]:
        """Return the parts of a hidden state."""
        return list(hidden.chunk(self.n_parts, 1)) if self.n_parts else []

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Return the hidden state with these parts."""
        if not parts:
            return self.encoder.initial_hidden(self.n)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def forward(self, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the values of all slots, for `backward`, and the outputs."""
        values = self._free.pop()
        for place, given in zip(self._inputs, inputs, strict=True):
            self._slot(values, place).copy_(given)
        self.network.forward(values.numpy(), self.n)
        return values, [self._slot(values, place).clone() for place in self._outputs]

    def backward(self, values: Tensor, *gradients: Tensor | None) -> list[Tensor]:
        """Return the gradients of the inputs, from those of the outputs.

        They are valid until the next call.
        """
        found = self.gradients
        for place, gradient in zip(self._outputs, gradients, strict=True):
            to = self._slot(found, place)
            to.zero_() if gradient is None else to.copy_(gradient)
        self.network.backward(values.numpy(), found.numpy(), self.n)
        return [self._slot(found, place) for place in self._inputs]

    def _slot(self, array: Tensor, place: tuple[int, int]) -> Tensor:
        begin, width = place
        begin += int(array.storage_offset())
        return array.as_strided((self.n, width), (width, 1), begin)


class _Weights(torch.autograd.Function):
    """Passes the gradients of the parameters to torch, after those of all calls."""

    @staticmethod
    def forward(ctx: Any, encoder: CompiledEncoder, *parameters: Tensor) -> Tensor:
        # A weak reference: a cycle of references would keep the memory of the update
        # until the garbage collector finds it. The nodes of the calls keep the encoder.
        ctx.encoder, ctx.shapes = ref(encoder), [p.shape for p in parameters]
        return parameters[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [torch.zeros(shape) for shape in ctx.shapes]
        ctx.encoder().network.take_gradients([part.numpy() for part in gradients])
        return None, *gradients


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, token: Tensor, encoder: CompiledEncoder, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.values, outputs = encoder.forward(list(inputs))
        ctx.encoder = encoder
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.encoder.backward(ctx.values, *gradients)
        return None, None, *(gradient.clone() for gradient in found)
