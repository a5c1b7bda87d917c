"""Data of experiments on disk: twin experiments, and ensembles in shards."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from l63fast import _checks, storage
from l63fast.errors import (
    ArgumentValueError,
    ConfigurationError,
    DataFileError,
    L63Error,
    ResultError,
)
from l63fast.experiments.settings_file import differences, to_table
from l63fast.experiments.tasks import (
    Done,
    Progress,
    Scheduler,
    executor,
    require_seen,
    run_tasks,
)
from l63fast.observation import as_operator
from l63fast.storage import checked_target
from l63fast.twin import SPLIT_NAMES, TwinExperiment, TwinSettings
from l63fast.twin.shards import INDEX, KIND, ShardSettings, read_index, write_shard


@dataclass(frozen=True)
class SavedSettings(TwinSettings):
    """Settings of a twin experiment that the user has saved in a folder.

    Attributes
    ----------
    path : str
        The folder, which is never written to. Results do not depend on it.
    sha256 : str
        Hash of the hashes of the splits. It identifies the data in any folder.
    """

    path: str = field(default="", compare=False)
    sha256: str = ""


def saved_settings(path: str | Path) -> SavedSettings:
    """Return the settings and the hash of the twin experiment in a folder.

    Raises
    ------
    DataFileError
        If the folder is missing, is damaged, or holds no twin experiment.
    ConfigurationError
        If its observation operator is the user's own.
    """
    try:
        twin = TwinExperiment.load(_checks.path("data.path", path))
    except ArgumentValueError:
        raise ConfigurationError(
            f"data.path: expected data of a named operator, such as xy, got {path}, "
            "whose operator is your own; use l63fast.compare for these data"
        ) from None
    names = (f.name for f in dataclasses.fields(TwinSettings))
    known = {name: getattr(twin.settings, name) for name in names}
    return SavedSettings(**known, path=str(path), sha256=_identity(twin))


def _identity(twin: TwinExperiment) -> str:
    """Return one sha256 for all splits."""
    content = "".join(twin.hashes[name] for name in SPLIT_NAMES)
    return hashlib.sha256(content.encode()).hexdigest()


def find_data(path: str | Path, settings: TwinSettings) -> TwinExperiment | None:
    """Return the twin experiment in a folder; None if the folder is missing or empty.

    If the settings name an operator of the user's own, it is imported.

    Raises
    ------
    DataFileError
        If the folder holds other files, or is damaged.
    """
    folder = _checks.path("data", path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return _loaded(folder, settings)


def _loaded(path: Path, settings: TwinSettings) -> TwinExperiment:
    operator = as_operator(settings.operator).imported()
    return TwinExperiment.load(path, operator=operator if operator.is_own else None)


def open_data(path: Path, settings: TwinSettings) -> TwinExperiment:
    """Return the twin experiment in a folder.

    If the settings name an operator of the user's own, it is imported.

    Raises
    ------
    DataFileError
        If the data are missing or damaged, or do not have the hash of the settings.
    """
    twin = _loaded(path, settings)
    if isinstance(settings, SavedSettings) and _identity(twin) != settings.sha256:
        raise DataFileError(
            f"{path}: expected the data with sha256 {settings.sha256}, which the "
            f"experiment was made for, got {_identity(twin)}"
        )
    return twin


def open_or_make(
    settings: TwinSettings, path: Path, *, overwrite: bool = False
) -> TwinExperiment:
    """Return the data with these settings in a folder; simulate them if needed.

    Data that the user has saved are verified file by file first.

    Parameters
    ----------
    settings : TwinSettings
    path : Path
    overwrite : bool
        Replace data of other settings.

    Raises
    ------
    DataFileError
        If saved data are damaged, or have another hash.
    ConfigurationError
        If the folder holds data of other settings and `overwrite` is false: results
        may depend on them.
    """
    if isinstance(settings, SavedSettings):
        storage.verify_directory(path)
        return open_data(path, settings)
    settings = dataclasses.replace(
        settings, operator=as_operator(settings.operator).imported()
    )
    if (path / storage.MANIFEST).exists():
        try:
            twin = open_data(path, settings)
            have = to_table(twin.settings)
            differing = differences(have, dict.fromkeys(have) | to_table(settings))
        except ArgumentValueError as error:  # they have another operator
            differing = [str(error)]
        if not differing:
            return twin
        if not overwrite:
            raise ConfigurationError(
                f"{path}: holds data of other settings ({', '.join(differing)}): give "
                "this experiment another --name or --results, or replace the data with "
                "--overwrite"
            )
    twin = TwinExperiment.generate(settings)
    twin.save(path)
    return twin


def refuse_other_settings(
    twin: TwinExperiment, asked: Mapping[str, Any], path: str | Path
) -> None:
    """Raise an error if data have other settings than those that are expected.

    Raises
    ------
    ConfigurationError
        The message names every difference.
    """
    known = {"path": asked.get("path"), "sha256": _identity(twin)}
    differing = differences(to_table(twin.settings) | known, asked)
    if differing:
        raise ConfigurationError(
            f"{path}: holds data of other settings ({', '.join(differing)}): simulate "
            "them again, or choose another folder with --data"
        )


def make_shards(
    settings: ShardSettings,
    path: str | os.PathLike[str],
    *,
    n_workers: int = 1,
    scheduler: Scheduler | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write an ensemble in shards; the folder appears when all shards are finished.

    The finished shards of a stopped run are kept next to the folder, for `resume`.

    Parameters
    ----------
    settings : ShardSettings
    path : path
        The folder; an old ensemble in it is replaced as a whole.
    n_workers, scheduler
        As in `run_cells`; the files do not depend on them.
    resume : bool
        Keep the shards of an earlier run, finished or stopped, whose hash is right.
    progress : Progress, optional
        Receives a message about each shard.

    Raises
    ------
    ConfigurationError
        If `resume` is true and the shards there have other settings.
    ResultError, LockedError
        If the folder cannot be written, the disk is too small, or a shard failed.
    """
    target = checked_target(path)
    if _checks.boolean("resume", resume):
        _refuse_other_shards(settings, target)
    storage.require_space(target, settings.n_bytes)
    progress = progress or Progress()
    with (
        executor(n_workers, scheduler, progress.say) as pool,
        storage.result_directory(target, kind=KIND) as working,
    ):
        made = storage.partial_directory(target, resume=resume)
        if resume:
            _refuse_other_shards(settings, made)
        storage.write_json(made / INDEX, settings.to_dict())
        storage.sweep_parts(made, settings.names)
        n_threads = None if n_workers == 1 and scheduler is None else 1
        task = partial(_make_shard, settings, made, target if resume else None)
        tasks = {
            name: partial(task, shard, n_threads)
            for shard, name in enumerate(settings.names)
        }
        failures = run_tasks(pool, tasks, progress)
        if failures:
            raise ResultError(
                f"{target}: {len(failures)} of {settings.n_shards} shards failed: "
                f"{', '.join(failures)} (the first: {next(iter(failures.values()))}); "
                "the others are kept, and --resume makes only those that failed"
            )
        for name in (*settings.names, INDEX):
            storage.move_part(made, name, working)


def _refuse_other_shards(settings: ShardSettings, directory: Path) -> None:
    """Raise an error if a folder holds shards of other settings."""
    if not (directory / INDEX).exists():
        return
    have = read_index(directory)
    differing = differences(have, dict.fromkeys(have) | settings.to_dict())
    if differing:
        raise ConfigurationError(
            f"{directory}: holds shards of other settings ({', '.join(differing)}): "
            "choose another folder, or start again without --resume"
        )


def _make_shard(
    settings: ShardSettings,
    made: Path,
    finished: Path | None,
    shard: int,
    n_threads: int | None,
) -> Done:
    """Make one shard, or keep a finished one; return one line about it."""
    require_seen(made)
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
    size = f"{record.size / 1e6:.1f} MB"
    return Done(f"{n} trajectories, {size}, {seconds:.1f} s{damage}", seconds)


def _is_kept(name: str, made: Path, finished: Path | None) -> bool:
    """Return whether an earlier run has made this shard and it is undamaged.

    Raises
    ------
    DataFileError
        If it exists and is damaged.
    """
    if storage.finished_part(made, name) is not None:
        return True
    if finished is None:
        return False
    try:
        manifest = storage.read_manifest(finished)
    except L63Error:  # there is no finished ensemble
        return False
    if name not in manifest.files:
        return False
    storage.verify_file(finished, name, manifest)
    storage.adopt_part(finished / name, made, manifest.files[name])
    return True
