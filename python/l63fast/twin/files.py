"""A twin experiment on disk: one self-describing netCDF file per split, an index."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from l63fast import _checks, storage
from l63fast.errors import DataFileError, L63Error
from l63fast.observation import ObservationOperator, as_operator
from l63fast.twin.settings import SPLIT_NAMES, TwinSettings, operator_of
from l63fast.twin.splits import (
    SLACK,
    Split,
    make_split,
    misalignment,
    observation_covariance,
)

if TYPE_CHECKING:
    import xarray

SCHEMA: Final = 1
KIND: Final = "twin"
INDEX: Final = "experiment.json"
GENERATED: Final = "generated"
FROM_ARRAYS: Final = "from arrays"
UNCHECKED: Final = "from arrays, whose alignment was not checked"
# Factor allowed on the variance of innovations; None: they are not looked at.
_SLACK: Final = {GENERATED: 1.0, FROM_ARRAYS: SLACK, UNCHECKED: None}
_SPLIT_TITLES: Final = {"train": "training", "val": "validation", "test": "test"}


class Index(NamedTuple):
    """What is known of a twin experiment without opening a split.

    Attributes
    ----------
    settings : TwinSettings
    R : (m, m)
    origin : str
    hashes : dict of str to str
        sha256 of each split.
    """

    settings: TwinSettings
    R: np.ndarray
    origin: str
    hashes: dict[str, str]


def write_splits(directory: Path, splits: list[Split], index: Index) -> None:
    """Write each split as netCDF-4 that explains itself in `ncdump -h`, and the index.

    The index holds settings and hashes, which are known without opening a split.
    """
    for split in splits:
        dataset = _split_dataset(split, index)
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
    """Return the index, validated like any argument, and the manifest of a directory.

    Raises
    ------
    DataFileError
        If it is missing, damaged, of another schema, or no twin experiment.
    ArgumentValueError
        If the operator is one of the user's own and is not given, or another one is.
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
    named = isinstance(content["settings"], dict) and "operator" in content["settings"]
    if named:  # what is missing or wrong is an argument, not the file
        operator = operator_of(content["settings"], operator)
    try:
        settings = TwinSettings.from_dict(
            content["settings"], operator if named else None
        )
        R = observation_covariance(content["R"], settings)
        origin = _checks.choice("origin", content["origin"], _SLACK)
    except L63Error as error:
        raise DataFileError(f"{path}: {error}") from error
    return Index(settings, R, origin, hashes), manifest


def open_split(
    directory: Path, manifest: storage.Manifest, index: Index, name: str
) -> Split:
    """Return a split: its file, its hash and its alignment checked.

    Raises
    ------
    DataFileError
        If the file is missing or damaged, is not the data of its hash, or holds
        observations that do not belong to its truth.
    """
    path, settings = directory / f"{name}.nc", index.settings
    storage.verify_file(directory, path.name, manifest)
    dataset = storage.read_dataset(path)
    if dataset.attrs.get("schema") != SCHEMA or dataset.attrs.get("split") != name:
        raise DataFileError(f"{path}: is not the {name} split of a twin experiment")
    operator = as_operator(settings.operator)
    n = settings.n_trajectories(name)
    shapes = {
        "truth": (n, settings.n_saved, 3),
        "observation": (n, settings.n_obs, operator.obs_dim),
    }
    try:
        truth, observations = (
            _checks.array(variable, dataset[variable].to_numpy(), shape=shape)
            for variable, shape in shapes.items()
        )
        _checks.finite("truth", truth)
    except (KeyError, L63Error) as error:
        raise DataFileError(f"{path}: is not what its settings say: {error}") from error
    split = make_split(name, truth, observations, settings, index.R)
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


def _split_dataset(split: Split, index: Index) -> xarray.Dataset:
    settings = index.settings
    attributes = {
        **common_attributes(settings),
        "title": f"Lorenz-63 twin experiment, {_SPLIT_TITLES[split.name]} split",
        "history": f"l63fast.TwinExperiment, {index.origin}",
        "comment": "Trajectories are independent; observation k belongs to the "
        "truth at model step observation_step[k]; splits share no random stream.",
        "split": split.name,
        "split_sha256": split.hash,
        "origin": index.origin,
        "configuration": json.dumps(settings.to_dict(), sort_keys=True),
    }
    trajectory = np.arange(split.n_trajectories, dtype=np.int64)
    dataset = trajectory_dataset(
        split.truth, split.observations, trajectory, settings, attributes
    )
    meaning = _names("covariance of the observation error")
    dataset["R"] = (("observed", "observed_too"), index.R, meaning)
    return dataset


def trajectory_dataset(
    truth: np.ndarray,
    observations: np.ndarray,
    trajectory: np.ndarray,
    settings: TwinSettings,
    attributes: dict[str, Any],
) -> xarray.Dataset:
    """Return trajectories as a dataset: data, coordinates and what they mean.

    Parameters
    ----------
    truth : (n, n_saved, 3)
    observations : (n, n_obs, m)
    trajectory : (n,) int64
        The index of each in its split.
    settings : TwinSettings
    attributes : dict
        Of the whole dataset.
    """
    import xarray as xr

    operator = as_operator(settings.operator)
    saved = np.arange(settings.n_saved, dtype=np.int64) * settings.save_every
    cycles = np.arange(1, settings.n_obs + 1, dtype=np.int64)
    steps = cycles * settings.steps_per_cycle
    return xr.Dataset(
        {
            "truth": (
                ("trajectory", "time", "component"),
                truth,
                _names("true state of Lorenz-63"),
            ),
            "observation": (
                ("trajectory", "observation_time", "observed"),
                observations,
                _names(f"observations y = h(truth) + N(0, R), h = {operator.name}"),
            ),
        },
        coords={
            "trajectory": ("trajectory", trajectory, _names("trajectory")),
            "time": ("time", saved * settings.dt, _names("non-dimensional time")),
            "observation_time": (
                "observation_time",
                steps * settings.dt,
                _names("non-dimensional time of the observations"),
            ),
            "observation_step": (
                "observation_time",
                steps,
                _names("model step of the observations"),
            ),
            "component": ("component", list("xyz"), {"long_name": "state component"}),
            "observed": (
                "observed",
                list(operator.labels),
                {"long_name": "observed quantity"},
            ),
        },
        attrs=attributes,
    )


def _names(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "1"}


def common_attributes(settings: TwinSettings) -> dict[str, Any]:
    """Return what every file of trajectories says about itself."""
    # No date here: times stand in timing.json, so that equal results are equal files.
    source = as_operator(settings.operator).source_hash
    return {
        "Conventions": "CF-1.11",
        "source": f"l63fast {package_version()}",
        "references": "Lorenz (1963), J. Atmos. Sci. 20, 130-141",
        "schema": SCHEMA,
        "operator": settings.operator_name,
        **({"operator_source_sha256": source} if source else {}),
        "sigma": settings.sigma,
        "dt": settings.dt,
        "steps_per_cycle": settings.steps_per_cycle,
        "seed": settings.seed,
    }


def package_version() -> str:
    """Return the version that writes."""
    try:
        return version("l63fast")
    except PackageNotFoundError:
        return "(not installed)"
