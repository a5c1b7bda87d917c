"""Comparison of schemes on the test split of a twin experiment, in one call."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks
from l63fast._progress import Progress, shown
from l63fast.assimilation.cycling import CycleResult, plan_cycles, run_cycles
from l63fast.assimilation.ensemble import EnKF
from l63fast.assimilation.four_d_var import FourDVar
from l63fast.assimilation.kalman import ExtendedKalman
from l63fast.assimilation.particle import ParticleFilter
from l63fast.assimilation.scheme import Scheme, check_scheme
from l63fast.assimilation.three_d_var import ThreeDVar
from l63fast.errors import ArgumentTypeError, ArgumentValueError
from l63fast.experiments.describe import Table
from l63fast.experiments.protocols import (
    Cycles,
    Problem,
    has_small_ensembles,
)
from l63fast.experiments.results import facts_of, joined, numbers
from l63fast.experiments.run_cell import scored
from l63fast.experiments.scoring import case_title, scores
from l63fast.experiments.settings import MEASURES
from l63fast.experiments.tables import compared_table
from l63fast.twin import TwinExperiment

if TYPE_CHECKING:
    import pandas as pd

_SPLIT: Final = "test"
_SCORED_PARTICLES: Final = 4_000_000  # in about a second
# Names of the schemes in experiments; they decide the colours in figures.
_KINDS: Final[dict[type[Any], str]] = {
    ThreeDVar: "3dvar",
    FourDVar: "4dvar",
    ExtendedKalman: "extkf",
    EnKF: "enkf",
    ParticleFilter: "pf",
}


@dataclass(frozen=True, eq=False, repr=False)
class SchemeComparison:
    """Scores and cycles of schemes that were compared; it prints as a table.

    Attributes
    ----------
    runs : mapping of str to CycleResult
        The cycles of each scheme; members are kept if they are not too large.
    results : DataFrame
        A row per scheme and test trajectory, with the columns of `open_results`, for
        `scores`.
    board : DataFrame
        A row per scheme, best first, as `scores` returns it. `ratio_to_3dvar` is the
        ratio to the scheme `versus`.
    measure : str
    versus : str
    """

    runs: Mapping[str, CycleResult]
    results: pd.DataFrame
    board: pd.DataFrame
    measure: str
    versus: str

    def figure(self) -> Any:
        """Return the scores with their 95 % intervals as a matplotlib figure."""
        from l63fast import plotting

        board = self.board
        marks = board["rare_losses"].map({True: " *", False: ""})
        board = board.assign(label=board["label"] + marks)
        legend = "line: 95 % interval" + "; *: rare losses" * any(marks)
        return plotting.method_scores(
            {
                row.label: plotting.MethodScore(row.score, (row.low, row.high))
                for row in board.itertuples()
            },
            label=f"{board.attrs['measure']} ({legend})",
            title=case_title(next(board.itertuples())),
            among=dict(zip(board["label"], board["scheme"], strict=True)),
        )

    def __repr__(self) -> str:
        """Return the table as text."""
        from rich.console import Console

        table = self._table().rich()
        text = io.StringIO()
        # In a notebook rich would show the table itself, and write nothing.
        console = Console(file=text, width=1000, color_system=None, force_jupyter=False)
        console.width = max(80, console.measure(table).minimum)
        console.print(table, highlight=False, markup=False)
        return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        import pandas as pd

        table = self._table()
        frame = pd.DataFrame(table.lines, columns=table.header)
        return f"<p>{table.title}</p>\n{frame.to_html(index=False, border=0)}"

    def _table(self) -> Table:
        return compared_table(self.board, self.versus)


def compare(
    schemes: Mapping[str, Scheme[Any]],
    twin: TwinExperiment,
    *,
    n_cycles: int | None = None,
    burn_in: int = 0,
    initial: np.ndarray | None = None,
    warm_up: Scheme[Any] | None = None,
    seed: _checks.Seed | None = None,
    imperfect_model: bool = False,
    measure: str = "rmse_a",
    versus: str | None = None,
    n_bootstrap: int = 1000,
    progress: Progress = False,
) -> SchemeComparison:
    """Return scores and paired comparisons of schemes, cycled over the test split.

    All schemes have the same cycles, burn-in, first background and seed. If the window
    of a scheme is longer than the burn-in, the burn-in of all schemes is longer too.

    Parameters
    ----------
    schemes : mapping of str to Scheme
        The schemes by their names in tables.
    twin : TwinExperiment
    n_cycles, burn_in, initial, warm_up, seed, imperfect_model
        As in `run_cycles`: `burn_in` is a number of cycles, not a time.
    measure, n_bootstrap
        As in `scores`.
    versus : str, optional
        The scheme by whose score the others are divided; by default "3dvar" if there is
        one, otherwise the first.
    progress : bool or callable
        Show the progress on standard error; a callable is given each line.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If an argument is not as described, or a scheme was made for other settings than
        those of the twin.
    """
    _checks.instance("twin", twin, TwinExperiment)
    names = _checked_names(schemes)
    if versus is None:
        versus = "3dvar" if "3dvar" in names else names[0]
    versus = _checks.choice("versus", versus, names)
    chosen = MEASURES[_checks.choice("measure", measure, MEASURES)]
    n_bootstrap = _checks.count("n_bootstrap", n_bootstrap, minimum=1)
    seed = twin.settings.seed if seed is None else _checks.seed("seed", seed)
    options: dict[str, Any] = {
        "n_cycles": n_cycles,
        "initial": initial,
        "warm_up": warm_up,
        "imperfect_model": imperfect_model,
    }
    # All schemes are checked before the first one runs.
    first = 0
    for name, scheme in schemes.items():
        try:
            plan = plan_cycles(scheme, twin, _SPLIT, burn_in=burn_in, **options)
        except ArgumentValueError as error:
            raise ArgumentValueError(f"schemes[{name!r}]: {error}") from error
        first = max(first, plan.first)
    problem, runs, tables = Problem(twin, Cycles(), chosen.kind), {}, []
    n_states = twin.settings.n_test * twin.settings.n_obs
    with shown(progress) as say:
        for name, scheme in schemes.items():
            say(name)
            keep = has_small_ensembles(scheme, n_states)
            run = run_cycles(
                scheme,
                twin,
                _SPLIT,
                burn_in=first,
                seed=seed,
                keep_members=keep,
                score_particles=_SCORED_PARTICLES,
                progress=lambda line, name=name: say(f"{name}: {line}"),  # type: ignore[misc]
                **options,
            )
            estimates = problem.estimates(_SPLIT, scheme, run.scored, vars(run))
            columns = estimates.trajectory_columns(blind=twin.operator.is_mirror_blind)
            metrics = scored(estimates, twin, scheme, n_bootstrap=n_bootstrap)
            times = {
                "per_cycle": run.seconds_per_cycle,
                "per_analysis": run.seconds_per_analysis,
            }
            facts = numbers(facts_of(metrics, times, "method"))
            tables.append(_rows(name, scheme, twin, columns).assign(**facts))
            runs[name] = run
    results = joined(tables)
    board = scores(results, measure, versus, n_bootstrap=n_bootstrap)
    board["in_decibel"] = chosen.in_decibel
    board.attrs["measure"] = chosen.shown(twin.operator.is_mirror_blind)
    return SchemeComparison(runs, results, board, measure, versus)


def _checked_names(schemes: Mapping[str, Any]) -> list[str]:
    if not isinstance(schemes, Mapping):
        raise ArgumentTypeError(
            "schemes: expected a mapping of names to schemes, such as "
            f"{{'enkf': EnKF(...)}}, got {type(schemes).__name__}"
        )
    if not schemes:
        raise ArgumentValueError("schemes: expected at least one scheme, got none")
    for name, scheme in schemes.items():
        if not isinstance(name, str) or not name.strip():
            raise ArgumentTypeError(f"schemes: expected names, got the key {name!r}")
        check_scheme(f"schemes[{name!r}]", scheme)
    return list(schemes)


def _rows(
    name: str,
    scheme: Scheme[Any],
    twin: TwinExperiment,
    columns: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Return the rows of a scheme: time means of trajectories, and common columns."""
    import pandas as pd

    data = twin.settings
    frame = pd.DataFrame(columns).rename_axis("trajectory").reset_index()
    return frame.assign(
        operator=data.operator_name,
        sigma=data.sigma,
        interval=data.steps_per_cycle * data.dt,
        missing=data.missing,
        case=data.irregular,
        method=name,
        label=name,
        role="method",
        scheme=_KINDS.get(type(scheme), type(scheme).__name__),
        cell=name,
        parameter="",
        start="",
        mirror_aware=twin.operator.is_mirror_blind,
        seed=data.seed,
        training=-1,
        data=twin.hashes[_SPLIT],
    )
