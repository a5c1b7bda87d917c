"""Results with planted scores, for the tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from experiment_samples import tiny_cycled
from l63fast.experiments.results import FACTS, MEANS
from l63fast.experiments.scoring import Summary
from l63fast.experiments.settings import ScoreSettings
from l63fast.observation import ObservationOperator

__all__ = ["HOW", "N", "method", "summary"]

HOW = {"n_bootstrap": 200, "seed": 0}
N = 80


def method(
    name: str,
    score: float,
    *,
    role: str = "method",
    trainings: int = 0,
    noise: float = 0.02,
    n: int = N,
    **columns: Any,
) -> pd.DataFrame:
    """Return results of a method whose error is about `score` on each trajectory."""
    hard = np.random.default_rng(0).normal(1.0, 0.2, N)
    tables = []
    for training in range(trainings) if trainings else (-1,):
        own = np.random.default_rng(sum(map(ord, name)) + training).normal(
            1.0, noise, N
        )
        rmse = (score * hard * own / (hard * own).mean())[:n]
        means = dict(zip(MEANS, (rmse, rmse**2, rmse, rmse**2), strict=True))
        table = pd.DataFrame(means).rename_axis("trajectory").reset_index()
        tables.append(
            table.assign(
                **{
                    "operator": "xyz",
                    "sigma": 1.0,
                    "interval": 0.1,
                    "case": "",
                    "missing": 0.0,
                },
                **dict.fromkeys(("method", "label", "scheme", "cell"), name),
                **{"role": role, "start": "", "parameter": "", "seed": 0},
                **{"training": training, "data": "d", **dict.fromkeys(FACTS, np.nan)},
            ).assign(**columns)
        )
    found = pd.concat(tables, ignore_index=True)
    blind = [ObservationOperator(name).is_mirror_blind for name in found["operator"]]
    return found.assign(mirror_aware=blind)


def summary(*methods: pd.DataFrame, measure: str = "rmse_a") -> Summary:
    """Return what tables and sentences are made from, of such results."""
    results = pd.concat(methods, ignore_index=True)
    [any_cell] = tiny_cycled("enkf", "pf").cells()
    settings = replace(any_cell, scores=ScoreSettings(**HOW), measure=measure)
    cell = SimpleNamespace(settings=settings, metrics={"n_times": 40})
    source: Any = SimpleNamespace(
        name="planted",
        results=[cell],
        cells=dict.fromkeys(results["cell"], cell),
    )
    found = Summary(source)
    found.__dict__["results"] = results  # in place of what its cells would give
    return found
