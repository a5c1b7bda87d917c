"""Shows how training gets on: a bar on a terminal, a plain line per epoch elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO

__all__ = ["VARIABLE", "describe_epoch", "progress"]

VARIABLE: Final = "L63FAST_PROGRESS"

Report = Callable[[Mapping[str, Any]], None]


def describe_epoch(record: Mapping[str, Any], n_epochs: int) -> str:
    """Return the record of an epoch as one line."""
    return (
        f"epoch {record['epoch']:{len(str(n_epochs))}d}/{n_epochs}  "
        f"loss {record['train_loss']:.4f}  val {record['val_loss']:.4f}  "
        f"rmse {record['val_rmse']:.4f}"
    )


@contextmanager
def progress(
    label: str, n_epochs: int, *, stream: TextIO | None = None
) -> Iterator[Report]:
    """Give a callable that shows the record of each epoch.

    Parameters
    ----------
    label : str
        What is being trained.
    n_epochs : int
        The largest number of epochs.
    stream : text file, optional
        Where to show it; by default standard error. Nothing is shown if the
        environment variable L63FAST_PROGRESS is 0.
    """
    stream = sys.stderr if stream is None else stream
    if os.environ.get(VARIABLE) == "0":
        yield lambda record: None
    elif stream.isatty():
        with _bar(label, n_epochs, stream) as report:
            yield report
    else:
        yield lambda record: print(
            f"{label}  {describe_epoch(record, n_epochs)}", file=stream, flush=True
        )


@contextmanager
def _bar(label: str, n_epochs: int, stream: TextIO) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[label]}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task("starting", total=n_epochs, label=label)
        yield lambda record: bar.update(
            task,
            completed=record["epoch"],
            description=describe_epoch(record, n_epochs),
        )
