"""Where a command's tasks run: what `--workers`, `--scheduler` and the others mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from l63fast.cli.declare import Given, Option
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.tasks import Scheduler

__all__ = ["WHERE", "describe_where", "where"]

_PANEL: Final = "Where it runs"

WHERE: Final = (
    Option(
        "workers",
        int,
        "Processes on this machine; one per core by default, where dask is installed.",
        minimum=1,
        panel=_PANEL,
    ),
    Option(
        "scheduler",
        str,
        "Address of a dask cluster that does the work, such as tls://node7:8786.",
        panel=_PANEL,
    ),
    Option(
        "scheduler_file",
        Path,
        "File that `dask scheduler --scheduler-file` wrote, instead of the address.",
        panel=_PANEL,
    ),
    Option(
        "insecure",
        bool,
        "Allow a scheduler on another machine without TLS. Whoever reaches it can run "
        "programs as you.",
        False,
        panel=_PANEL,
    ),
)


def where(given: Given, n_tasks: int) -> tuple[int, Scheduler | None]:
    """Return the number of workers and the scheduler that were asked for.

    Raises
    ------
    ConfigurationError
        If both are asked for: a cluster has the workers that it has.
    """
    from l63fast.experiments.tasks import Scheduler, default_workers

    address, file = given["scheduler"], given["scheduler_file"]
    if address is None and file is None:
        if given["insecure"]:
            raise ConfigurationError("--insecure: expected with --scheduler")
        return given["workers"] or default_workers(n_tasks), None
    if address is not None and file is not None:
        raise ConfigurationError(
            "--scheduler and --scheduler_file: expected one of the two"
        )
    if given["workers"] is not None:
        raise ConfigurationError(
            "--workers: expected without --scheduler: a cluster has the workers that "
            "it has"
        )
    return 1, Scheduler(address, file, given["insecure"])


def describe_where(n_workers: int, scheduler: Scheduler | None) -> str:
    """Return in words where the tasks run."""
    if scheduler is not None:
        return f"the workers of {scheduler.address or scheduler.file}"
    return f"{n_workers} worker{'s' if n_workers > 1 else ''}"
