"""Ensembles larger than the memory: files (shards) written in blocks, read as one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks, storage
from l63fast._arithmetic import ieee_arithmetic
from l63fast.errors import ArgumentValueError, DataFileError
from l63fast.observation import as_operator, named_operator
from l63fast.twin.datasets import (
    common_attributes,
    package_version,
    trajectory_dataset,
)
from l63fast.twin.settings import TwinSettings
from l63fast.twin.splits import generated_part

if TYPE_CHECKING:
    import xarray

KIND: Final = "shards"
INDEX: Final = "shards.json"
MOST: Final = 100_000
_SPLIT: Final = "train"
_BLOCK_BYTES: Final = 2**22
_LEAST_ROWS: Final = 64  # with fewer rows lanes of the kernel's vectors are unused
_OVERHEAD: Final = 2**16  # bytes of a netCDF file without data


@dataclass(frozen=True)
class ShardSettings:
    """Settings of an ensemble that is written to several files, its shards.

    Its trajectories are those of the training split of a twin experiment with the same
    settings, whatever the size of that split.

    Attributes
    ----------
    data : TwinSettings
        `n_train` is the number of trajectories; `n_val` and `n_test` are ignored.
    n_shards : int
        Number of files with nearly equal numbers of trajectories, at least one each.
    """

    data: TwinSettings
    n_shards: int

    def __post_init__(self) -> None:
        _checks.instance("data", self.data, TwinSettings)
        named_operator(self.data.operator, "shards")
        n_shards = _checks.count("n_shards", self.n_shards, minimum=1)
        most = min(self.data.n_train, MOST)
        if n_shards > most:
            raise ArgumentValueError(
                f"n_shards: expected at most {most}, got {n_shards}"
            )
        object.__setattr__(self, "n_shards", n_shards)

    @property
    def names(self) -> list[str]:
        """File names of the shards, in the order of their trajectories."""
        return [f"part-{k:05d}.nc" for k in range(self.n_shards)]

    def trajectories(self, shard: int) -> range:
        """Return the indices of the trajectories of a shard."""
        n = self.data.n_train
        return range(shard * n // self.n_shards, (shard + 1) * n // self.n_shards)

    @property
    def row_bytes(self) -> int:
        """Bytes of a trajectory on disk."""
        obs_dim = as_operator(self.data.operator).obs_dim
        return 8 * (1 + self.data.n_saved * 3 + self.data.n_obs * obs_dim)

    @property
    def n_bytes(self) -> int:
        """Bytes of all shards on disk, rounded up."""
        rows = self.data.n_train + self.n_shards * _LEAST_ROWS
        return rows * self.row_bytes + self.n_shards * _OVERHEAD

    def to_dict(self) -> dict[str, Any]:
        """Return the settings and the package version; the data depend on both."""
        data = self.data.to_dict()
        del data["n_val"], data["n_test"]
        return {"version": package_version(), "n_shards": self.n_shards, **data}


@ieee_arithmetic()
def write_shard(
    settings: ShardSettings, shard: int, path: Path, n_threads: int | None = None
) -> None:
    """Write the trajectories of one shard, in blocks to limit the memory used."""
    storage.write_dataset_in_blocks(
        _blocks(settings, shard, n_threads), path, along="trajectory"
    )


def _blocks(
    settings: ShardSettings, shard: int, n_threads: int | None
) -> Iterator[xarray.Dataset]:
    members = settings.trajectories(shard)
    rows = max(_BLOCK_BYTES // settings.row_bytes, _LEAST_ROWS)
    n_blocks = -(-len(members) // rows)
    rows = -(
        -len(members) // n_blocks
    )  # blocks of equal size, so that no chunk is half empty
    attributes = {
        **common_attributes(settings.data),
        "title": "Lorenz-63 trajectories and observations of them",
        "history": "l63fast simulate --shards",
        "comment": "Trajectories are independent; they are those of the training "
        "split of a twin experiment of the same settings.",
        "shard": shard,
        "configuration": json.dumps(settings.to_dict(), sort_keys=True),
    }
    for first in range(members.start, members.stop, rows):
        n = min(rows, members.stop - first)
        index = np.arange(first, first + n, dtype=np.int64)
        # No variable holds the block: it must be freed before the next one is made.
        yield trajectory_dataset(
            *generated_part(settings.data, _SPLIT, n, first=first, n_threads=n_threads),
            index,
            settings.data,
            attributes,
        )


def read_index(directory: Path) -> dict[str, Any]:
    """Return the settings in the index of shards, also of unfinished ones.

    Raises
    ------
    DataFileError
        If there is no index, or it is damaged.
    """
    content = storage.read_json(directory / INDEX)
    if not isinstance(content, dict) or "n_shards" not in content:
        raise DataFileError(f"{directory / INDEX}: is not an index of shards")
    return content


def open_shards(
    path: str | os.PathLike[str], *, verify: bool = False
) -> xarray.Dataset:
    """Return shards as one dataset; data are read only when they are used.

    `xarray.open_mfdataset("FOLDER/part-*.nc")` also reads them, without any check.

    Parameters
    ----------
    path : path
        The folder of the shards.
    verify : bool
        Read every file once and check its hash; otherwise only sizes are checked.

    Raises
    ------
    DataFileError
        If a shard is missing or damaged, or the folder holds something else.
    MissingPackageError
        If dask, which reads the shards, is not installed.
    """
    find_spec("dask")  # which xarray uses; it is named here if it is not installed
    directory = _checks.path("path", path)
    return storage.read_unchanged(directory, partial(_opened, directory, verify))


def _opened(directory: Path, verify: bool) -> xarray.Dataset:
    import xarray as xr

    manifest = storage.read_manifest(directory)
    if manifest.kind != KIND:
        raise DataFileError(f"{directory}: expected shards, got a {manifest.kind!r}")
    names = sorted(name for name in manifest.files if name != INDEX)
    storage.verify_file(directory, INDEX, manifest)
    for name in names:
        storage.verify_file(directory, name, manifest, size_only=not verify)
        storage.check_dataset(directory / name, in_memory=False)
    with storage.content_errors(directory):
        return xr.open_mfdataset(
            [directory / name for name in names],
            combine="nested",
            concat_dim="trajectory",
            data_vars="minimal",
            coords="minimal",
            compat="override",
            join="override",
            combine_attrs="drop_conflicts",
            engine="netcdf4",
            decode_times=False,
        )
