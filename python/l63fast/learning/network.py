"""Fast training on the CPU: reader and head of an encoder as one compiled network.

A network is data: layers that read slots and write others, where a slot holds some
values of each sample (`Network` in kernels.hpp). One call of a kernel computes all
layers, another one backpropagates through them. The gradients of the weights are summed
over all analyses of an update and given to torch once. All else stays in torch: scales,
innovations, coordinates and the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from l63fast._kernels import load_kernels
from l63fast.learning.encoders import Encoder, OwnEncoder
from l63fast.learning.readers import MLP

Weights = Callable[[Any], list[Tensor]]

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
    mean = encoder.state_mean
    if (
        isinstance(encoder, OwnEncoder)
        or encoder.n_iterations != 1
        or (mean.dtype, mean.device.type) != (torch.float32, "cpu")
        or n == 0
        or not load_kernels().native_fma
    ):
        return None
    program = _PROGRAMS.get(encoder)
    if program is None:
        program = _PROGRAMS[encoder] = _Program(encoder)
    return CompiledEncoder(encoder, program, n, n_calls)


class _Program:
    """The layers of an encoder.

    Attributes
    ----------
    inputs, outputs : list of int
        Slots that a call fills, and those that it returns: the scaled increment, then
        the next hidden state in one or two parts.
    """

    def __init__(self, encoder: Encoder):
        self.blocks: list[Tensor] = []
        self.slots: list[tuple[int, bool]] = []
        self.layers: list[tuple[int, ...]] = []
        self.n_weights = 0
        self._weights: list[Weights] = []
        head, reader = encoder.head, encoder.reader
        # What the head reads of background and innovation.
        n_read = head.fixed.in_features - reader.context_size
        n_read += head.moving.in_features - 3
        if encoder.carries:
            last, context, later = self._carried(encoder, n_read)
        else:
            last, context, later = self._windowed(encoder, n_read)
        self.outputs = [self._head(encoder, last, context, n_read), *later]

    def block(self, size: int) -> Tensor:
        """Return memory for some values, where possible that of an earlier update.

        New memory of this size is mapped and cleared by the system, which takes as long
        as the forward kernels.
        """
        while self.blocks:
            block = self.blocks.pop()
            if len(block) >= size:
                return block
        return torch.empty(size)

    def flat_weights(self, encoder: Encoder) -> Tensor:
        """Return all weights in the order of the kernels."""
        parts = [part for weights in self._weights for part in weights(encoder)]
        return torch.cat([part.reshape(-1) for part in parts])

    def places(self, slots: list[int], n: int) -> list[tuple[int, int]]:
        """Return where slots of n samples begin, and their widths."""
        widths = [width for width, _ in self.slots]
        return [(n * sum(widths[:slot]), widths[slot]) for slot in slots]

    def _carried(self, encoder: Any, n_read: int) -> tuple[int, int, list[int]]:
        reader = encoder.reader
        units, n_seen = reader.mixer.out_features, reader.n_inputs
        seen, state = self._slot(n_seen), self._slot(units)
        self.inputs = [seen, state]
        mixer = self._kept(
            encoder, lambda e: _dense(e.reader.mixer, [n_seen, units])
        )
        mixed = self._layer("silu", units, mixer, seen, state)
        cell = -1
        if encoder.reader.name == "lstm":
            cell = self._slot(units)
            self.inputs.append(cell)
        weights = self._kept(
            encoder, lambda e: _CELLS[e.reader.name](e.reader.cell, [units, n_seen])
        )
        kind = encoder.reader.name
        later = self._recurrent(kind, units, weights, [mixed, seen], state, cell)
        return seen, later[0], later

    def _windowed(self, encoder: Any, n_read: int) -> tuple[int, int, list[int]]:
        settings, reader = encoder.settings, encoder.reader
        obs_dim, length = len(encoder.obs_mean), settings.window
        obs_dim += encoder.gaps * encoder.obs_dim  # and the flags
        if isinstance(reader, MLP):
            window = self._slot(obs_dim * length, differentiated=False)
            self.inputs, context = [window], window
            for i in (0, 2):
                weights = self._kept(encoder, lambda e, i=i: _dense(e.reader.layers[i]))
                units = reader.layers[i].out_features
                context = self._layer("silu", units, weights, context)
        else:
            units, kind = reader.cell.hidden_size, reader.name
            self.inputs = [
                self._slot(obs_dim, differentiated=False) for _ in range(length)
            ]
            weights = self._kept(
                encoder, lambda e: _CELLS[kind](e.reader.cell, [obs_dim], "_l0")
            )
            context, cell = -1, -1
            for seen in self.inputs:
                after = self._recurrent(kind, units, weights, [seen], context, cell)
                context, cell = (*after, -1)[:2]
        last = self._slot(n_read)
        self.inputs = [*self.inputs, last]
        return last, context, []

    def _head(self, encoder: Any, last: int, context: int, n_read: int) -> int:
        """Add the head's first iteration, whose increment is zero.

        The slot `last` ends with the scaled background and the innovation.
        """
        hidden, n_before = encoder.settings.hidden, self.slots[last][0] - n_read

        def first(encoder: Any) -> list[Tensor]:
            fixed, moving = encoder.head.fixed.weight.t(), encoder.head.moving.weight.t()
            none = fixed.new_zeros(n_before, hidden)
            read = torch.cat([none, fixed[:3], moving[3:]])
            return [read, fixed[3:], encoder.head.fixed.bias]

        weights = self._kept(encoder, first)
        layer = self._layer("silu", hidden, weights, last, context)
        weights = self._kept(encoder, lambda e: _dense(e.head.inner))
        layer = self._layer("silu", hidden, weights, layer)
        weights = self._kept(encoder, lambda e: _dense(e.head.outer))
        return self._layer("linear", 3, weights, layer)

    def _slot(self, width: int, *, differentiated: bool = True) -> int:
        self.slots.append((width, differentiated))
        return len(self.slots) - 1

    def _kept(self, encoder: Encoder, weights: Weights) -> int:
        """Add the weights of layers, and return where they begin."""
        begin = self.n_weights
        self._weights.append(weights)
        self.n_weights += sum(part.numel() for part in weights(encoder))
        return begin

    def _layer(
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
        inputs: list[int],
        state: int,
        cell: int,
    ) -> list[int]:
        """Add a recurrent layer; return the slots of its state and, in an LSTM, cell."""
        after = [self._slot(units) for _ in range(2 if kind == "lstm" else 1)]
        saved = self._slot(_SAVED[kind] * units)
        fields = (*inputs, -1)[:2], (state, cell, saved), (*after, -1)[:2]
        self.layers.append((_KINDS.index(kind), *sum(fields, ()), weights))
        return after


def _dense(layer: Any, widths: list[int] | None = None) -> list[Tensor]:
    parts = layer.weight.split(widths or layer.in_features, 1)
    return [*(part.t() for part in parts), layer.bias]


def _gru(cell: Any, widths: list[int], suffix: str = "") -> list[Tensor]:
    """Return its weights; the gates are those of the kernels, not torch's r, z, n."""
    of_inputs, of_state, b, c = _of_cell(cell, suffix)
    r_and_z = 2 * of_state.shape[1]
    inputs = [part.t() for part in of_inputs.split(widths, 1)]
    state = torch.cat([of_state[r_and_z:], of_state[:r_and_z]])
    sums = b[:r_and_z] + c[:r_and_z]
    return [*inputs, state.t(), c[r_and_z:], sums, b[r_and_z:]]


def _lstm(cell: Any, widths: list[int], suffix: str = "") -> list[Tensor]:
    of_inputs, of_state, b, c = _of_cell(cell, suffix)
    return [*(part.t() for part in of_inputs.split(widths, 1)), of_state.t(), b + c]


def _of_cell(cell: Any, suffix: str) -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(cell, name + suffix) for name in names]


_CELLS: Final = {"gru": _gru, "lstm": _lstm}
_PROGRAMS: Final[WeakKeyDictionary[Encoder, _Program]] = WeakKeyDictionary()


class CompiledEncoder:
    """The calls of an encoder during one update of its weights.

    Attributes
    ----------
    token : Tensor
        Nodes of torch's graph that call `forward` take it as an input; after all of
        them, the gradients of the weights pass through it.
    """

    def __init__(self, encoder: Encoder, program: _Program, n: int, n_calls: int):
        self.encoder, self.n = encoder, n
        flat = program.flat_weights(encoder)
        self.network = load_kernels().network(
            program.slots, program.layers, program.n_weights
        )
        self.network.pack(flat.detach().numpy())
        size = self.network.n_values * n + _PADDING
        block = program.block(n_calls * size)
        # Nothing refers to the block any more when this object is gone.
        finalize(self, program.blocks.append, block)
        self._values = block[: n_calls * size].view(n_calls, size)
        self._free = list(self._values.unbind())
        self.gradients = flat.new_empty(size)
        self._program = program
        self._inputs = program.places(program.inputs, n)
        self._outputs = program.places(program.outputs, n)
        self.weight_gradients = torch.zeros_like(flat.detach())
        self.token: Tensor = _Weights.apply(flat, self)  # type: ignore[no-untyped-call]

    def __call__(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return analysis and next hidden state, as `Encoder.forward` does."""
        encoder = self.encoder
        start = encoder.coordinates(background)
        inputs = [*self.read(start, obs_window), *self.parts(hidden)]
        increment, *later = _Call.apply(self.token, self, *inputs)  # type: ignore[no-untyped-call]
        state = encoder.state(start + increment * encoder.increment_std, background)
        return state, self.joined(later)

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
        n_read = len(inputs) - len(after)
        return {
            "last_slot": inputs[n_read - 1],
            "increment_slot": increment,
            "parts_before": tuple(inputs[n_read:]),
            "parts_after": tuple(after),
        }

    def fill_all(self, inputs: list[Tensor]) -> Tensor:
        """Return the slots of all calls (n_calls, n_values), filled with these inputs.

        The inputs are (n_calls, n, width); the last one is left out.
        """
        for (begin, width), given in zip(self._inputs, inputs[:-1], strict=False):
            part = self._values[:, begin : begin + self.n * width]
            part.unflatten(1, (self.n, width)).copy_(given)
        return self._values

    @property
    def n_parts(self) -> int:
        """Number of parts of the hidden state: GRU 1, LSTM 2 (h and c), windows 0."""
        return len(self._outputs) - 1

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

    def backward(
        self, values: Tensor, *gradients: Tensor | None
    ) -> list[Tensor]:
        """Return the gradients of the inputs, from those of the outputs.

        They are valid until the next call.
        """
        found = self.gradients.zero_()
        for place, gradient in zip(self._outputs, gradients, strict=False):
            if gradient is not None:
                self._slot(found, place).copy_(gradient)
        summed = self.weight_gradients.numpy()
        self.network.backward(values.numpy(), found.numpy(), summed, self.n)
        return [self._slot(found, place) for place in self._inputs]

    def take_weight_gradients(self) -> Tensor:
        """Return the gradients of all weights so far, and start again from zero."""
        summed = self.weight_gradients
        self.weight_gradients = torch.zeros_like(summed)
        return summed

    def _slot(self, array: Tensor, place: tuple[int, int]) -> Tensor:
        begin, width = place
        begin += int(array.storage_offset())
        return array.as_strided((self.n, width), (width, 1), begin)


class _Weights(torch.autograd.Function):
    """Passes the gradients of the weights to torch, after those of all calls."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, encoder: CompiledEncoder) -> Tensor:
        ctx.encoder = encoder
        return flat.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.encoder.take_weight_gradients(), None


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
