"""Cells that differ in seeds only: which they are, and their trajectories together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from l63fast.experiments.settings_file import dump_tables
from l63fast.verification import Repetitions
from l63fast.verification.measures import MEASURES

__all__ = ["Blocks", "aligned", "blocks_of", "by_seed", "repetitions"]

# Time means (n_trainings, n_trajectories, n_measures) by the hash of the test data.
Blocks = Mapping[str, np.ndarray]

# What a repetition changes: its seed, and the names that say it.
_OF_A_SEED: Final = ("seed", "key", "case", "name")


def by_seed(
    results: Iterable[Any], name: Callable[[Any], str] = lambda result: ""
) -> list[list[Any]]:
    """Return results in groups that differ in nothing but seeds, in their order.

    `name` is what a method is called whatever its seed: equal settings of two names
    are two methods.
    """
    groups: dict[tuple[str, str], list[Any]] = {}
    for result in results:
        settings = dump_tables(_without_seeds(result.settings.to_tables()))
        groups.setdefault((name(result), settings), []).append(result)
    return list(groups.values())


def _without_seeds(tables: Any) -> Any:
    if not isinstance(tables, dict):
        return tables
    return {k: _without_seeds(v) for k, v in tables.items() if k not in _OF_A_SEED}


def blocks_of(results: Sequence[Any], means: Sequence[np.ndarray]) -> Blocks:
    """Return the time means of results of one group, by what they were tested on."""
    by_data: dict[str, list[np.ndarray]] = {}
    for result, found in zip(results, means, strict=True):
        by_data.setdefault(str(result.metrics["data"].get("test")), []).append(found)
    return {key: np.stack(by_data[key]) for key in sorted(by_data)}


def aligned(*methods: Blocks) -> list[np.ndarray]:
    """Return the means of methods on the trajectories that all of them were tried on.

    Returns
    -------
    list of (n_data, n_trainings, n_trajectories, n_measures)
        As `verification.Repetitions` wants them: n_trainings is 1 for a method that is
        not trained. A method that was tried on fewer trajectories than another has the
        first ones. Empty if the methods have no test data in common.
    """
    common = [key for key in methods[0] if all(key in other for other in methods)]
    if not common:
        return []
    n = min(blocks[key].shape[1] for blocks in methods for key in common)
    trained = [min(len(blocks[key]) for key in common) for blocks in methods]
    most = min((number for number in trained if number > 1), default=1)
    return [
        np.stack([blocks[key][: min(number, most), :n] for key in common])
        for blocks, number in zip(methods, trained, strict=True)
    ]


def repetitions(
    methods: Mapping[str, Blocks], measure: str, **how: int
) -> Repetitions | None:
    """Return scores of methods on what all were tried on; None if there is nothing.

    Parameters
    ----------
    methods : dict of Blocks
        Their last axis is that of `verification.MEASURES`.
    measure : {"rms", "pool"}
    **how
        n_bootstrap and seed, as in `verification.Repetitions`.
    """
    common = aligned(*methods.values())
    if not common:
        return None
    by_measure = {
        name: {n: v[..., i] for n, v in zip(methods, common, strict=True)}
        for i, name in enumerate(MEASURES)
    }
    return Repetitions.of(
        by_measure[measure], measure=measure, rms_means=by_measure["rms"], **how
    )
