"""The entry of a method over its seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from l63fast.experiments.reporting.entries import Entry
from l63fast.experiments.seeds import blocks_of, repetitions
from l63fast.verification import decibel
from l63fast.verification.measures import MEASURES, finish

__all__ = ["averaged"]


def averaged(entry: Entry, means: Sequence[np.ndarray]) -> Entry:
    """Return the entry as the mean over its seeds, with the means of each.

    The interval is over seeds and trajectories, as `verification.Repetitions` gives it;
    the scores of the single seeds stand beside it.

    Parameters
    ----------
    entry : Entry
    means : sequence of (n_trajectories, 2)
        Of each of its results, as `verification.trajectory_means` gives them.
    """
    blocks = blocks_of(entry.results, means)
    if len(means) == 1:
        return dataclasses.replace(entry, blocks=blocks)
    scores = {}
    for measure in MEASURES:
        found = repetitions({entry.method: blocks}, measure, **entry.scoring)
        assert found is not None
        scores[measure] = found.score(entry.method)
    measure = MEASURES[int(not entry.measure.endswith("rms"))]
    single = [finish(m.mean(axis=0))[MEASURES.index(measure)] for m in means]
    shown = [scores[measure].value, *scores[measure].ci95, min(single), max(single)]
    if entry.in_decibel:
        shown = [decibel(float(value)) for value in shown]
    score, low, high, seed_low, seed_high = map(float, shown)
    return dataclasses.replace(
        entry,
        score=score,
        low=low,
        high=high,
        rms=scores["rms"].value,
        pool=scores["pool"].value,
        blocks=blocks,
        numbers={
            **entry.numbers,
            "n_seeds": float(len(means)),
            "seed_low": seed_low,
            "seed_high": seed_high,
        },
    )
