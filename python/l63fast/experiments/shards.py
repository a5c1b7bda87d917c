"""Makes an ensemble in shards on a pool: resumable, whatever the number of workers."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

from l63fast import storage
from l63fast.errors import ConfigurationError, DataFileError, L63Error, ResultError
from l63fast.experiments.executors import executor
from l63fast.experiments.settings_file import differences
from l63fast.experiments.tasks import Done, Progress, Scheduler, run_tasks
from l63fast.twin.shards import INDEX, KIND, ShardSettings, read_index, write_shard

__all__ = ["make_shards"]

_MEGABYTE: Final = 1e6


def make_shards(
    settings: ShardSettings,
    path: str | os.PathLike[str],
    *,
    n_workers: int = 1,
    scheduler: Scheduler | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write an ensemble in shards to a folder, which appears when all are there.

    What a stopped run has finished waits beside the folder for `resume`.

    Parameters
    ----------
    settings : ShardSettings
    path : path
        The folder; shards in it are replaced as a whole.
    n_workers, scheduler
        As in `run_experiment`; what is written does not depend on them.
    resume : bool
        Keep the shards of a stopped or a finished run whose hash is right.
    progress : Progress, optional
        Told of each shard.

    Raises
    ------
    ConfigurationError
        If shards of other settings would be resumed.
    ResultError, LockedError
        If the folder may not be written, the disk is too small, or a shard failed.
    """
    target = storage.checked_target(path)
    if resume:
        _refuse_other_settings(settings, target)
    storage.require_space(target, settings.n_bytes)
    pooled = executor(n_workers, scheduler)
    with pooled as pool, storage.result_directory(target, kind=KIND) as working:
        made = storage.partial_directory(target, resume=resume)
        if resume and (made / INDEX).exists():
            _compare(settings, made)
        storage.write_json(made / INDEX, settings.to_dict())
        storage.sweep_parts(made, settings.names)
        alone = n_workers == 1 and scheduler is None
        task = partial(
            _task, settings, made, target if resume else None, None if alone else 1
        )
        tasks = {name: partial(task, k) for k, name in enumerate(settings.names)}
        failures = run_tasks(pool, tasks, progress or Progress())
        if failures:
            raise ResultError(
                f"{target}: {len(failures)} of {settings.n_shards} shards failed; the "
                f"others are kept, --resume makes these: {', '.join(failures)} (the "
                f"first because: {next(iter(failures.values()))})"
            )
        for name in (*settings.names, INDEX):
            storage.move_part(made, name, working)


def _refuse_other_settings(settings: ShardSettings, target: Path) -> None:
    if (target / INDEX).exists():
        _compare(settings, target)


def _compare(settings: ShardSettings, directory: Path) -> None:
    found = differences(read_index(directory), settings.to_dict())
    if found:
        raise ConfigurationError(
            f"{directory}: holds shards of other settings ({', '.join(found)}): choose "
            "another folder, or start anew without --resume"
        )


def _task(
    settings: ShardSettings,
    made: Path,
    finished: Path | None,
    n_threads: int | None,
    shard: int,
) -> Done:
    """Make one shard, or keep it if it is there; return one line about it."""
    name, n = settings.names[shard], len(settings.trajectories(shard))
    damage = ""
    try:
        if _is_kept(name, made, finished):
            return Done(f"{n} trajectories, kept", None)
    except DataFileError as error:
        damage = f" ({error}; made again)"
    start = perf_counter()
    record = storage.publish_part(
        made, name, lambda path: write_shard(settings, shard, path, n_threads)
    )
    seconds = perf_counter() - start
    size = record.size / _MEGABYTE
    line = f"{n} trajectories, {size:.1f} MB, {seconds:.1f} s{damage}"
    return Done(line, seconds)


def _is_kept(name: str, made: Path, finished: Path | None) -> bool:
    """Whether a shard of an earlier run is there and whole.

    Raises
    ------
    DataFileError
        If it is there and damaged.
    """
    if storage.finished_part(made, name) is not None:
        return True
    if finished is None:
        return False
    try:
        manifest = storage.read_manifest(finished)
    except L63Error:  # nothing finished there
        return False
    if name not in manifest.files:
        return False
    storage.verify_file(finished, name, manifest)
    storage.adopt_part(finished / name, made, manifest.files[name])
    return True
