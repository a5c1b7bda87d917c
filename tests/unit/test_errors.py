"""Errors: each is of the package and of a builtin, and survives a process boundary."""

from __future__ import annotations

import builtins
import pickle

import numpy as np
import pytest

from l63fast import errors

INSTANCES = [
    errors.DivergenceError("2 of 9 members", np.array([1, 4]), 7, 0.07),
    errors.TrainingDiverged("loss is NaN", 3, 12, "here/checkpoint.pt"),
    errors.LockedError("locked", pid=12, since="now"),
    errors.ArgumentValueError("dt: expected more"),
]


@pytest.mark.parametrize("error", INSTANCES, ids=lambda e: type(e).__name__)
def test_an_error_comes_back_from_a_worker_as_it_was(error: errors.L63Error) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert {k: np.asarray(v).tolist() for k, v in vars(back).items()} == {
        k: np.asarray(v).tolist() for k, v in vars(error).items()
    }


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_also_a_builtin(name: str) -> None:
    kind = getattr(errors, name)
    if issubclass(kind, Warning):
        assert issubclass(kind, errors.L63Warning)
        return
    assert issubclass(kind, errors.L63Error)
    if kind is not errors.L63Error:
        ancestors = {base.__name__ for base in kind.__mro__} - {"Exception"}
        assert ancestors & set(dir(builtins)) - {"BaseException", "object"}
