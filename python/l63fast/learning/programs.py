"""An encoder as a program, in any format: to bytes, and back from them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

import torch
from torch import Tensor
from torch.jit import _recursive, _state

from l63fast.learning.encoders import Encoder
from l63fast.learning.onnx_program import onnx_bytes, onnx_from
from l63fast.learning.pinned import undisturbed_process

__all__ = ["READ", "WRITE", "Analyse"]

T = TypeVar("T")
Pair = tuple[Tensor, Tensor]
Analyse = Callable[[Tensor, Tensor, Tensor], Pair]
_TRIES: Final = 4


def torchscript_bytes(encoder: Encoder) -> bytes:
    """Return the scripted and frozen encoder; equal encoders give equal bytes."""
    with _deprecations_silenced():
        _forget_scripted_types()
        scripted = torch.jit.script(encoder)
        loaded = _load(io.BytesIO(_saved(scripted)))
        frozen = torch.jit.freeze(
            loaded.eval(), preserved_attrs=["initial_hidden", "hidden_size"]
        )
        return _saved(frozen)


def _forget_scripted_types() -> None:
    # A scripted type whose name is taken gets a number, and that goes into the file:
    # its bytes would depend on what this process has scripted before. This is how
    # torch's own tests start afresh; programs that exist keep the types they hold.
    torch._C._jit_clear_class_registry()
    _state._clear_class_state()
    _recursive.concrete_type_store = _recursive.ConcreteTypeStore()


def torchscript_from(data: bytes) -> Analyse:
    """Return the program in the bytes. This runs code from them."""
    with _deprecations_silenced():
        program: Analyse = _load(io.BytesIO(data))
    return program


def pt2_bytes(encoder: Encoder) -> bytes:
    """Return the encoder as a torch.export program with a free batch size."""
    settings = encoder.settings
    n = torch.export.Dim("n", min=1)
    example = (
        torch.zeros(4, 3),
        torch.zeros(4, settings.window, len(encoder.components)),
        encoder.initial_hidden(4),
    )
    with _deprecations_silenced(), torch.no_grad():
        shapes = ({0: n}, {0: n}, {0: n})
        program = _undisturbed(
            partial(torch.export.export, encoder, example, dynamic_shapes=shapes)
        )
        for node in program.graph_module.graph.nodes:
            for where_from in ("stack_trace", "nn_module_stack", "source_fn_stack"):
                node.meta.pop(where_from, None)  # paths of this machine
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return buffer.getvalue()


def _undisturbed(export: Callable[[], T]) -> T:
    """Return what an export gives, tried anew where another thread disturbed it.

    A profiler that samples this thread's frames (dask's workers have one) keeps tensors
    of the trace alive, and torch then takes one of them for a constant and refuses.
    """
    for _ in range(_TRIES - 1):
        try:
            return export()
        except RuntimeError as error:
            if "fake tensor in the exported program" not in str(error):
                raise
    return export()


def pt2_from(data: bytes) -> Analyse:
    """Return the program in the bytes. This may run code from them."""
    with _deprecations_silenced():
        program: Analyse = torch.export.load(io.BytesIO(data)).module()
    return program


WRITE: Final[dict[str, Callable[[Encoder], bytes]]] = {
    "torchscript": torchscript_bytes,
    "pt2": pt2_bytes,
    "onnx": onnx_bytes,
}
READ: Final[dict[str, Callable[[bytes], Analyse]]] = {
    "torchscript": torchscript_from,
    "pt2": pt2_from,
    "onnx": onnx_from,
}

_load: Callable[[io.BytesIO], torch.jit.ScriptModule] = torch.jit.load


def _saved(module: torch.jit.ScriptModule) -> bytes:
    # To memory, never straight to disk: a full disk would abort the process.
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


@contextmanager
def _deprecations_silenced() -> Iterator[None]:
    with undisturbed_process():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # torch's own recurrent cells rebind their flattened weights when exported.
        warnings.filterwarnings("ignore", ".*were assigned during export", UserWarning)
        yield
