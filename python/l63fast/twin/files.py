"""A twin experiment on disk: a self-describing netCDF file per split, and an index."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from l63fast import _checks, storage
from l63fast.errors import DataFileError
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin.datasets import SCHEMA
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings, operator_of
from l63fast.twin.splits import (
    FROM_ARRAYS,
    GENERATED,
    SLACK,
    UNCHECKED,
    Split,
    check_values,
    make_split,
    misalignment,
    observation_covariance,
)

KIND: Final = "twin"
INDEX: Final = "experiment.json"
# Factor allowed on the variance of innovations; None: the innovations are not checked.
_SLACK: Final = {GENERATED: 1.0, FROM_ARRAYS: SLACK, UNCHECKED: None}


class Index(NamedTuple):
    """The facts of a twin experiment that are known without reading a split.

    Attributes
    ----------
    settings : TwinSettings
    R : (m, m)
        Covariance of the observation error.
    origin : str
        As in `TwinExperiment`.
    hashes : dict of str to str
        sha256 of each split.
    """

    settings: TwinSettings
    R: np.ndarray
    origin: str
    hashes: dict[str, str]


def write_splits(directory: Path, splits: list[Split], index: Index) -> None:
    """Write each split as a self-describing netCDF-4 file, and the index.

    The index holds settings and hashes, which are known without reading a split.
    """
    for split in splits:
        about = {name: getattr(index, name) for name in ("settings", "R", "origin")}
        dataset = replace(split, **about).to_xarray()
        storage.write_dataset(dataset, directory / f"{split.name}.nc")
    content = {
        "schema": SCHEMA,
        **index._asdict(),
        "settings": index.settings.to_dict(),
    }
    storage.write_json(directory / INDEX, content)


def read_index(
    directory: Path, operator: ObservationOperator | str | None = None
) -> tuple[Index, storage.Manifest]:
    """Return the validated index, and the manifest of a directory.

    Raises
    ------
    DataFileError
        If the directory is missing, damaged, has another schema, or holds no twin
        experiment.
    ArgumentValueError
        If the user's own operator is missing, or another operator is given.
    """
    inside = [str(path.parent) for path in sorted(directory.glob(f"data/*/{INDEX}"))]
    if inside and not (directory / storage.MANIFEST).exists():
        raise DataFileError(
            f"{directory}: expected a twin experiment, got the folder of an "
            f"experiment's results; its data are in {', '.join(inside)}"
        )
    return storage.read_unchanged(directory, partial(_index, directory, operator))


def _index(
    directory: Path, operator: ObservationOperator | str | None
) -> tuple[Index, storage.Manifest]:
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
    named = isinstance(content["settings"], dict) and "operator" in content["settings"]
    if named:  # a wrong operator is an error of the argument, not the file
        operator = operator_of(content["settings"], operator)
    with storage.content_errors(path):
        settings = TwinSettings.from_dict(
            content["settings"], operator if named else None
        )
        R = observation_covariance(content["R"], settings)
        origin = _checks.choice("origin", content["origin"], _SLACK)
    return Index(settings, R, origin, hashes), manifest


def open_split(
    directory: Path, manifest: storage.Manifest, index: Index, name: str
) -> Split:
    """Return a split, after checks of its file, its hash and its alignment.

    Raises
    ------
    DataFileError
        If the file is missing or damaged, its data do not have its hash, or its
        observations do not belong to its truth.
    """
    read = partial(_split, directory, manifest, index, name)
    return storage.read_unchanged(directory, read, manifest)


def _split(
    directory: Path, manifest: storage.Manifest, index: Index, name: str
) -> Split:
    path, settings = directory / f"{name}.nc", index.settings
    storage.verify_file(directory, path.name, manifest)
    dataset = storage.read_dataset(path)
    if [dataset.attrs.get(key) for key in ("schema", "split")] != [SCHEMA, name]:
        raise DataFileError(f"{path}: is not the {name} split of a twin experiment")
    operator = as_operator(settings.operator)
    n = settings.n_trajectories(name)
    shapes = {
        "truth": (n, settings.n_saved, 3),
        "observation": (n, settings.n_obs, operator.obs_dim),
    }
    with storage.content_errors(f"{path}: does not match its settings"):
        truth, observations = (
            _checks.array(variable, dataset[variable].to_numpy(), shape=shape)
            for variable, shape in shapes.items()
        )
        _checks.finite("truth", truth)
        check_values("observation", observations, missing=settings.missing > 0.0)
    split = make_split(name, truth, observations, settings, index.R, index.origin)
    slack = _SLACK[index.origin]
    problem = slack and misalignment(split, operator, index.R, slack=slack)
    if problem is not None:
        raise DataFileError(
            f"{path}: observations do not belong to the truth: {problem}"
        )
    if split.hash != index.hashes[name]:
        raise DataFileError(
            f"{path}: expected data of sha256 {index.hashes[name]}, got {split.hash}"
        )
    return split
