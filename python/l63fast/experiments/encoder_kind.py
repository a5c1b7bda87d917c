"""How the cells of experiments with encoders are run, read and summarised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from l63fast.experiments.cell import run_cell
from l63fast.experiments.config import CellSettings
from l63fast.experiments.describe import (
    counted,
    describe_data,
    describe_optimum,
    describe_outcome,
    observed,
)
from l63fast.experiments.encoder_experiment import EncoderExperiment
from l63fast.experiments.kind import Kind
from l63fast.experiments.optimum import (
    OPTIMUM,
    OptimumCell,
    OptimumResult,
    run_optimum,
)
from l63fast.experiments.report import table_of, write_summary
from l63fast.experiments.result import Result

__all__ = ["ENCODERS"]

_UNITS: Final = {
    "sigmas": "sigma",
    "intervals": "steps between observations",
    "windows": "observations in a window",
    "backgrounds": "background",
    "losses": "loss",
    "regimes": "background:loss",
    "n_iterations": "K =",
    "seeds": "seed",
}


def _run(
    cell: CellSettings | OptimumCell, data: Path, directory: Path, **how: Any
) -> dict[str, Any]:
    run: Any = run_optimum if isinstance(cell, OptimumCell) else run_cell
    metrics: dict[str, Any] = run(cell, data, directory, **how)
    return metrics


def _open(directory: Path) -> Result | OptimumResult:
    if (directory / OPTIMUM).exists():
        return OptimumResult.open(directory)
    return Result.open(directory)


def _described(metrics: Any) -> str:
    told = describe_optimum if "claimed" in metrics else describe_outcome
    return told(metrics)


def _announced(experiment: EncoderExperiment) -> list[str]:
    axes, cells = experiment.axes, experiment.encoders()
    what = " | ".join(
        observed(o) for o in dict.fromkeys(c.data.operator for c in cells)
    )
    models = ", ".join(dict.fromkeys(cell.model.model for cell in cells))
    varied = [
        f"{unit} {', '.join(f'{value}' for value in getattr(axes, name))}"
        for name, unit in _UNITS.items()
        if getattr(axes, name)
    ]
    n_optima = len(experiment.cells()) - len(cells)
    optima = f" and {counted(n_optima, 'optimum', 'optima')}" if n_optima else ""
    n_cells = counted(len(cells), "cell")
    return [
        f"experiment  {experiment.name}: "
        f"{'; '.join([f'{models} on {what}', *varied])}: {n_cells}{optima}",
        f"data        {describe_data(cells[0].data, what=what)}",
    ]


def _alike(cell: CellSettings | OptimumCell) -> tuple[str, int]:
    if isinstance(cell, OptimumCell):
        return OPTIMUM, 0
    return cell.model.model, cell.model.n_iterations


def _expected(cells: Sequence[CellSettings | OptimumCell]) -> tuple[float, str]:
    from l63fast.experiments.calibration import expected_seconds

    encoders = [cell for cell in cells if isinstance(cell, CellSettings)]
    left_out = "" if len(encoders) == len(cells) else "without the optima"
    return expected_seconds(encoders), left_out


ENCODERS: Final = Kind(
    run=_run,
    open=_open,
    describe=_described,
    alike=_alike,
    announce=_announced,
    summarise=write_summary,
    table=table_of,
    expect=_expected,
)
