"""Where the methods of one case stand: the ranking that every table and text shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from l63fast.experiments.seeds import Blocks, repetitions
from l63fast.verification import Repetitions
from l63fast.verification.measures import MEASURES

__all__ = [
    "TRAINED_ONCE",
    "TRAINING_SCATTER",
    "Candidate",
    "Place",
    "beaten_optimum",
    "ranking",
]

# Trainings of one network that differ in their seed alone differ by up to this share.
TRAINING_SCATTER: Final = 0.02
TRAINED_ONCE: Final = (
    f"¹: trained once; two networks that differ by less than "
    f"{100.0 * TRAINING_SCATTER:.0f} % share their rank then, as trainings differ by "
    "that much"
)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method of a case, as it is compared with the others.

    Attributes
    ----------
    name : str
    role : {"method", "baseline", "optimum"}
        Stated by the method; only a "method" competes.
    blocks : dict of (n_trainings, n_trajectories, 2)
        As in `seeds.blocks_of`.
    n_trainings : int, optional
        Of a network; None for what is not trained.
    """

    name: str
    role: str
    blocks: Blocks
    n_trainings: int | None = None

    def score(self, measure: str) -> float:
        """Return the mean over everything of "rms", or of the squares for "pool"."""
        column = MEASURES.index(measure)
        means = [block[..., column].mean() for block in self.blocks.values()]
        return float(sum(means) / len(means))

    def is_scattered(self, other: Candidate, ratio: float) -> bool:
        """Whether a difference is no larger than that of two trainings of a network."""
        numbers = (self.n_trainings, other.n_trainings)
        return (
            None not in numbers and 1 in numbers and abs(ratio - 1.0) < TRAINING_SCATTER
        )


@dataclass(frozen=True)
class Place:
    """Where a method stands among those that compete.

    Attributes
    ----------
    rank : int or None
        1 for the best and for all that it cannot be told from; else one more than
        there are methods that are better. None for what does not compete.
    ties : tuple of str
        The methods that it cannot be told from: the paired 95 % interval of the
        difference holds 0, or it is that of two networks, one of them trained once,
        which differ by less than trainings do.
    """

    rank: int | None = None
    ties: tuple[str, ...] = ()

    @property
    def is_best(self) -> bool:
        """Whether it is better than every other method, beyond doubt."""
        return self.rank == 1 and not self.ties


def ranking(
    candidates: Sequence[Candidate], measure: str, **bootstrap: int
) -> dict[str, Place]:
    """Return the place of each candidate, by name.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of one case.
    measure : {"rms", "pool"}
    **bootstrap
        n_bootstrap and seed, as in `verification.Repetitions`.
    """
    places = {candidate.name: Place() for candidate in candidates}
    competing = [
        candidate
        for candidate in candidates
        if candidate.role == "method" and math.isfinite(candidate.score(measure))
    ]
    if not competing:
        return places
    competing.sort(key=lambda candidate: candidate.score(measure))
    together = repetitions({c.name: c.blocks for c in competing}, measure, **bootstrap)
    if together is None:
        return places
    ties: dict[str, list[str]] = {c.name: [] for c in competing}
    better = dict.fromkeys(ties, 0)
    for i, first in enumerate(competing):
        for second in competing[i + 1 :]:
            if _is_better(first, second, together):
                better[second.name] += 1
            else:
                ties[first.name].append(second.name)
                ties[second.name].append(first.name)
    best = competing[0].name
    for name, tied in ties.items():
        rank = 1 if name == best or best in tied else 1 + better[name]
        places[name] = Place(rank, tuple(tied))
    return places


def _is_better(first: Candidate, second: Candidate, together: Repetitions) -> bool:
    found = together.compare(first.name, second.name)
    clear = found.difference_ci95[1] < 0.0
    return clear and not first.is_scattered(second, found.ratio)


def beaten_optimum(candidates: Sequence[Candidate], **bootstrap: int) -> str | None:
    """Return which method scores better than the optimum, so that it is none.

    By `pool`, which the optimum minimises, with a paired 95 % interval of the ratio
    below 1; None where nothing does.
    """
    optima = [c for c in candidates if c.role == "optimum"]
    for other in (c for c in candidates if c.role == "method"):
        for optimum in optima:
            both = {"a": other.blocks, "b": optimum.blocks}
            found = repetitions(both, "pool", **bootstrap)
            if found is not None and found.compare("a", "b").ratio_ci95[1] < 1.0:
                return other.name
    return None
