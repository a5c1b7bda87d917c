"""Which cycles of a split are done, and from what: the checked plan of a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from l63fast import _checks
from l63fast.assimilation.agreement import Difference, Setup, check_agreement
from l63fast.assimilation.scheme import Scheme
from l63fast.errors import ArgumentValueError
from l63fast.twin import TwinExperiment

__all__ = ["CyclePlan", "plan_cycles"]


class CyclePlan(NamedTuple):
    """What a cycled run does.

    Attributes
    ----------
    background : (n_trajectories, 3)
        The first one, valid at step 0.
    ready : int
        The first observation that the scheme assimilates; the warm-up does those
        before.
    first : int
        The first observation whose cycle is scored.
    n_cycles : int
        Scored cycles.
    warm_up : Scheme or None
        None where `ready` is 0.
    n_steps, warm_up_steps : int
        Model steps of a cycle of the scheme and of the warm-up, each with its own dt.
    differences : tuple of Difference
        What the schemes take for granted otherwise than the twin has it.
    """

    background: np.ndarray
    ready: int
    first: int
    n_cycles: int
    warm_up: Scheme[Any] | None
    n_steps: int
    warm_up_steps: int
    differences: tuple[Difference, ...]


def plan_cycles(
    scheme: Scheme[Any],
    twin: TwinExperiment,
    split_name: str,
    *,
    n_cycles: int | None,
    burn_in: int,
    initial: np.ndarray | None,
    warm_up: Scheme[Any] | None,
    imperfect_model: bool | None,
) -> CyclePlan:
    """Return the plan of a run with these arguments of `run_cycles`.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If there are not that many observations, a warm-up is missing, or a scheme was
        made for another setup.
    """
    n, n_obs = twin.split(split_name).observations.shape[:2]
    ready = 0 if getattr(scheme, "window_grows", False) else scheme.window - 1
    first, n_cycles = _scored_cycles(n_obs, n_cycles, burn_in, ready)
    if initial is None:
        initial = np.tile(twin.climatology.mean, (n, 1))
    background = _checks.states("initial", initial)
    _checks.batch("initial", background, (n,), f"split {split_name!r}")
    if ready:
        _check_warm_up(warm_up, scheme.window)
    n_steps, differences = _agreed("scheme", scheme, twin, imperfect_model)
    warm_up_steps = n_steps
    if ready:
        warm_up_steps, more = _agreed("warm_up", warm_up, twin, imperfect_model)
        differences += more
    return CyclePlan(
        background,
        ready,
        first,
        n_cycles,
        warm_up if ready else None,
        n_steps,
        warm_up_steps,
        differences,
    )


def _agreed(
    name: str, scheme: Any, twin: TwinExperiment, imperfect_model: bool | None
) -> tuple[int, tuple[Difference, ...]]:
    """Return the model steps of a cycle, and what differs and may."""
    made_for = getattr(scheme, "made_for", Setup())
    _checks.instance(f"{name}.made_for", made_for, Setup)
    differences = check_agreement(
        name, made_for, Setup.of(twin), imperfect_model=imperfect_model
    )
    return made_for.steps_per_cycle(name, twin), differences


def _scored_cycles(
    n_obs: int, n_cycles: int | None, burn_in: int, ready: int
) -> tuple[int, int]:
    first = max(_checks.count("burn_in", burn_in), ready)
    if first >= n_obs:
        raise ArgumentValueError(
            f"burn_in: expected a cycle left to score, got {first} cycles before the "
            f"first for {n_obs} observations"
        )
    if n_cycles is None:
        return first, n_obs - first
    return first, _checks.count("n_cycles", n_cycles, minimum=1, maximum=n_obs - first)


def _check_warm_up(warm_up: Scheme[Any] | None, window: int) -> None:
    if warm_up is None or warm_up.window != 1:
        given = "None" if warm_up is None else f"one with a window of {warm_up.window}"
        raise ArgumentValueError(
            f"warm_up: expected a scheme that needs one observation, for the cycles "
            f"before {window} of them exist, got {given}"
        )
