"""Runs torch with its default settings, and restores the caller's settings afterwards.

Settings of a thread are set for that thread. Settings of the whole process are shared
by all calls that run at the same time: the first call sets them, the last one restores
them.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

import torch

from l63fast._arithmetic import callers_flush, ieee_arithmetic
from l63fast.errors import BackendError

_Undo = Callable[[], object]
_EXACT: Final = ("none", "ieee")
_BACKENDS: Final[Any] = torch.backends
# Settings of the precision of float32 products. A product may inherit its precision
# from its parents.
_PARENTS: Final[tuple[Any, ...]] = (_BACKENDS, _BACKENDS.mkldnn)
_PRODUCTS: Final[tuple[Any, ...]] = (
    _BACKENDS.mkldnn.matmul,
    _BACKENDS.mkldnn.rnn,
    _BACKENDS.mkldnn.conv,
)
_ON_GPU: Final = _BACKENDS.cuda.is_built()
_GPU_PARENTS: Final[tuple[Any, ...]] = (_BACKENDS.cudnn,)
_GPU_PRODUCTS: Final[tuple[Any, ...]] = (
    _BACKENDS.cuda.matmul,
    _BACKENDS.cudnn.rnn,
    _BACKENDS.cudnn.conv,
)


@contextmanager
def pinned(threads: int = 1) -> Iterator[None]:
    """Run torch with its default settings and this number of threads.

    Set are the default dtype (float32) and device (the CPU), the precision of float32
    products (no bfloat16 or TF32), autocast (off), gradients (on, no inference mode),
    denormal numbers (kept) and NumPy's handling of errors. For `with` blocks and as a
    decorator of functions.

    Raises
    ------
    BackendError
        If more than one thread is asked for while denormal numbers are flushed to
        zero: torch's worker threads would continue to flush them.
    """
    if threads > 1 and callers_flush():
        raise BackendError(
            f"threads: expected 1 where denormal numbers are flushed to zero, got "
            f"{threads}; call torch.set_flush_denormal(False) first"
        )
    with ieee_arithmetic(), ExitStack() as stack:
        _PROCESS.hold()
        stack.callback(_PROCESS.release)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        before = torch.get_num_threads()
        if threads != before:
            torch.set_num_threads(threads)
            stack.callback(torch.set_num_threads, before)
        yield


class _Process:
    """The settings of the whole process, and the number of calls that use them."""

    def __init__(self) -> None:
        self._users = 0
        self._undo: list[_Undo] = []
        self._renew_locks()
        os.register_at_fork(after_in_child=self._renew_locks)

    def _renew_locks(self) -> None:
        # After a fork, a lock that another thread held would never be released.
        self._lock = threading.Lock()
        self.alone = threading.RLock()

    def hold(self) -> None:
        """Set torch's defaults, unless another call has set them already."""
        with self._lock:
            if not self._users:
                self._set(self._undo.append)
            self._users += 1

    def release(self) -> None:
        """Restore the caller's settings, if this is the last call."""
        with self._lock:
            self._users -= 1
            while not self._users and self._undo:
                self._undo.pop()()

    @staticmethod
    def _set(later: Callable[[_Undo], None]) -> None:
        """Set the defaults, and give `later` what restores each changed setting."""
        dtype = torch.get_default_dtype()
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            later(partial(torch.set_default_dtype, dtype))
        parents, products = _PARENTS, _PRODUCTS
        if _ON_GPU:
            parents, products = parents + _GPU_PARENTS, products + _GPU_PRODUCTS
        if all(part.fp32_precision in _EXACT for part in products):
            return
        # torch has an old and a new setting for the same thing, and reading the old one
        # fails if they disagree: so both are set, the old one first.
        _set_old(
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
            "highest",
            later,
        )
        if _ON_GPU:
            _set_old(
                lambda: _BACKENDS.cudnn.allow_tf32,
                partial(setattr, _BACKENDS.cudnn, "allow_tf32"),
                False,
                later,
            )
        for part in parents + products:
            before = part.fp32_precision
            if before not in _EXACT:
                part.fp32_precision = "none" if part in parents else "ieee"
                later(partial(setattr, part, "fp32_precision", before))


def _set_old(
    get: Callable[[], Any],
    put: Callable[[Any], object],
    wanted: Any,
    later: Callable[[_Undo], None],
) -> None:
    try:
        before = get()
    except RuntimeError:  # the new setting was used, and alone is enough
        return
    if before != wanted:
        put(wanted)
        later(partial(put, before))


_PROCESS: Final = _Process()


@contextmanager
def undisturbed_process() -> Iterator[None]:
    """Restore warning filters and the environment variables that torch changes.

    One thread at a time, as both belong to the process: two threads that save and
    restore at the same time would keep each other's changes.
    """
    with _PROCESS.alone, warnings.catch_warnings():
        before = _torch_variables()
        try:
            yield
        finally:
            for name in _torch_variables().keys() - before.keys():
                del os.environ[name]
            os.environ.update(before)


def _torch_variables() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("TORCH", "PYTORCH"))
    }
