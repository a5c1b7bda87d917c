"""Every exception and warning of the package, each also the builtin it specialises."""

from __future__ import annotations

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
    "ModelFileError",
    "ResultError",
    "TrainingDiverged",
]


class L63Error(Exception):
    """Base of every error that l63fast raises on purpose."""


class ArgumentValueError(L63Error, ValueError):
    """An argument of the right type has a value that makes no sense."""


class ArgumentTypeError(L63Error, TypeError):
    """An argument has the wrong type, or an array the wrong dtype."""


class MemoryLimitError(L63Error, MemoryError):
    """A request needs more memory than the machine can give; nothing was started."""


class BackendError(L63Error, RuntimeError):
    """A backend or instruction set is not available here, or computes wrong bits."""


class ConfigurationError(ArgumentValueError):
    """A configuration file or a combination of settings is not valid."""


class ClusterError(L63Error, ConnectionError):
    """A dask cluster does not answer, or lost a task with its worker."""


class DataFileError(L63Error, OSError):
    """A data file is missing, damaged, or not what its manifest says."""


class ModelFileError(DataFileError):
    """A model file is damaged, of another architecture, or not trusted."""


class ResultError(L63Error, OSError):
    """A result directory cannot be written or replaced; what was there is untouched."""


class LockedError(ResultError):
    """Another process is writing the same result directory.

    Attributes
    ----------
    pid : int or None
        Its process id, if it could be read.
    since : str or None
        When it began (ISO 8601, UTC).
    """

    def __init__(self, message: str, pid: int | None = None, since: str | None = None):
        super().__init__(message)
        self.pid = pid
        self.since = since


class DivergenceError(L63Error, ArithmeticError):
    """Some members left the range of floating-point numbers.

    Attributes
    ----------
    members : (n_diverged,) int64
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
        """Survive the way back from a worker process, attributes included."""
        return type(self), (str(self), self.members, self.step, self.time)


class TrainingDiverged(L63Error, ArithmeticError):
    """The training loss became non-finite.

    Attributes
    ----------
    epoch, step : int
        Where it happened.
    checkpoint : str or None
        The last good checkpoint.
    """

    def __init__(self, message: str, epoch: int, step: int, checkpoint: str | None):
        super().__init__(message)
        self.epoch = epoch
        self.step = step
        self.checkpoint = checkpoint

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Survive the way back from a worker process, attributes included."""
        return type(self), (str(self), self.epoch, self.step, self.checkpoint)


class L63Warning(UserWarning):
    """Base of every warning that l63fast gives."""


class BackendWarning(L63Warning):
    """The C++ extension is absent, or an environment variable was not understood."""


class LargeTimeStepWarning(L63Warning):
    """The time step is large enough for RK4 to be visibly wrong."""
