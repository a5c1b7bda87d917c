"""The numbers of a method on one case: its scores over seeds, and beside the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from l63fast.experiments.cycled.groups import Group
from l63fast.experiments.cycled.published import published_for, verdict
from l63fast.experiments.describe import shown_measure
from l63fast.experiments.seeds import repetitions
from l63fast.verification import Repetitions, decibel
from l63fast.verification.measures import MEASURES

__all__ = ["NAN", "beside", "claimed", "mean", "scored", "standings"]

NAN: Final = math.nan


def mean(group: Group, source: str, path: str, part: int | None = None) -> float:
    """Return the mean over seeds of a number of metrics or timing, NaN if unknown."""
    found = []
    for result in group.results:
        value: Any = getattr(result, source)
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if part is not None and value is not None:
            value = value[part]
        found.append(NAN if value is None else float(value))
    return float(np.mean(found))


def _repetitions(measure: str, groups: Mapping[str, Group]) -> Repetitions | None:
    """Return scores of groups together; None if they have no test data in common."""
    blocks = {name: group.blocks for name, group in groups.items()}
    scores = next(iter(groups.values())).first.settings.scores
    return repetitions(blocks, measure, **scores.bootstrap)


def standings(
    groups: Sequence[Group], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return rank and equals of the methods of a case, by their names."""
    measure = _measure(groups[0])
    together = _repetitions(measure, dict(zip(names, groups, strict=True)))
    if together is None:
        return {}
    return {
        name: {"rank": found.rank or 0, "equals": "; ".join(found.ties)}
        for name, found in together.standings(tuple(names)).items()
    }


def _measure(group: Group) -> str:
    return str(group.first.metrics["measure"]).removeprefix("mirror_")


def scored(group: Group) -> dict[str, Any]:
    """Return the scores of a group, and what was published of the same."""
    cell, name = group.first.settings, group.first.metrics["measure"]
    measure, shown = _measure(group), shown_measure(name)
    single = [float(result.metrics["scores"][name]) for result in group.results]
    scores = {m: _score(group, m) for m in MEASURES}
    values = [*scores[measure], min(single), max(single)]
    pool = scores["pool"][0]
    if cell.measure == "decibel":
        values = [decibel(value) for value in values]
        shown = shown.replace("pool", "dB")
    score, low, high, *range_of_seeds = values
    published = published_for(cell)
    return {
        "measure": shown,
        "score": score,
        "low": low,
        "high": high,
        "seed_low": range_of_seeds[0],
        "seed_high": range_of_seeds[1],
        "rms": scores["rms"][0],
        "pool": pool,
        "decibel": decibel(pool),
        "published_low": NAN if published is None else published.low,
        "published_high": NAN if published is None else published.high,
        "verdict": "" if published is None else verdict(published, score, low, high),
        "sign_flips": mean(group, "metrics", "scores.sign_flip_rate"),
        "diverged": mean(group, "metrics", "scores.divergence_rate"),
    }


def _score(group: Group, measure: str) -> tuple[float, float, float]:
    """Return a score and its 95 % interval; of a single seed, those it was given."""
    if len(group.results) == 1:
        scores = group.first.metrics["scores"]
        name = f"mirror_{measure}" if group.is_mirror_aware else measure
        low, high = scores["ci95"].get(name, (NAN, NAN))
        return float(scores[name]), float(low), float(high)
    found = _repetitions(measure, {"a": group})
    assert found is not None
    score = found.score("a")
    return (score.value, *score.ci95)


def beside(group: Group, reference: Group | None) -> dict[str, Any]:
    """Return the ratio of `pool` to that of the reference."""
    ratio, low, high = NAN, NAN, NAN
    both = reference and _repetitions("pool", {"a": group, "b": reference})
    if both:
        found = both.compare("a", "b")
        ratio, (low, high) = found.ratio, found.ratio_ci95
    return {
        "over_optimum": ratio,
        "over_optimum_low": low,
        "over_optimum_high": high,
    }


def claimed(group: Group) -> dict[str, Any]:
    """Return what the scheme says of its own errors."""
    return {
        "value": mean(group, "metrics", "parameter.value"),
        "spread": mean(group, "metrics", "spread.ratio"),
        "innovation": mean(group, "metrics", "innovation.ratio"),
        "innovation_low": mean(group, "metrics", "innovation.ci95.ratio", 0),
        "innovation_high": mean(group, "metrics", "innovation.ci95.ratio", 1),
        "crps": mean(group, "metrics", "crps.crps"),
        "effective_size": mean(group, "metrics", "effective_size"),
    }
