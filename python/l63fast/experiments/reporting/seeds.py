"""Cells that differ in their seed only, taken together as one entry."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from l63fast.experiments.reporting.entries import Entry
from l63fast.experiments.settings_file import dump_tables
from l63fast.verification import decibel
from l63fast.verification.bootstrap import bootstrap_means, interval
from l63fast.verification.measures import finish

__all__ = ["averaged", "by_seed"]

# What a repetition changes: its seed, and the names that say it.
_OF_A_SEED: Final = ("seed", "case", "name")


def by_seed(results: Iterable[Any]) -> list[list[Any]]:
    """Return results in groups that differ in nothing but seeds, in their order."""
    groups: dict[str, list[Any]] = {}
    for result in results:
        key = dump_tables(_without_seeds(result.settings.to_tables()))
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def _test_data(result: Any) -> str:
    """Return the hash of the test trajectories of a result."""
    return str(result.metrics["data"].get("test"))


def _without_seeds(tables: Any) -> Any:
    if not isinstance(tables, dict):
        return tables
    return {k: _without_seeds(v) for k, v in tables.items() if k not in _OF_A_SEED}


def averaged(entry: Entry, means: Sequence[np.ndarray]) -> Entry:
    """Return the entry as the mean over its seeds, with the means of each.

    Means over seeds of the same test trajectories are taken trajectory by trajectory;
    other test trajectories stand beside them. The interval is over trajectories, and
    the scores of the single seeds stand beside it.
    """
    by_data: dict[str, list[np.ndarray]] = {}
    for result, found in zip(entry.results, means, strict=True):
        by_data.setdefault(_test_data(result), []).append(found)
    blocks = {key: np.mean(by_data[key], axis=0) for key in sorted(by_data)}
    if len(means) == 1:
        return dataclasses.replace(entry, blocks=blocks)
    mean = np.concatenate(list(blocks.values()))
    by_pool = int(not entry.measure.endswith("rms"))
    how = entry.results[0].settings.scores
    resampled = finish(bootstrap_means(mean, how.n_bootstrap, how.seed))
    scores = [finish(m.mean(axis=0)) for m in (mean, *means)]
    ends = interval(resampled[:, by_pool])
    values = [*(s[by_pool] for s in scores), *ends]
    if entry.in_decibel:
        values = [decibel(float(value)) for value in values]
    score, *single, low, high = map(float, values)
    return dataclasses.replace(
        entry,
        score=score,
        low=low,
        high=high,
        rms=float(scores[0][0]),
        pool=float(scores[0][1]),
        blocks=blocks,
        numbers={
            **entry.numbers,
            "n_seeds": float(len(means)),
            "seed_low": min(single),
            "seed_high": max(single),
        },
    )
