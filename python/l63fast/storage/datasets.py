"""netCDF-4 files through xarray: self-describing, chunked by trajectories."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks
from l63fast.errors import DataFileError, ResultError
from l63fast.storage.files import open_regular, writing_errors

if TYPE_CHECKING:
    import xarray

__all__ = ["read_dataset", "write_dataset", "write_dataset_alone"]

_CHUNK_BYTES: Final = 2**22


def write_dataset(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a dataset as netCDF-4; variables are chunked along their first axis.

    Write it inside `result_directory`, which makes it appear as a whole.

    Raises
    ------
    ResultError
        If the system refuses (disk full, read-only, quota).
    """
    target = _checks.path("path", path)
    encoding = {name: _encoding(dataset[name]) for name in dataset.variables}
    with writing_errors("write the data set", target):
        try:
            dataset.to_netcdf(
                target, format="NETCDF4", engine="netcdf4", encoding=encoding
            )
        except RuntimeError as error:  # how the netCDF library reports a full disk
            raise ResultError(
                f"{target}: cannot write the data set: {error}"
            ) from error


def write_dataset_alone(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a dataset as a file outside result folders, as a whole or not at all.

    Raises
    ------
    ResultError
        If the system refuses; an old file of that name is then still there.
    """
    target = Path(_checks.path("path", path))
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        write_dataset(dataset, temporary)
        with writing_errors("write the data set", target):
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _encoding(variable: Any) -> dict[str, Any]:
    if variable.dtype.kind not in "fiu" or variable.size == 0:
        return {}
    encoding: dict[str, Any] = {"_FillValue": None}
    if variable.ndim > 1:
        row_bytes = max(variable.nbytes // variable.shape[0], 1)
        rows = min(max(_CHUNK_BYTES // row_bytes, 1), variable.shape[0])
        encoding["chunksizes"] = (rows, *variable.shape[1:])
    return encoding


def read_dataset(path: str | os.PathLike[str]) -> xarray.Dataset:
    """Return a netCDF-4 file as a dataset in memory; the file is closed again.

    Raises
    ------
    DataFileError
        If it is missing, damaged, or not a regular netCDF file.
    """
    import xarray as xr

    target = Path(_checks.path("path", path))
    open_regular(target).close()
    try:
        with xr.open_dataset(target, engine="netcdf4", decode_times=False) as dataset:
            return dataset.load()
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise DataFileError(f"{target}: is not readable as netCDF: {error}") from error
