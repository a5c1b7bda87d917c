"""Calls of simulate, forecast and three_d_var with bad input, and what goes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from l63fast.assimilation.scheme import Analysis, Status
from l63fast.assimilation.three_d_var import three_d_var
from l63fast.lorenz63 import Lorenz63, forecast, simulate

Call = Callable[[str], Any]


@dataclass(frozen=True)
class Case:
    """One clause: calls that take a backend, and what they raise or give."""

    clause: str
    calls: Iterable[Call]
    error: type[Exception] | None = None
    says: str = ""  # in the error's message
    holds: Callable[[Any], bool] | None = None  # of the result


STATES = (np.arange(12.0).reshape(4, 3) - 5) / 2
STATES.flags.writeable = False


def call(function: Callable[..., Any], **arguments: Any) -> Call:
    names = {"simulate": ("initial_state",), "forecast": ("state",)}
    (first,) = names[function.__name__]

    def made(backend: str) -> Any:
        given = {"backend": backend, "n_steps": 10, first: STATES} | arguments
        return function(given.pop(first), given.pop("n_steps"), **given)

    return made


def state(value: Any, **arguments: Any) -> list[Call]:
    """Integrate these states in both ways."""
    return [
        call(simulate, initial_state=value, **arguments),
        call(forecast, state=value, **arguments),
    ]


def both(**arguments: Any) -> list[Call]:
    """Integrate good states in both ways."""
    return state(STATES, **arguments)


def stored(**arguments: Any) -> list[Call]:
    return [call(simulate, **arguments)]


def last(**arguments: Any) -> list[Call]:
    return [call(forecast, **arguments)]


def analysis(**changed: Any) -> list[Call]:
    """Analyse xy for four samples, with something changed."""
    good = {
        "background": np.ones((4, 3)),
        "observation": np.full((4, 2), 2.0),
        "operator": "xy",
        "B": np.eye(3),
        "R": np.eye(2),
    }

    def made(backend: str) -> Analysis:
        given = good | {"backend": backend} | changed
        leading = [given.pop(k) for k in ("background", "observation", "operator")]
        return three_d_var(*leading, **given)

    return [made]


def square(**changed: Any) -> list[Call]:
    """Analyse x squared for four samples, with something changed."""
    return analysis(
        **{"operator": "x2", "observation": np.full((4, 1), 9.0), "R": np.eye(1)}
        | changed
    )


def parameters(**changed: float) -> list[Call]:
    return [lambda _: Lorenz63(**changed)]


def repeated(n: int, size: int = 3) -> np.ndarray:
    """Return n rows that take the memory of one."""
    return np.broadcast_to(np.ones(size), (n, size))


def with_value(where: tuple[int, int], value: float, shape=(6, 3)) -> np.ndarray:
    array = np.ones(shape)
    array[where] = value
    return array


def misaligned(states: np.ndarray) -> np.ndarray:
    buffer = np.zeros(states.nbytes + 1, np.uint8)[1:]
    array = buffer.view(states.dtype).reshape(states.shape)
    array[:] = states
    return array


def in_gaps(states: np.ndarray) -> np.ndarray:
    wide = np.full((2 * len(states), 6), np.nan)
    wide[::2, ::2] = states
    return wide[::2, ::2]


def read_only(shape: tuple[int, ...]) -> np.ndarray:
    array = np.ones(shape)
    array.flags.writeable = False
    return array


def into_itself(backend: str) -> np.ndarray:
    shared = np.ones((4, 11, 3))
    return simulate(shared[:, 0], 10, out=shared, backend=backend)


def folded() -> np.ndarray:
    return np.lib.stride_tricks.as_strided(np.ones((4, 11, 3)), strides=(8, 8, 8))


def as_contiguous(result: np.ndarray) -> bool:
    """Whether these are the bits that contiguous states give."""
    good = forecast(STATES, 10) if result.ndim == 2 else simulate(STATES, 10)
    return result.tobytes() == good.tobytes()


def is_background(result: Analysis) -> bool:
    return np.array_equal(result.state, np.ones((4, 3)))


def ended(*statuses: Status) -> Callable[[Analysis], bool]:
    return lambda result: set(result.status.ravel().tolist()) <= set(statuses)
