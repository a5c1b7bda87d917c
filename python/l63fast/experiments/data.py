"""Finds a twin experiment on disk, or makes it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l63fast import _checks
from l63fast.errors import ConfigurationError
from l63fast.experiments.settings_file import differences, to_table
from l63fast.storage import MANIFEST
from l63fast.twin import TwinExperiment, TwinSettings

__all__ = ["find_data", "make_data", "open_or_make", "refuse_other_settings"]


def find_data(path: str | Path) -> TwinExperiment | None:
    """Return the twin experiment in a folder, None if there is no such folder.

    Raises
    ------
    DataFileError
        If the folder holds something else, or is damaged.
    """
    folder = _checks.path("data", path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    return TwinExperiment.load(folder)


def make_data(settings: TwinSettings, path: str | Path) -> TwinExperiment:
    """Simulate a twin experiment and write it to a folder."""
    twin = TwinExperiment.generate(settings)
    twin.save(path)
    return twin


def open_or_make(
    settings: TwinSettings, path: Path, *, overwrite: bool = False
) -> TwinExperiment:
    """Return the data of these settings in a folder of ours, simulated if need be.

    Raises
    ------
    ConfigurationError
        If it holds data of other settings, which results may be of, and they are not
        to be replaced.
    """
    if not (path / MANIFEST).exists():
        return make_data(settings, path)
    twin = TwinExperiment.load(path)
    found = differences(to_table(twin.settings), to_table(settings))
    if found and overwrite:
        return make_data(settings, path)
    if found:
        raise ConfigurationError(
            f"{path}: holds data of other settings ({', '.join(found)}): give this "
            "experiment another --name or --results, or replace them with --overwrite"
        )
    return twin


def refuse_other_settings(
    twin: TwinExperiment, asked: Mapping[str, Any], path: str | Path
) -> None:
    """Refuse data that were made with other settings than those asked for.

    Raises
    ------
    ConfigurationError
        Naming every difference.
    """
    have = dataclasses.asdict(twin.settings)
    found = differences(have, asked)
    if found:
        raise ConfigurationError(
            f"{path}: these data are not those asked for: {', '.join(found)}; "
            "simulate them again, or choose another folder with --data"
        )
