"""Encoders as programs (TorchScript, pt2, ONNX): to bytes, and back from bytes."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.jit import _recursive, _state

from l63fast.errors import BackendError, ModelFileError
from l63fast.learning.encoders import Encoder
from l63fast.learning.pinned import undisturbed_process

_INPUTS: Final = ("background", "obs_window", "hidden")
_OUTPUTS: Final = ("analysis", "later")
_NOISY: Final = "torch.onnx._internal.exporter._registration"


def onnx_bytes(encoder: Encoder) -> bytes:
    """Return the encoder as an ONNX graph with a free batch size.

    Without a memory the graph has no input `hidden` and no output `later`.

    Raises
    ------
    MissingPackageError
        If the packages of the extra `onnx` are not installed.
    ModelFileError
        If the encoder has an uncertainty, or the exported graph does not have its
        shapes.
    """
    if encoder.settings.is_uncertain:
        raise ModelFileError(
            "onnx: expected an encoder with uncertainty 'none', got "
            f"{encoder.settings.uncertainty!r}: its distribution is written as "
            "safetensors, torchscript and pt2 only"
        )
    for package in ("onnx", "onnxscript"):
        import_module(package)
    n_arrays = 3 if encoder.hidden_size else 2
    example = _example(encoder)[:n_arrays]
    n = torch.export.Dim("n", min=1)
    with _silenced(), torch.no_grad():
        program = torch.onnx.export(
            encoder if encoder.hidden_size else _WithoutMemory(encoder),
            example,
            dynamo=True,
            dynamic_shapes=tuple({0: n} for _ in example),
            input_names=_INPUTS[:n_arrays],
            output_names=_OUTPUTS[: n_arrays - 1],
            verbose=False,
        )
    model: Any = program.model_proto  # type: ignore[union-attr]
    _strip(model.graph)
    _check_shapes(model.graph, [tuple(array.shape[1:]) for array in example])
    data: bytes = model.SerializeToString()
    return data


def _example(encoder: Encoder) -> tuple[Tensor, ...]:
    """Return example arguments of an encoder, which an exporter traces."""
    window = torch.zeros(4, encoder.settings.window, len(encoder.obs_mean))
    return torch.zeros(4, 3), window, encoder.initial_hidden(4)


def _strip(graph: Any) -> None:
    for node in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del node.metadata_props[:]  # stack traces, with the paths of this machine
        node.doc_string = ""


def _check_shapes(graph: Any, wanted: list[tuple[int, ...]]) -> None:
    """Check that only the batch size is free: exporters may free or fix other axes."""
    for array, sizes in zip(graph.input, wanted, strict=True):
        batch, *rest = array.type.tensor_type.shape.dim
        shape = tuple(axis.dim_value for axis in rest)  # 0 where it is free
        if not batch.dim_param or shape != sizes:
            raise ModelFileError(
                f"onnx: {array.name}: expected (n, {', '.join(map(str, sizes))}), got "
                f"({batch.dim_param or batch.dim_value}, "
                f"{', '.join(map(str, shape))})"
            )


class _WithoutMemory(nn.Module):
    """An encoder without a memory, called without the empty hidden state."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, background: Tensor, obs_window: Tensor) -> Tensor:
        """Return the analysis."""
        empty = background.new_zeros(background.shape[0], 0)
        analysis: Tensor = self.encoder(background, obs_window, empty)[0]
        return analysis


class Graph:
    """An ONNX graph with the signature of the other programs; it uses one thread."""

    def __init__(self, data: bytes):
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self._data = data
        self._inputs = [array.name for array in self._session.get_inputs()]
        self._outputs = [array.name for array in self._session.get_outputs()]

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        """Pickle the bytes of the graph."""
        return type(self), (self._data,)

    def run(
        self, background: np.ndarray, obs_window: np.ndarray, hidden: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the analysis and the next hidden state of float32 arrays."""
        given = dict(zip(self._inputs, (background, obs_window, hidden), strict=False))
        analysis, *later = self._session.run(self._outputs, given)
        return analysis, later[0] if later else hidden

    def __call__(
        self, background: Tensor, obs_window: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the analysis and the next hidden state as tensors."""
        arrays = background.numpy(), obs_window.numpy(), hidden.numpy()
        analysis, later = map(torch.from_numpy, self.run(*arrays))
        return analysis, later


def onnx_from(data: bytes) -> Graph:
    """Return the graph in the bytes. Running it can use all memory and time."""
    return Graph(data)


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the messages of torch's exporter."""
    with undisturbed_process():
        logger = logging.getLogger(_NOISY)
        before = logger.level
        logger.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)


HAS_SCRIPTS = sys.version_info < (3, 14)
NO_SCRIPTS: Final = (
    "torch writes TorchScript up to Python 3.13; export the encoder there, or as pt2"
)
T = TypeVar("T")
# Analysis and next hidden state; with an uncertainty also the mixture of normals.
Analyse = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
_TRIES: Final = 4


def torchscript_bytes(encoder: Encoder) -> bytes:
    """Return the scripted and frozen encoder; equal encoders give equal bytes."""
    if not HAS_SCRIPTS:
        raise BackendError(f"torchscript: {NO_SCRIPTS}")
    require_scripts()
    with _deprecations_silenced():
        _forget_scripted_types()
        scripted = torch.jit.script(encoder)
        loaded = _load(io.BytesIO(_saved(scripted)))
        frozen = torch.jit.freeze(
            loaded.eval(), preserved_attrs=["initial_hidden", "hidden_size"]
        )
        return _saved(frozen)


def require_scripts() -> None:
    """Raise BackendError if the environment switches TorchScript off."""
    if HAS_SCRIPTS and not _state._enabled.enabled:
        raise BackendError(
            "PYTORCH_JIT: expected 1 or unset, because TorchScript is written at the "
            "end of a training, got 0"
        )


def _forget_scripted_types() -> None:
    # A second scripted type of the same name gets a number, which is written into the
    # file: its bytes would depend on what this process has scripted before. torch's own
    # tests clear the registry in this way; existing programs keep their types.
    torch._C._jit_clear_class_registry()
    _state._clear_class_state()
    _recursive.concrete_type_store = _recursive.ConcreteTypeStore()


def torchscript_from(data: bytes) -> Analyse:
    """Return the program in the bytes. Loading runs code from them."""
    with _deprecations_silenced():
        program: Analyse = _load(io.BytesIO(data))
    return program


def pt2_bytes(encoder: Encoder) -> bytes:
    """Return the encoder as a torch.export program with a free batch size."""
    n, example = torch.export.Dim("n", min=1), _example(encoder)
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
    """Return the result of an export, repeated if another thread disturbed it.

    A profiler that samples the frames of this thread (dask's workers have one) keeps
    tensors of the trace alive. torch then takes one for a constant and fails.
    """
    for _ in range(_TRIES - 1):
        try:
            return export()
        except RuntimeError as error:
            if "fake tensor in the exported program" not in str(error):
                raise
    return export()


def pt2_from(data: bytes) -> Analyse:
    """Return the program in the bytes. Loading may run code from them."""
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
