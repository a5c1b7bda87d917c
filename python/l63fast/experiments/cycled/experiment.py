"""Cycled experiments: every method on every case, and what varies between cases."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks
from l63fast.errors import ConfigurationError
from l63fast.experiments.config import ScoreSettings
from l63fast.experiments.cycled.encoders import TrainedEncoder, of_training
from l63fast.experiments.cycled.methods import method_table
from l63fast.experiments.cycled.prepared import Method
from l63fast.experiments.cycled.settings import (
    MEASURES,
    CycledCell,
    CycleSettings,
    data_table,
    with_cycles,
)
from l63fast.experiments.matrix import checked_operators
from l63fast.experiments.settings_file import dump_tables, to_table
from l63fast.twin import TwinSettings

if TYPE_CHECKING:
    from l63fast.experiments.kind import Kind

__all__ = ["VARIED", "CycledAxes", "CycledExperiment", "varied"]


# Settings of the data that an axis replaces.
VARIED: Final = {
    "operator": "operators",
    "sigma": "sigmas",
    "steps_per_cycle": "intervals",
    "Q": "model_error",
    "seed": "seeds",
}


@dataclass(frozen=True)
class CycledAxes:
    """What varies between the cases of an experiment; an empty axis does not.

    Attributes
    ----------
    operators : tuple of str
    sigmas : tuple of float
        Standard deviations of the observation error.
    intervals : tuple of int
        Model steps between observations.
    model_error : float
        Variance of the model error over that of the observation error, in each case;
        0 leaves Q as the data have it.
    seeds : tuple of int
        Repetitions of everything: of data, and of the training of encoders.
    training_seeds : tuple of int
        Repetitions of the training of encoders alone, all of them on the same data.
    measure : {"rms", "pool", "decibel"}
        The score that the table compares: time mean of the instantaneous root mean
        square, root of the mean square over everything, or the latter in dB.
    """

    operators: tuple[str, ...] = ()
    sigmas: tuple[float, ...] = ()
    intervals: tuple[int, ...] = ()
    model_error: float = 0.0
    measure: str = "rms"
    seeds: tuple[int, ...] = ()
    training_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("operators", "sigmas", "intervals", "seeds", "training_seeds"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ConfigurationError(
                    f"{name}: expected each once, got {list(values)}"
                )
        checked_operators(self.operators)
        for sigma in self.sigmas:
            _checks.real("sigmas", sigma, above=0.0)
        for interval in self.intervals:
            _checks.count("intervals", interval, minimum=1)
        for name in ("seeds", "training_seeds"):
            for seed in getattr(self, name):
                _checks.seed(name, seed)
        if self.seeds and self.training_seeds:
            raise ConfigurationError(
                "training_seeds: expected none beside seeds, which repeat the training "
                f"as well, got {list(self.training_seeds)}"
            )
        _checks.real("model_error", self.model_error, minimum=0.0)
        _checks.choice("measure", self.measure, MEASURES)


@dataclass(frozen=True)
class CycledExperiment:
    """Every method on every case.

    Attributes
    ----------
    name : str
        Also the folder of its results.
    axes : CycledAxes
    data : TwinSettings
        Of which the axes replace what they vary.
    cycle : CycleSettings
    methods : dict of str to Method
    scores : ScoreSettings
    """

    name: str
    axes: CycledAxes
    data: TwinSettings
    cycle: CycleSettings
    methods: Mapping[str, Method]
    scores: ScoreSettings = field(default_factory=ScoreSettings)

    @property
    def kind(self) -> Kind:
        """How its cells are run and read."""
        from l63fast.experiments.cycled.kind import CYCLED

        return CYCLED

    def cases(self) -> dict[str, TwinSettings]:
        """Return the data of each case, by a name made of what varies."""
        axes, data = self.axes, self.data
        found = {}
        for operator, sigma, interval, seed in product(
            axes.operators or (data.operator,),
            axes.sigmas or (data.sigma,),
            axes.intervals or (data.steps_per_cycle,),
            axes.seeds or (data.seed,),
        ):
            changes: dict[str, Any] = {
                "operator": operator,
                "sigma": sigma,
                "steps_per_cycle": interval,
                "seed": seed,
            }
            if axes.model_error:
                changes["Q"] = axes.model_error * sigma**2
            parts = (
                (axes.operators, operator),
                (axes.sigmas, f"s{sigma:.6g}"),
                (axes.intervals, f"i{interval}"),
                (axes.seeds, f"r{seed}"),
            )
            name = "_".join(part for values, part in parts if values)
            if name in found:
                raise ConfigurationError(
                    f"sigmas: expected errors that differ in their first 6 digits, got "
                    f"{list(axes.sigmas)}"
                )
            found[name] = with_cycles(data, self.cycle, **changes)
        return found

    def cells(self) -> list[CycledCell]:
        """Return the cells, all methods of one case together.

        Raises
        ------
        ConfigurationError
            If two of them would have one name.
        """
        cells = [
            CycledCell(
                key, case, data, self.cycle, method, self.scores, self.axes.measure
            )
            for case, data in self.cases().items()
            for name, given in self.methods.items()
            for key, method in self._trainings(name, given, data.seed)
        ]
        for name, n in Counter(cell.name for cell in cells).items():
            if n > 1:
                raise ConfigurationError(
                    f"methods: expected names that differ from those of trainings, got "
                    f"{name} twice"
                )
        return cells

    def _trainings(
        self, key: str, method: Method, seed: int
    ) -> list[tuple[str, Method]]:
        """Return a method by its name, or by one for each of its trainings."""
        axes = self.axes
        if not isinstance(method, TrainedEncoder):
            return [(key, method)]
        if axes.training_seeds:
            return [
                (of_training(key, each), _with(method, each))
                for each in axes.training_seeds
            ]
        return [(key, _with(method, seed) if axes.seeds else method)]

    def only(self, keys: list[str]) -> CycledExperiment:
        """Return the experiment with some of its methods, in the order given.

        Raises
        ------
        ConfigurationError
            If it has no such method.
        """
        if not keys:
            raise ConfigurationError("--methods: expected at least one, got none")
        for key in keys:
            if key not in self.methods:
                raise ConfigurationError(
                    f"--methods: {self.name} has no method {key!r} (it has "
                    f"{', '.join(self.methods)})"
                )
        chosen = {key: self.methods[key] for key in keys}
        return dataclasses.replace(self, methods=chosen)

    def to_toml(self) -> str:
        """Return the experiment as TOML that `reading.experiment_from_tables` reads."""
        return dump_tables(
            {
                "experiment": to_table(self.axes),
                "data": _without(data_table(self.data), varied(self.axes)),
                "cycle": to_table(self.cycle),
                "scores": to_table(self.scores),
                "methods": {k: method_table(m) for k, m in self.methods.items()},
            }
        )


def _with(method: TrainedEncoder, seed: int) -> TrainedEncoder:
    """Return an encoder whose training draws what belongs to a seed."""
    training = dataclasses.replace(method.training, seed=seed)
    return dataclasses.replace(method, training=training)


def varied(axes: CycledAxes) -> dict[str, str]:
    """Return which settings of the data an experiment varies, and by which axis."""
    return {key: axis for key, axis in VARIED.items() if getattr(axes, axis)}


def _without(table: dict[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}
