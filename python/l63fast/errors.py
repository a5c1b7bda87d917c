"""All exceptions and warnings of the package; each is also a builtin exception."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "BackendError",
    "BackendWarning",
    "ClusterError",
    "ConfigurationError",
    "DataFileError",
    "DivergenceError",
    "L63Error",
    "L63Warning",
    "LargeTimeStepWarning",
    "LockedError",
    "MemoryLimitError",
    "MissingNameError",
    "MissingPackageError",
    "ModelFileError",
    "ModelWarning",
    "ResultError",
    "TrainingDiverged",
]


# Controls but for tab and newline, and what turns the direction of a line or is unseen.
_UNPRINTABLE: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: object) -> str:
    """Return foreign text as it may be shown: what commands a terminal, escaped."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(text))


def all_printable(content: Any) -> Any:
    """Return plain values, as of JSON and TOML, with all text in them `printable`."""
    if isinstance(content, dict):
        return {printable(k): all_printable(v) for k, v in content.items()}
    if isinstance(content, list):
        return [all_printable(value) for value in content]
    return printable(content) if isinstance(content, str) else content


class L63Error(Exception):
    """Base class of all errors of l63fast."""

    def __str__(self) -> str:
        """Return what it says; paths and content in it are somebody else's text."""
        return printable(super().__str__())


class ArgumentValueError(L63Error, ValueError):
    """An argument has the right type but not a valid value."""


class ArgumentTypeError(L63Error, TypeError):
    """An argument has the wrong type, or an array the wrong dtype."""


class MemoryLimitError(L63Error, MemoryError):
    """A call needs more memory than is free; it has not started."""


class BackendError(L63Error, RuntimeError):
    """A backend or instruction set is not available here, or computes wrong bits."""


class MissingPackageError(L63Error, ModuleNotFoundError):
    """An optional package is not installed; the message says which extra brings it."""


class MissingNameError(L63Error, AttributeError):
    """A name of l63fast needs a package that is not installed; hasattr() is False."""


class ConfigurationError(ArgumentValueError):
    """A configuration file or a combination of settings is not valid."""


class ClusterError(L63Error, ConnectionError):
    """A dask cluster does not answer, or a task was lost with its worker."""


class DataFileError(L63Error, OSError):
    """A data file is missing, damaged, or differs from its manifest."""


class ModelFileError(DataFileError):
    """A model file is damaged, belongs to another architecture, or is not trusted."""


class ResultError(L63Error, OSError):
    """A result directory cannot be written or replaced; old content is unchanged."""


class LockedError(ResultError):
    """Another process is writing to the same result directory.

    Attributes
    ----------
    pid : int or None
        Id of that process, if it could be read.
    since : str or None
        When that process started writing (ISO 8601, UTC).
    """

    def __init__(self, message: str, pid: int | None = None, since: str | None = None):
        super().__init__(message)
        self.pid = pid
        self.since = since


class DivergenceError(L63Error, ArithmeticError):
    """Some members left the range of floating-point numbers.

    Attributes
    ----------
    members : (n_non_finite,) int64
        Flat indices of the members with a non-finite state.
    step : int
        First step after which a member was non-finite.
    time : float
        The time of that step since the initial state (time units).
    """

    def __init__(self, message: str, members: np.ndarray, step: int, time: float):
        super().__init__(message)
        self.members = members
        self.step = step
        self.time = time

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Pickle with all attributes, so that a worker process can send the error."""
        return type(self), (str(self), self.members, self.step, self.time)


class TrainingDiverged(L63Error, ArithmeticError):
    """The training loss became NaN or infinite.

    Attributes
    ----------
    epoch, step : int
        Epoch and step at which this happened.
    checkpoint : str or None
        The last checkpoint with a finite loss.
    """

    def __init__(self, message: str, epoch: int, step: int, checkpoint: str | None):
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.checkpoint = checkpoint

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Pickle with all attributes, so that a worker process can send the error."""
        return type(self), (str(self), self.epoch, self.step, self.checkpoint)


class L63Warning(UserWarning):
    """Base class of all warnings of l63fast."""

    def __str__(self) -> str:
        """Return what it says, as of an error."""
        return printable(super().__str__())


class BackendWarning(L63Warning):
    """The C++ extension is missing, or an environment variable has an invalid value."""


class ModelWarning(L63Warning):
    """The truth of own data does not follow the model."""


class LargeTimeStepWarning(L63Warning):
    """The time step is so large that RK4 is visibly wrong."""
