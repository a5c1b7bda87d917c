"""The only argument validation: argument, what was expected, what came."""

from __future__ import annotations

from l63fast._checks.arrays import (
    array,
    batch,
    finite,
    float_dtype,
    output,
    states,
    vectors,
    vectors_of,
    within,
)
from l63fast._checks.covariances import covariance
from l63fast._checks.memory import (
    available_memory,
    memory,
)
from l63fast._checks.names import (
    file_name,
    path,
)
from l63fast._checks.scalars import (
    LARGE_TIME_STEP,
    MAX_THREADS,
    boolean,
    choice,
    count,
    generator,
    instance,
    real,
    seed,
    threads,
    time_step,
)

__all__ = [
    "LARGE_TIME_STEP",
    "MAX_THREADS",
    "array",
    "available_memory",
    "batch",
    "boolean",
    "choice",
    "count",
    "covariance",
    "file_name",
    "finite",
    "float_dtype",
    "generator",
    "instance",
    "memory",
    "output",
    "path",
    "real",
    "seed",
    "states",
    "threads",
    "time_step",
    "vectors",
    "vectors_of",
    "within",
]
