"""netCDF-4 files through xarray: self-describing, chunked by trajectories."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks
from l63fast.errors import DataFileError, ResultError
from l63fast.storage.files import open_regular, writing_errors

if TYPE_CHECKING:
    import xarray

__all__ = [
    "read_dataset",
    "write_dataset",
    "write_dataset_alone",
    "write_dataset_in_blocks",
]

_CHUNK_BYTES: Final = 2**22
_CACHE_BYTES: Final = 2**20


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
    with _created(target) as file:
        _dump(dataset, file, encoding)


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


def write_dataset_in_blocks(
    blocks: Iterable[xarray.Dataset], path: str | os.PathLike[str], *, along: str
) -> None:
    """Write a dataset larger than memory as netCDF-4, one block after the other.

    Parameters
    ----------
    blocks : iterable of Dataset
        Alike but for their length along one dimension, of which the first is longest.
    path : path
    along : str
        That dimension, the first of every variable that has it.

    Raises
    ------
    ResultError
        If the system refuses (disk full, read-only, quota).
    """
    target = _checks.path("path", path)
    waiting = iter(blocks)
    with _created(target) as file:
        block = next(waiting)
        _begin_blocks(block, file, along)
        written = block.sizes[along]
        del block  # while the next is made
        for variable in file.variables.values():
            # Chunks are written whole: keeping them would only take memory.
            variable.set_var_chunk_cache(_CACHE_BYTES)
        for block in waiting:
            end = written + block.sizes[along]
            for name, content in block.variables.items():
                if along in content.dims:
                    file[str(name)][written:end] = content.to_numpy()
            written = end
            del block, content


@contextmanager
def _created(target: Path) -> Iterator[Any]:
    """Give a new netCDF file to fill; it is closed if all of it could be written.

    Otherwise it is never closed: where closing fails, the netCDF library reports what
    is still open to standard output, and ends the process doing so.
    """
    import netCDF4

    with writing_errors("write the data set", target):
        open(target, "wb").close()  # netCDF answers any failure "permission denied"
        try:
            file = netCDF4.Dataset(target, "w", format="NETCDF4")
            try:
                yield file
                file.sync()
            except BaseException:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
                raise
            file.close()
        except (RuntimeError, PermissionError) as error:
            raise ResultError(
                f"{target}: cannot write the data set ({error}): is the disk full, or "
                "a quota or a limit on the size of files reached?"
            ) from error


def _dump(dataset: xarray.Dataset, file: Any, encoding: Any, **how: Any) -> None:
    from xarray import backends

    store: Any = backends.NetCDF4DataStore
    dataset.dump_to_store(store(file), encoding=encoding, **how)


def _begin_blocks(first: xarray.Dataset, file: Any, along: str) -> None:
    encoding: dict[Any, Any] = {name: {} for name in first.variables}
    for name, variable in first.variables.items():
        if variable.dtype.kind in "fiu":
            encoding[name]["_FillValue"] = None
        if along in variable.dims:  # a block is a chunk: it is written once
            encoding[name]["chunksizes"] = variable.shape
    _dump(first, file, encoding, unlimited_dims=[along])


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
    how: dict[str, Any] = {"engine": "netcdf4", "decode_times": False}
    try:
        # xarray adds a filter of its own to those of the process.
        with warnings.catch_warnings(), xr.open_dataset(target, **how) as dataset:
            return dataset.load()
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise DataFileError(f"{target}: is not readable as netCDF: {error}") from error
