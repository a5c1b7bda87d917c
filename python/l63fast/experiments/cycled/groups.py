"""The results of a cycled experiment by case and method, all seeds of one together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from l63fast.experiments.cycled.encoders import TrainedEncoder, of_training
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.cycled.settings import CycledCell
from l63fast.experiments.ranking import Candidate
from l63fast.experiments.seeds import Blocks, blocks_of, by_seed
from l63fast.experiments.settings_file import dump_tables

__all__ = ["Group", "grouped", "method_key"]


@dataclass(frozen=True, eq=False)
class Group:
    """One method on one case: its results with every seed.

    Attributes
    ----------
    results : tuple of CycledResult
        They differ in seeds only.
    """

    results: tuple[CycledResult, ...]

    @property
    def first(self) -> CycledResult:
        """The result whose settings and names stand for all."""
        return self.results[0]

    @property
    def key(self) -> str:
        """What the method is called in its experiment."""
        return method_key(self.first.settings)

    @property
    def case(self) -> str:
        """What the data are called in it, whatever their seed."""
        return _case(self.first.settings)

    @property
    def is_mirror_aware(self) -> bool:
        """Whether the measure that decides is blind to the sign of x and y."""
        return str(self.first.metrics["measure"]).startswith("mirror_")

    @cached_property
    def blocks(self) -> Blocks:
        """Time means of rms and of its square, as in `seeds.blocks_of`."""
        prefix = "mirror_" if self.is_mirror_aware else ""
        names = [f"{prefix}{name}" for name in ("rms", "square")]
        means = [
            np.stack([result.trajectories[name] for name in names], axis=1)
            for result in self.results
        ]
        return blocks_of(self.results, means)

    @property
    def role(self) -> str:
        """What the method says of itself: "method", "baseline" or "optimum"."""
        return self.first.settings.method.role

    @property
    def n_trainings(self) -> int | None:
        """How often a network was trained; None for what is not trained."""
        trained = isinstance(self.first.settings.method, TrainedEncoder)
        return len(self.results) if trained else None

    def candidate(self, name: str) -> Candidate:
        """Return the group as it is compared with others, by a name of its own."""
        return Candidate(name, self.role, self.blocks, self.n_trainings)


def method_key(cell: CycledCell) -> str:
    """Return what a cell's method is called, whichever training of it the cell is."""
    if not isinstance(cell.method, TrainedEncoder):
        return cell.key
    return cell.key.removesuffix(of_training("", cell.method.training.seed))


def _case(cell: CycledCell) -> str:
    return cell.case.removesuffix(f"r{cell.data.seed}").removesuffix("_")


def grouped(results: Sequence[CycledResult]) -> list[list[Group]]:
    """Return the groups of each case, in the order of the results."""
    cases: dict[str, list[Group]] = {}
    for results_of_one in by_seed(results, lambda r: method_key(r.settings)):
        cell = results_of_one[0].settings
        data = {k: v for k, v in cell.to_tables()["data"].items() if k != "seed"}
        group = Group(tuple(results_of_one))
        cases.setdefault(dump_tables({"data": data}), []).append(group)
    return list(cases.values())
