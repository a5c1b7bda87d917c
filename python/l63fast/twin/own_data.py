"""A user's own data as trajectories in splits: given splits, or one run cut in time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast.errors import ArgumentTypeError, ArgumentValueError, ModelWarning
from l63fast.lorenz63 import Lorenz63, forecast
from l63fast.twin.gaps import rising_steps
from l63fast.twin.settings import SPLIT_NAMES
from l63fast.twin.splits import check_values

_MISS: Final = 0.3  # of the change between states; half or twice the dt misses more
_TIMES: Final = ("trajectory", "time", "observation_time")


class OwnData(NamedTuple):
    """Trajectories of all splits, one split after the other.

    Attributes
    ----------
    truth : (n, n_saved, 3) float64
    observations : (n, n_obs, m)
    sizes : dict of str to int
        Trajectories of each split, by the names `n_train`, `n_val`, `n_test`.
    steps : (n_obs,) or None
        Model step of each observation, if they were given.
    missing : bool
        Whether NaN stands for what was not observed.
    """

    truth: np.ndarray
    observations: Any
    sizes: dict[str, Any]
    steps: Any = None
    missing: bool = False


def warn_of_another_model(
    truths: Mapping[str, np.ndarray], n_steps: int, dt: float, parameters: Lorenz63
) -> None:
    """Warn if a truth (n, n_saved, 3), by the name of its split, is of another model.

    Each state is forecast over the `n_steps` steps to the next one. The median distance
    from there is compared with that between the two states: about zero for the model
    that made the truth, whatever integrated it. A model error that is added at some of
    the states only, as once a cycle, does not count.
    """
    numbered = ((n, i, s) for n, truth in truths.items() for i, s in enumerate(truth))
    for name, i, states in numbered:
        here, there = np.ascontiguousarray(states[:-1]), states[1:]
        options: dict[str, Any] = {"parameters": parameters, "on_divergence": "nan"}
        expected = forecast(here, n_steps, dt=dt, **options)
        missed, change = (
            float(np.median(np.linalg.norm(there - start, axis=-1)))
            for start in (expected, here)
        )
        share = missed / max(change, np.finfo(float).tiny)
        if not share <= _MISS:
            warnings.warn(
                f"truth: trajectory {i} ({name} split) does not follow the model: the "
                f"forecast from each state to the next, {n_steps} steps of dt {dt:g}, "
                f"misses by {share:.0%} of their change; expected the dt, save_every "
                "and parameters that made it (check=False for a truth of another kind)",
                ModelWarning,
                stacklevel=3,
            )
            return


def trajectories(
    truth: Any,
    observations: Any,
    sizes: Mapping[str, int | None],
    *,
    dt: float,
    steps_per_cycle: int | None,
    observation_steps: Any,
    save_every: int,
    gap: float,
    missing: bool,
) -> OwnData:
    """Return truth and observations as trajectories in the order of their splits.

    The arguments are those of `TwinExperiment.from_arrays`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described there.
    """
    gap = _checks.real("gap", gap, minimum=0.0)
    if isinstance(truth, Mapping) or isinstance(observations, Mapping):
        data = _given(truth, observations, sizes)
        return data._replace(steps=observation_steps, missing=missing)
    if absent := [name for name, size in sizes.items() if size is None]:
        raise ArgumentTypeError(
            f"{', '.join(absent)}: expected the number of trajectories of each split "
            "(of a single run: of blocks that it is cut into), got none"
        )
    counts = {
        name: _checks.count(name, size, minimum=1) for name, size in sizes.items()
    }
    truth, observations = _array("truth", truth), _observations(observations)
    if truth.ndim == 3:
        return OwnData(truth, observations, counts, observation_steps, missing)
    if observation_steps is not None:
        steps = rising_steps(observation_steps, (len(truth) - 1) * save_every)
        seen = _checks.array("observations", observations, shape=(len(steps), None))
        check_values("observations", seen, missing=missing)
        first, length = _blocks(
            counts, len(truth) - 1, gap, save_every * dt, "saved states after the first"
        )
        return _cut(truth, seen, counts, np.array(steps), save_every, first, length)
    assert steps_per_cycle is not None
    n_cycles = (len(truth) - 1) * save_every // steps_per_cycle
    first, length = _blocks(counts, n_cycles, gap, steps_per_cycle * dt, "cycles")
    observations = _checks.array("observations", observations, shape=(n_cycles, None))
    stride = steps_per_cycle // save_every
    return OwnData(
        np.stack([truth[k * stride : (k + length) * stride + 1] for k in first]),
        np.stack([observations[k : k + length] for k in first]),
        counts,
        missing=missing,
    )


def _cut(
    truth: np.ndarray,
    observations: np.ndarray,
    counts: dict[str, int],
    steps: np.ndarray,
    save_every: int,
    first: np.ndarray,
    length: int,
) -> OwnData:
    """Return the blocks of one run with observations at any steps.

    The blocks have the times of all of them, with NaN where a block has no observation.
    """
    # From the start of each block, (n_blocks, n).
    since = steps - save_every * first[:, None]
    inside = (since > 0) & (since <= length * save_every)
    union = np.unique(since[inside])
    blocks = np.full((len(first), len(union), observations.shape[1]), np.nan)
    for block, own, rows in zip(blocks, since, inside, strict=True):
        block[np.searchsorted(union, own[rows])] = observations[rows]
    truths = np.stack([truth[k : k + length + 1] for k in first])
    return OwnData(truths, blocks, counts, union, missing=True)


def _blocks(
    counts: Mapping[str, int], n: int, gap: float, unit: float, what: str
) -> tuple[np.ndarray, int]:
    """Return where each block of one run begins, and the length of all blocks.

    Both are counted in units (time units) of which the run has `n`; `what` is their
    name. Between two splits at least `gap` (time units) is left out.
    """
    n_blocks, n_gap = sum(counts.values()), math.ceil(round(gap / unit, 6))
    length = (n - 2 * n_gap) // n_blocks
    if length < 1:
        raise ArgumentValueError(
            f"truth: expected a run of at least {n_blocks + 2 * n_gap} {what}, for "
            f"{' + '.join(map(str, counts.values()))} blocks and two gaps of {gap:g} "
            f"time units, got {n}"
        )
    split = np.repeat(np.arange(3), list(counts.values()))  # of each block
    return length * np.arange(n_blocks) + n_gap * split, length


def _given(truth: Any, observations: Any, sizes: Mapping[str, int | None]) -> OwnData:
    """Return given splits; each is a batch of trajectories or a single one."""
    for name, parts in (("truth", truth), ("observations", observations)):
        if not isinstance(parts, Mapping) or set(parts) != set(SPLIT_NAMES):
            got = sorted(parts) if isinstance(parts, Mapping) else type(parts).__name__
            raise ArgumentTypeError(
                f"{name}: expected a mapping with the keys "
                f"{', '.join(SPLIT_NAMES)} (truth and observations are both given "
                f"by split, or neither), got {got}"
            )
    for name, size in sizes.items():
        if size is not None:
            raise ArgumentValueError(
                f"{name}: expected no number, as the splits are given, got {size!r}"
            )
    truths, observed = [], []
    for name in SPLIT_NAMES:
        part = _array(f"truth[{name!r}]", truth[name])
        truths.append(part if part.ndim == 3 else part[np.newaxis])
        rows = _checks.as_array(
            f"observations[{name!r}]", _observations(observations[name])
        )
        observed.append(rows if rows.ndim == 3 else rows[np.newaxis])
        for what, arrays in (("truth", truths), ("observations", observed)):
            wanted, shape = (len(truths[-1]), *arrays[0].shape[1:]), arrays[-1].shape
            if shape != wanted:
                raise ArgumentValueError(
                    f"{what}[{name!r}]: expected {wanted}, got {shape}"
                )
    counts = {f"n_{k}": len(part) for k, part in zip(SPLIT_NAMES, truths, strict=True)}
    return OwnData(np.concatenate(truths), np.concatenate(observed), counts)


def _array(name: str, truth: Any) -> np.ndarray:
    """Return the truth as an array (n, n_saved, 3), or (n_saved, 3) of one run."""
    truth = _checks.by_names(name, truth, leading=_TIMES)
    n_axes = 2 if np.ndim(truth) == 2 else 3
    array = _checks.array(name, truth, shape=(None, None, 3)[-n_axes:])
    _checks.finite(name, array)
    return array


def _observations(observations: Any) -> Any:
    return _checks.by_names("observations", observations, leading=_TIMES)
