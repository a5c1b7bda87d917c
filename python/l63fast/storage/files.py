"""Single files: only regular ones, written completely or not at all; JSON, netCDF-4."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import secrets
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from l63fast import _checks
from l63fast.errors import (
    ArgumentTypeError,
    BackendError,
    DataFileError,
    L63Error,
    MemoryLimitError,
    MissingPackageError,
    ResultError,
)

if TYPE_CHECKING:
    import xarray

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
BACKSLASH: Final = "expected a path without \\, which netCDF takes for /"
_BLOCK: Final = 2**20
_CHUNK_BYTES: Final = 2**22
_CACHE_BYTES: Final = 2**20
# Of the library and of xarray, for one or another kind of damage.
LARGEST_TEXT: Final = 2**26  # bytes of a manifest, of JSON or of TOML
_MOST_COMPRESSED: Final = 1032  # deflate, which netCDF uses, packs no tighter


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and sha256 (hexadecimal) of one file."""

    size: int
    sha256: str

    @classmethod
    def from_dict(cls, content: Any) -> FileRecord:
        """Return the record from plain values; fails if these are damaged."""
        return cls(int(content["size"]), str(content["sha256"]))


def kind_of(mode: int) -> str | None:
    """Return the kind of a special file, such as "a FIFO"; None for a regular file."""
    return next((name for test, name in _KINDS if test(mode)), None)


def writing_errors(action: str, path: object) -> AbstractContextManager[None]:
    """Turn an OSError while writing into a `ResultError` with its errno."""
    return _errors_as(ResultError, f"{path}: cannot {action}")


def reading_errors(path: object) -> AbstractContextManager[None]:
    """Turn an OSError while reading into a `DataFileError` with its errno."""
    return _errors_as(DataFileError, f"{path}: cannot be read")


@contextmanager
def _errors_as(kind: type[OSError], message: str) -> Iterator[None]:
    try:
        yield
    except L63Error:
        raise
    except OSError as error:
        refusal = kind(f"{message}: {error.strerror or error}")
        refusal.errno = error.errno
        raise refusal from error


@contextmanager
def content_errors(
    source: object, kind: type[DataFileError] = DataFileError
) -> Iterator[None]:
    """Turn whatever the content of a file makes fail into one error that names it.

    A hash that is right says that the bytes are those written, not that they make
    sense.
    """
    try:
        with reading_errors(source):
            yield
    except (DataFileError, ResultError, BackendError, MissingPackageError):
        raise
    except Exception as error:
        ours = isinstance(error, L63Error)
        said = str(error).removeprefix(f"{source}: ")
        said = said if ours else f"does not make sense: {type(error).__name__}: {said}"
        raise kind(f"{source}: {said}") from error


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> BinaryIO:
    """Return a regular file opened for reading; refuse everything else.

    A FIFO or a device is recognised before it is opened, so that nothing can block.
    """
    with reading_errors(path):
        if os.path.islink(path) and not os.path.exists(path):
            raise DataFileError(f"{path}: is a link to a file that is gone")
        _refuse_special(path, os.stat(path, follow_symlinks=follow).st_mode)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        flags |= 0 if follow else os.O_NOFOLLOW
        opened = os.fdopen(os.open(path, flags), "rb")
    try:
        # Again on the open file: the path may have been replaced in between.
        _refuse_special(path, os.fstat(opened.fileno()).st_mode)
    except L63Error:
        opened.close()
        raise
    return opened


def _refuse_special(path: object, mode: int) -> None:
    kind = kind_of(mode)
    if kind is not None:
        raise DataFileError(f"{path}: expected a file, got {kind}")


def read_file(path: str | os.PathLike[str], *, most: int | None = None) -> bytes:
    """Return the bytes of a regular file, `most` at most.

    Raises
    ------
    DataFileError
        If it is missing, unreadable, or a directory, FIFO, device or dangling link;
        if it is larger than `most` or than the memory there is, and nothing was read.
    """
    with open_regular(_checks.path("path", path)) as file:
        return contents(file, path, most=most)


def contents(file: BinaryIO, path: object, *, most: int | None = None) -> bytes:
    """Return the bytes of an opened file as in `read_file`."""
    with reading_errors(path):
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise DataFileError(f"{path}: expected at most {most} bytes, got {size}")
        refuse_large(path, size)
        return file.read()


def refuse_large(path: object, n_bytes: int) -> None:
    """Refuse to read more from a file than there is memory."""
    try:
        _checks.memory(str(path), n_bytes)
    except MemoryLimitError as error:
        raise DataFileError(str(error)) from None


def hash_file(path: str | os.PathLike[str], *, sync: bool = False) -> FileRecord:
    """Return size and sha256 of a regular file; with `sync`, write it to disk first."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path, follow=False) as file, reading_errors(path):
        if sync:
            with writing_errors("force the file to disk", path):
                os.fsync(file.fileno())
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return FileRecord(size, digest.hexdigest())


def fsync_directory(path: str | os.PathLike[str]) -> None:
    """Write the entries of a directory to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(target: Path, *, action: str = "write the file") -> Iterator[Path]:
    """Yield a temporary file to write to, which replaces `target` on success.

    After an exception it is removed, and an old file at `target` is unchanged. Several
    processes can write `target` at once; no one can know the name and put a link there.

    Parameters
    ----------
    target : Path
    action : str
        The action named in the error message.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with writing_errors(action, target):
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        with writing_errors(action, target):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            # Only after fsync: after a power cut the name must not stand for an empty
            # file.
            os.replace(temporary, target)
            fsync_directory(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file completely or not at all; after a failure the old file is unchanged.

    Raises
    ------
    ResultError
        If the system refuses (disk full, read-only, quota); `errno` says why.
    """
    with replacing(_checks.path("path", path)) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write JSON; arrays become lists, NaN and infinities "nan", "inf" and "-inf".

    JSON has no NaN, but a non-finite score must not be lost; `float("inf")` reads it.
    """
    text = json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, (np.ndarray, np.generic)):
        return _plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if content is None or isinstance(content, (bool, int, float, str)):
        return content
    if isinstance(content, Path):
        return str(content)
    raise ArgumentTypeError(
        f"content: expected JSON values, got {type(content).__name__}"
    )


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    DataFileError
        If the file is missing or is not valid JSON.
    """
    return parse_json(read_file(path, most=LARGEST_TEXT), path)


def parse_json(data: bytes, path: object) -> Any:
    """Return the content of JSON bytes; `path` is named in the error message."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{path}: is not valid JSON: {error}") from error


def write_dataset(dataset: xarray.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a dataset as netCDF-4; variables are chunked along their first axis.

    To be called inside `result_directory`: the file itself is not written atomically.

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
    """Write a dataset to a file outside result directories, completely or not at all.

    Raises
    ------
    ResultError
        If the system refuses; then an old file of that name is unchanged.
    """
    target = _checks.path("path", path)
    with replacing(target, action="write the data set") as temporary:
        write_dataset(dataset, temporary)


def write_dataset_in_blocks(
    blocks: Iterable[xarray.Dataset], path: str | os.PathLike[str], *, along: str
) -> None:
    """Write a dataset larger than memory as netCDF-4, one block after the other.

    Parameters
    ----------
    blocks : iterable of Dataset
        Equal except for their length along one dimension; the first block is longest.
    path : path
    along : str
        That dimension; the first dimension of every variable that has it.

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
        del block  # freed before the next one is made
        for variable in file.variables.values():
            # Chunks are written as a whole, so that a cache for them would only take
            # memory.
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
    """Yield a new netCDF file to fill; it is closed after success only.

    After an exception it is never closed: where closing fails, the netCDF library
    prints its open objects to standard output and ends the process.
    """
    import netCDF4

    with writing_errors("write the data set", target):
        if "\\" in str(target.absolute()):
            raise ResultError(f"{target}: {BACKSLASH}")
        open(target, "wb").close()  # netCDF reports any failure as "permission denied"
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


def _dump(dataset: xarray.Dataset, file: Any, encoding: Any, **options: Any) -> None:
    from xarray import backends

    store: Any = backends.NetCDF4DataStore
    dataset.dump_to_store(store(file), encoding=encoding, **options)


def _begin_blocks(first: xarray.Dataset, file: Any, along: str) -> None:
    encoding: dict[Any, Any] = {name: {} for name in first.variables}
    for name, variable in first.variables.items():
        if variable.dtype.kind in "fiu":
            encoding[name]["_FillValue"] = None
        if along in variable.dims:  # one chunk per block, so that each is written once
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
        If the file is missing, damaged, or not a regular netCDF file.
    """
    import xarray as xr

    # xarray changes the warning filters of the process.
    with _sound_store(_checks.path("path", path)) as store, warnings.catch_warnings():
        return xr.open_dataset(store, decode_times=False).load()


def check_dataset(path: Path, *, in_memory: bool = True) -> None:
    """Refuse a netCDF file that declares more than it can hold; no value is read.

    Parameters
    ----------
    path : Path
    in_memory : bool
        Refuse also what there is no memory for.

    Raises
    ------
    DataFileError
        As in `read_dataset`.
    """
    with _sound_store(path, in_memory=in_memory):
        pass


@contextmanager
def _sound_store(path: Path, *, in_memory: bool = True) -> Iterator[Any]:
    """Open a netCDF file for xarray if it can hold what it declares."""
    from xarray import backends

    find_spec("netCDF4")  # named here if it is not installed: xarray imports it
    open_store: Any = backends.NetCDF4DataStore.open
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
    if "\\" in str(path.absolute()):
        raise DataFileError(f"{path}: {BACKSLASH}")
    try:
        with closing(open_store(path)) as store:
            with warnings.catch_warnings(action="ignore"):  # they come when it is read
                variables = store.get_variables().values()
            declared = sum(
                math.prod(variable.shape) * (variable.dtype.itemsize or 1)
                for variable in variables
            )
            if declared > _MOST_COMPRESSED * size:
                raise DataFileError(
                    f"{path}: declares {declared} bytes of values, more than a file of "
                    f"{size} bytes can hold"
                )
            if in_memory:
                refuse_large(path, declared)
            yield store
    except L63Error:
        raise
    except Exception as error:  # netCDF, xarray and NumPy have many kinds
        raise DataFileError(f"{path}: is not readable as netCDF: {error}") from error
