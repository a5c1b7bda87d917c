"""Named experiments, as the tables of a TOML file; nothing about them is special."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from l63fast.experiments.config import merged
from l63fast.experiments.cycled.encoder_presets import ENCODERS, RECIPES
from l63fast.experiments.cycled.presets import CYCLED
from l63fast.experiments.kind import Experiment

__all__ = ["DEFAULT", "PRESETS", "RECIPES", "experiment_from_tables", "with_preset"]

Tables = dict[str, Any]

DEFAULT: Final = "quick"
PRESETS: Final[dict[str, Tables]] = {
    # The encoders of this package in one table, a few minutes on two cores.
    "quick": {"training": {"epochs": 10}},
    **CYCLED,
    **ENCODERS,
}


def with_preset(name: str, tables: Mapping[str, Any]) -> Tables:
    """Return tables laid over those of a preset.

    Tables that say `[methods]` themselves are whole: they replace those of the preset.
    """
    preset = deepcopy(PRESETS[name])
    if "methods" in tables:
        preset.pop("methods", None)
    return merged(preset, tables)


def experiment_from_tables(
    name: str, tables: Mapping[str, Any], *, source: str
) -> Experiment:
    """Return an experiment: a cycled one if there are `[methods]`, else of encoders.

    Raises
    ------
    ConfigurationError
        If a table or key is unknown, or a value has the wrong type or makes no sense.
    """
    if "methods" in tables:
        from l63fast.experiments.cycled import reading

        return reading.experiment_from_tables(name, tables, source=source)
    from l63fast.experiments.encoder_experiment import encoders_from_tables

    return encoders_from_tables(name, tables, source=source)
