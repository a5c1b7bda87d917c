"""How the cells of experiments with encoders are run, read and summarised."""

from __future__ import annotations

from typing import Final

from l63fast.experiments.cell import run_cell
from l63fast.experiments.describe import describe_data, describe_outcome, observed
from l63fast.experiments.encoder_experiment import EncoderExperiment
from l63fast.experiments.kind import Kind
from l63fast.experiments.report import write_summary
from l63fast.experiments.result import Result
from l63fast.experiments.table import rich_table

__all__ = ["ENCODERS"]


def _announced(experiment: EncoderExperiment) -> list[str]:
    axes, cells = experiment.axes, experiment.cells()
    what = " | ".join(observed(name) for name in axes.operators)
    return [
        f"experiment  {experiment.name}: {', '.join(axes.models)} on {what} with K = "
        f"{', '.join(str(n) for n in axes.n_iterations)}: {len(cells)} cells",
        f"data        {describe_data(cells[0].data, what=what)}",
    ]


ENCODERS: Final = Kind(
    run=run_cell,
    open=Result.open,
    describe=describe_outcome,
    announce=_announced,
    summarise=write_summary,
    table=rich_table,
)
