"""Progress of a long call: a line that is updated, or a function that gets lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from shutil import get_terminal_size
from typing import Any, Final

from l63fast.errors import ArgumentTypeError

VARIABLE: Final = "L63FAST_PROGRESS"
Say = Callable[[str], None]
Progress = bool | Say
_LIVE, _LOG = 0.1, 10.0  # seconds between lines, in a terminal and in a file


def is_live(stream: Any) -> bool:
    """Return whether a line may be updated in place on a stream.

    L63FAST_PROGRESS=0 (or off, no, false) switches this off.
    """
    off = os.environ.get(VARIABLE, "").lower() in ("0", "off", "no", "false")
    is_notebook = type(stream).__module__.startswith("ipykernel")
    return not off and (is_notebook or bool(stream.isatty()))


@contextmanager
def shown(progress: Progress) -> Iterator[Say]:
    """Return a context with a function that shows one line about the progress.

    Parameters
    ----------
    progress : bool or callable
        True writes to standard error: over the last line in a terminal or a notebook,
        elsewhere a line every ten seconds. A callable is given every line.

    Raises
    ------
    ArgumentTypeError
        If `progress` is neither a bool nor callable.
    """
    if callable(progress):
        yield progress
    elif not isinstance(progress, bool):
        raise ArgumentTypeError(
            "progress: expected True, False or a function that takes a line, got "
            f"{progress!r}"
        )
    elif not progress:
        yield lambda line: None
    else:
        writer = _Writer()
        try:
            yield writer
        finally:
            writer.end()


class _Writer:
    """Writes lines to standard error; an error in writing is ignored."""

    def __init__(self) -> None:
        self._stream: Any = sys.stderr
        self._next, self._width, self._waiting = 0.0, 0, ""

    def __call__(self, line: str) -> None:
        self._waiting = line
        if time.monotonic() >= self._next:
            self._write()

    def end(self) -> None:
        """Write the last line, if it was not written yet, and end it."""
        if self._waiting:
            self._write()
        if self._width:
            self._put("\n")

    def _write(self) -> None:
        line, self._waiting = self._waiting, ""
        live = self._put("") and is_live(self._stream)
        self._next = time.monotonic() + (_LIVE if live else _LOG)
        if not live:
            self._put(f"{line}\n")
            return
        line = line[
            : get_terminal_size().columns - 1
        ]  # a wrapped line cannot be updated
        self._put(f"\r{line:{self._width}s}")
        self._width = len(line)

    def _put(self, text: str) -> bool:
        """Write a text; return False if that failed, as on a closed stream."""
        with suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
            self._stream.flush()
            return True
        return False


def describe_epoch(row: Mapping[str, Any], n_epochs: int) -> str:
    """Return one line about an epoch."""
    return (
        f"epoch {int(row['epoch']):3d}/{n_epochs}  training {row['train_loss']:.4f}  "
        f"validation {row['val_loss']:.4f}"
    )
