"""netCDF files that declare what they do not hold, or hold it as another type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import netCDF4
import numpy as np

# Four times this is 4 in 64 bits.
WRAPS: Final = 2**62 + 1
Variables = dict[str, tuple[Any, tuple[int, ...]]]


def write_crafted(path: Path, variables: Variables, **attributes: Any) -> None:
    """Write variables of a type and a shape each, without any of their values."""
    with netCDF4.Dataset(path, "w") as file:
        names: dict[int, str] = {}
        for name, (kind, shape) in variables.items():
            for size in shape:
                if size in names:
                    continue
                names[size] = f"axis_{len(names)}"
                file.createDimension(names[size], size)
                if size > 2**32:  # without values of its own the axis is refused
                    axis = (names[size],)
                    file.createVariable(*axis, "i1", axis, chunksizes=(1,))
            chunks = [1] * len(shape) if all(shape) else None
            axes = [names[size] for size in shape]
            file.createVariable(name, kind, axes, chunksizes=chunks)
        for name, value in attributes.items():
            _set(file, name, value)


def _set(file: netCDF4.Dataset, name: str, value: Any) -> None:
    if isinstance(value, np.void):
        file.createCompoundType(value.dtype, f"{name}_type")
    file.setncattr(name, value)


def cycle_variables(n: int = 4, n_obs: int = 3, kind: Any = "f8") -> Variables:
    """Return what `cycle` reads with an encoder of `xy`."""
    return {
        "observation_noise": (kind, (n, n_obs, 2)),
        "initial_truth": ("f8", (n, 3)),
        "initial_background": ("f8", (n, 3)),
        "warm_up_B": ("f8", (3, 3)),
        "warm_up_R": ("f8", (2, 2)),
    }


CYCLE_NUMBERS: Final[dict[str, Any]] = {
    "operator": "xy",
    "dt": 0.01,
    "model_sigma": 10.0,
    "model_rho": 28.0,
    "model_beta": 2.5,
    "steps_per_cycle": 5,
    "first_cycle": 1,
    "warm_up_n_starts": 1,
    "warm_up_max_iter": 5,
    "warm_up_tol": 1e-9,
}
TEXT_IN_A_NUMBER: Final = np.zeros((), np.dtype([("a", "f8", (100,))]))[()]
HELD: Final = "observation_noise: declares more values than a file of"
# By what is wrong: variables and numbers of a file for `cycle`, and what it says.
CRAFTED: Final[dict[str, tuple[Variables, dict[str, Any], str]]] = {
    "product wraps": (cycle_variables(4, WRAPS), {}, HELD),
    "terabytes": (cycle_variables(2**20, 2**20), {}, HELD),
    "an endless loop": (cycle_variables(0, WRAPS), {}, HELD),
    "strings": (cycle_variables(kind=str), {}, "observation_noise: expected numbers"),
    "dt is a record": ({}, {"dt": TEXT_IN_A_NUMBER}, "dt: NetCDF"),
    "dt is text": ({}, {"dt": "x"}, "dt: NetCDF"),
    "dt is NaN": ({}, {"dt": np.nan}, "dt: expected a finite number"),
    "operator is a number": ({}, {"operator": 3}, "operator: NetCDF"),
    "operator is a list": ({}, {"operator": ["x", "y"]}, "operator: NetCDF"),
    "first_cycle is huge": ({}, {"first_cycle": 1e300}, "first_cycle: expected a who"),
    "first_cycle is below 0": ({}, {"first_cycle": -1}, "first_cycle: expected a who"),
    "starts": ({}, {"warm_up_n_starts": 2**31}, "warm_up_n_starts: expected a whole"),
    "iterations": ({}, {"warm_up_max_iter": -5}, "warm_up_max_iter: expected a who"),
}


def write_crafted_cycle(path: Path, name: str) -> str:
    """Write one of `CRAFTED`; return what the program should say."""
    variables, numbers, said = CRAFTED[name]
    write_crafted(path, variables or cycle_variables(), **(CYCLE_NUMBERS | numbers))
    return said
