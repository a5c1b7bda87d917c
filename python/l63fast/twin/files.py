"""A twin experiment on disk: one self-describing netCDF file per split, an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from l63fast import _checks, storage
from l63fast.errors import DataFileError, L63Error
from l63fast.observation import ObservationOperator
from l63fast.twin.alignment import misalignment
from l63fast.twin.metadata import SCHEMA, split_dataset
from l63fast.twin.own_data import SLACK, observation_covariance
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings
from l63fast.twin.split import Split, make_split

__all__ = [
    "FROM_ARRAYS",
    "GENERATED",
    "INDEX",
    "KIND",
    "UNCHECKED",
    "file_of",
    "open_split",
    "parse_index",
    "read_index",
    "write_index",
    "write_split",
]

KIND: Final = "twin"
INDEX: Final = "experiment.json"
GENERATED: Final = "generated"
FROM_ARRAYS: Final = "from arrays"
UNCHECKED: Final = "from arrays, whose alignment was not checked"
# Factor allowed on the variance of innovations; None: they are not looked at.
_SLACK: Final = {GENERATED: 1.0, FROM_ARRAYS: SLACK, UNCHECKED: None}


def file_of(split: str) -> str:
    """Return the name of the file of a split."""
    return f"{split}.nc"


def write_split(
    directory: Path, split: Split, settings: TwinSettings, R: np.ndarray, origin: str
) -> None:
    """Write a split as netCDF-4, with metadata that explain it in `ncdump -h`."""
    dataset = split_dataset(split, settings, R, origin)
    storage.write_dataset(dataset, directory / file_of(split.name))


def write_index(
    directory: Path,
    settings: TwinSettings,
    R: np.ndarray,
    origin: str,
    hashes: dict[str, str],
) -> None:
    """Write settings and hashes, which are known without opening a split."""
    content = {
        "schema": SCHEMA,
        "settings": settings.to_dict(),
        "R": R,
        "origin": origin,
        "hashes": hashes,
    }
    storage.write_json(directory / INDEX, content)


def read_index(directory: Path) -> tuple[dict[str, Any], storage.Manifest]:
    """Return the index and the manifest of a directory; no split is opened.

    Raises
    ------
    DataFileError
        If it is missing, damaged, of another schema, or no twin experiment.
    """
    manifest = storage.read_manifest(directory)
    if manifest.kind != KIND:
        raise DataFileError(
            f"{directory}: expected a twin experiment, got a {manifest.kind!r}"
        )
    path = directory / INDEX
    content = storage.parse_json(storage.read_bytes(directory, INDEX), path)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise DataFileError(f"{path}: expected schema {SCHEMA}, got {schema!r}")
    for key in ("settings", "R", "origin", "hashes"):
        if key not in content:
            raise DataFileError(f"{path}: has no {key!r}")
    hashes = content["hashes"]
    if not isinstance(hashes, dict) or set(hashes) != set(SPLIT_NAMES):
        raise DataFileError(f"{path}: expected one hash for each split")
    return content, manifest


def parse_index(
    directory: Path, content: dict[str, Any]
) -> tuple[TwinSettings, np.ndarray, str]:
    """Return settings, R and origin from an index, validated like any argument."""
    try:
        settings = TwinSettings.from_dict(content["settings"])
        R = observation_covariance(content["R"], settings)
        return settings, R, _checks.choice("origin", content["origin"], _SLACK)
    except L63Error as error:
        raise DataFileError(f"{directory / INDEX}: {error}") from error


def open_split(
    directory: Path,
    manifest: storage.Manifest,
    name: str,
    *,
    settings: TwinSettings,
    R: np.ndarray,
    origin: str,
    expected_hash: str,
) -> Split:
    """Return a split: its file, its hash and its alignment checked.

    Raises
    ------
    DataFileError
        If the file is missing or damaged, is not the data of its hash, or holds
        observations that do not belong to its truth.
    """
    path = directory / file_of(name)
    storage.verify_file(directory, file_of(name), manifest)
    dataset = storage.read_dataset(path)
    if dataset.attrs.get("schema") != SCHEMA or dataset.attrs.get("split") != name:
        raise DataFileError(f"{path}: is not the {name} split of a twin experiment")
    operator = ObservationOperator(settings.operator)
    n = settings.n_trajectories(name)
    shapes = {
        "truth": (n, settings.n_saved, 3),
        "observation": (n, settings.n_obs, operator.obs_dim),
    }
    try:
        arrays = [
            _checks.array(variable, dataset[variable].to_numpy(), shape=shape)
            for variable, shape in shapes.items()
        ]
        _checks.finite("truth", arrays[0])
    except (KeyError, L63Error) as error:
        raise DataFileError(f"{path}: is not what its settings say: {error}") from error
    split = make_split(name, arrays[0], arrays[1], settings, R)
    slack = _SLACK[origin]
    problem = slack and misalignment(split, operator, R, slack=slack)
    if problem is not None:
        raise DataFileError(
            f"{path}: observations do not belong to the truth: {problem}"
        )
    if split.hash != expected_hash:
        raise DataFileError(
            f"{path}: expected data of sha256 {expected_hash}, got {split.hash}"
        )
    return split
