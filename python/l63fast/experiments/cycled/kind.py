"""How the cells of cycled experiments are run, read and summarised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

from l63fast.experiments.cycled.cell import run_cycled_cell
from l63fast.experiments.cycled.experiment import CycledExperiment
from l63fast.experiments.cycled.result import CycledResult
from l63fast.experiments.describe import describe_data, shown_measure
from l63fast.experiments.kind import Kind
from l63fast.experiments.report import table_of, write_summary

__all__ = ["CYCLED", "announced"]


def _described(metrics: Mapping[str, Any]) -> str:
    measure = metrics["measure"]
    value = float(metrics["scores"][measure])
    found = f"{value:.4g}" if math.isfinite(value) else "diverged"
    return f"{metrics['label']}: {shown_measure(measure)} {found}"


def announced(experiment: CycledExperiment) -> list[str]:
    """Return the lines that say what will be done."""
    cases, cycle = experiment.cases(), experiment.cycle
    n_cells = len(experiment.cells())
    first = next(iter(cases.values()))
    data = describe_data(first)
    if len(cases) > 1:
        data = f"{len(cases)} cases: {', '.join(cases)}; the first: {data}"
    return [
        f"experiment  {experiment.name}: {', '.join(experiment.methods)}: {n_cells} "
        f"cell{'s' if n_cells > 1 else ''}",
        f"data        {data}",
        f"cycles      {cycle.n_cycles} scored after {cycle.burn_in:g} time units, from "
        f"truth + N(0, {cycle.initial_spread**2:.3g} I)",
    ]


CYCLED: Final = Kind(
    run=run_cycled_cell,
    open=CycledResult.open,
    describe=_described,
    alike=attrgetter("method_key"),
    announce=announced,
    summarise=write_summary,
    table=table_of,
)
