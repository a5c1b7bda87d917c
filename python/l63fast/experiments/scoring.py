"""Scores of every method of every case, from the table of results, and a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from l63fast import _checks
from l63fast._user_code import file_name
from l63fast.errors import ArgumentValueError
from l63fast.experiments.describe import observed
from l63fast.experiments.diagnostics import DIAGNOSTICS
from l63fast.experiments.published import beside_published
from l63fast.experiments.results import (
    CASE,
    FACTS,
    MEANS,
    OF_METHOD,
    Result,
    Source,
    results_of,
)
from l63fast.experiments.settings import MEASURES, Measure
from l63fast.verification import Comparison, Repetitions

if TYPE_CHECKING:
    import pandas as pd
    import xarray

Rows = Sequence[Any]  # of one case, best first

# Trainings of one network that differ in their seed alone differ by up to this share.
TRAINING_SCATTER: Final = 0.02
_POOLED: Final = MEASURES["rmse_pooled_a"]
_ONE_ROW: Final = (*CASE, "method", "seed", "training", "data", "trajectory")


def scores(
    results: pd.DataFrame,
    measure: str = "rmse_a",
    versus: str = "3dvar",
    *,
    n_bootstrap: int = 1000,
    seed: _checks.Seed = 0,
) -> pd.DataFrame:
    """Return score, interval, rank and paired ratios of every method of every case.

    Parameters
    ----------
    results : DataFrame
        As `open_results` gives it.
    measure : {"rmse_a", "rmse_pooled_a", "decibel"}
        Time mean of the instantaneous root mean square error (DAPPER's rmse.a), root of
        the mean square error over everything, or the latter in dB; mirror-aware where
        the observations cannot tell a state from its mirror image.
    versus : str
        Key of the method that `ratio_to_3dvar` is against; where a case lacks it, that
        is missing.
    n_bootstrap : int
    seed : int, SeedSequence or Generator
        Of the resampling behind every interval.

    Returns
    -------
    DataFrame
        A row per case and method, best first. `score` with its 95 % interval `low`,
        `high`; `rank`: 1 for the best and all that cannot be told from it, missing for
        what does not compete or is made by rare losses; `wins`: whether it is better
        than every other method, beyond doubt; `ties`: keys of the methods that it
        cannot be told from (the paired 95 % interval holds 0, or two networks, one of
        them trained once, differ by less than trainings do); ratios `ratio_to_best`
        (the lowest score of rank 1) and `ratio_to_3dvar` by this measure, and
        `ratio_to_optimum` of `rmse_pooled_a` (of several optima the one of the lowest
        score), paired, each with `_low` and `_high`; `rmse_a`,
        `rmse_pooled_a`; `rare_losses`, `median`, and `lost`, the share of trajectories
        that are lost, with `_low` and `_high`; `n_data`, `n_trainings` (0 for what is
        not trained), `n_trajectories`; the columns of the case and of the method, and
        the means of `FACTS`. The role of an optimum that a method beats is "not
        settled", and nothing is compared with it.

    Raises
    ------
    ArgumentValueError, ArgumentTypeError
        If the measure is none of these, no method has the key `versus` (other than the
        usual one), or the results lack columns, or have a row twice.
    """
    import pandas as pd

    columns = dict.fromkeys((*_ONE_ROW, *OF_METHOD, *MEANS, *FACTS))
    missing = [column for column in columns if column not in results]
    if missing or results.empty:
        raise ArgumentValueError(
            "results: expected a table as open_results gives it, got one without "
            f"{', '.join(missing) or 'rows'}"
        )
    if results.duplicated(list(_ONE_ROW)).any():
        raise ArgumentValueError(
            "results: expected each trajectory of a method, seed and training once, "
            "got some twice"
        )
    if versus != "3dvar":
        _checks.choice("versus", versus, dict.fromkeys(results["method"]))
    chosen = MEASURES[_checks.choice("measure", measure, MEASURES)]
    bootstrap = {"n_bootstrap": _checks.count("n_bootstrap", n_bootstrap, minimum=1)}
    bootstrap["seed"] = _checks.seed("seed", seed)
    rows = []
    for case, group in results.groupby(list(CASE), sort=False):
        given = dict(zip(CASE, case, strict=True))
        rows += [given | row for row in _Case(group, chosen, bootstrap).rows(versus)]
    return pd.DataFrame(rows).astype({"rank": "Int64"})


class _Case:
    """The methods of one case, by key, on the trajectories that they were tried on."""

    def __init__(
        self, results: pd.DataFrame, measure: Measure, bootstrap: Mapping[str, int]
    ) -> None:
        self.measure, self.bootstrap = measure, bootstrap
        self.blind = bool(results["mirror_aware"].iloc[0])
        self.methods = dict(iter(results.groupby("method", sort=False)))
        self.role = {key: m["role"].iloc[0] for key, m in self.methods.items()}
        self.start = {key: str(m["start"].iloc[0]) for key, m in self.methods.items()}
        means = list(MEANS)
        # Time means by method and data: a row per training, a column per trajectory.
        self.blocks = {
            key: {
                data: rows.pivot(index="training", columns="trajectory", values=means)
                for data, rows in method.groupby("data")
            }
            for key, method in self.methods.items()
        }
        self._shapes = {
            key: tuple((d, len(b), tuple(b["rmse_a"])) for d, b in blocks.items())
            for key, blocks in self.blocks.items()
        }
        self._resampled: dict[Any, Repetitions | None] = {}
        self.n_trainings = {
            key: sum(map(len, self.blocks[key].values())) * (m["training"].min() >= 0)
            for key, m in self.methods.items()
        }

    def repetitions(self, keys: list[str], measure: Measure) -> Repetitions | None:
        """Return methods on the trajectories that all were tried on, and maybe others.

        None if they have no data in common. Resampling is the same for all methods of
        the same trajectories and trainings: it is done once for all of these.
        """
        shapes = {self._shapes[key] for key in keys}
        if len(shapes) == 1:
            keys = [key for key, shape in self._shapes.items() if shape in shapes]
        asked = (tuple(keys), measure)
        if asked not in self._resampled:
            self._resampled[asked] = self._common(keys, measure)
        return self._resampled[asked]

    def _common(self, keys: list[str], measure: Measure) -> Repetitions | None:
        """Return methods together, on the trajectories that all were tried on.

        A method that was trained more often than another has its first trainings.
        """
        blocks = {key: self.blocks[key] for key in keys}
        data = sorted(set.intersection(*map(set, blocks.values())))
        tried = {
            d: sorted(set.intersection(*(set(b[d]["rmse_a"]) for b in blocks.values())))
            for d in data
        }
        n = min(map(len, tried.values()), default=0)
        if n == 0:
            return None
        trained = {key: min(len(b[d]) for d in data) for key, b in blocks.items()}
        most = min((number for number in trained.values() if number > 1), default=1)

        def means(column: str) -> dict[str, np.ndarray]:
            name, found = f"mirror_{column}" if self.blind else column, {}
            for key, block in blocks.items():
                tables = (block[d][name][tried[d][:n]].to_numpy(float) for d in data)
                kept = min(trained[key], most)
                found[key] = np.stack([table[:kept] for table in tables])
            return found

        return Repetitions.of(
            means(measure.column),
            measure=measure.kind,
            rmse_means=means("rmse_a"),
            **self.bootstrap,
        )

    def _alone(self, key: str, measure: Measure) -> tuple[Repetitions, float]:
        """Return a method, with others like it, and its score."""
        found = self.repetitions([key], measure)
        assert found is not None
        return found, float(found.scores[found.names.index(key)])

    def compared(self, a: str, b: str | None, measure: Measure) -> Comparison | None:
        """Return one method beside another, paired; None where that makes no sense."""
        if b is None or b == a or b not in self.methods:
            return None
        both = self.repetitions([a, b], measure)
        return None if both is None else both.compare(a, b)

    def rows(self, versus: str) -> list[dict[str, Any]]:
        """Return the row of each method, best first, what diverged last."""
        optima = self._sorted("optimum", _POOLED)
        optimum = optima[0] if optima else None  # of several, the one that is nearest
        if optimum is not None and self._is_beaten(optimum):
            self.role |= dict.fromkeys(optima, "not settled")
            optimum = None
        competing = self._sorted("method", self.measure)
        ranks = self._ranks(competing)
        best = next((k for k in competing if ranks[k]["rank"] == 1), None)
        # Whether a method without a rank is the best is not known: then nobody wins.
        sure = best is not None and best == competing[0] and not ranks[best]["ties"]
        rows = []
        for key, method in self.methods.items():
            row = method[list(OF_METHOD)].iloc[0].to_dict()
            row |= {"role": self.role[key], "mirror_aware": self.blind}
            if row["role"] == "not settled":
                row["label"] = "not settled"
            row |= self._score(key) | ranks.get(key, {"rank": None, "ties": ()})
            row["wins"] = sure and key == best and len(competing) > 1
            bound = optimum if self._is_bounded(key, optimum) else None
            for name, other, measure in (
                ("ratio_to_best", best, self.measure),
                ("ratio_to_3dvar", versus, self.measure),
                ("ratio_to_optimum", bound, _POOLED),
            ):
                row |= _ratio(name, self.compared(key, other, measure))
            row |= method[list(FACTS)].drop_duplicates().mean().to_dict()
            rows.append(row)
        return sorted(rows, key=lambda row: np.nan_to_num(row["score"], nan=np.inf))

    def _score(self, key: str) -> dict[str, Any]:
        score = self._alone(key, self.measure)[0].score(key)
        if self.role[key] == "baseline":  # climatology defines when others are lost
            nan = (math.nan, math.nan)
            score = replace(score, lost=math.nan, lost_ci95=nan, rare_losses=False)
        value, blocks = self.measure.value, self.blocks[key].values()
        return {
            "score": value(score.value),
            "low": value(score.ci95[0]),
            "high": value(score.ci95[1]),
            "rmse_a": self._alone(key, MEASURES["rmse_a"])[1],
            "rmse_pooled_a": self._alone(key, _POOLED)[1],
            "rare_losses": score.rare_losses,
            "median": value(score.median),
            "lost": score.lost,
            "lost_low": score.lost_ci95[0],
            "lost_high": score.lost_ci95[1],
            "n_data": len(blocks),
            "n_trainings": self.n_trainings[key],
            "n_trajectories": sum(len(tuple(b["rmse_a"])) for b in blocks),
        }

    def _sorted(self, role: str, measure: Measure) -> list[str]:
        """Return the methods of a role that did not diverge, best first."""
        keys = (key for key, its in self.role.items() if its == role)
        values = {key: self._alone(key, measure)[1] for key in keys}
        able = [key for key, value in values.items() if math.isfinite(value)]
        return sorted(able, key=values.__getitem__)

    def _ranks(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        together = self.repetitions(keys, self.measure) if keys else None
        if together is None:
            return {key: {"rank": None, "ties": ()} for key in keys}
        found = together.standings(tuple(keys), tie=self._is_scatter)
        return {key: {"rank": r.rank, "ties": r.ties} for key, r in found.items()}

    def _is_scatter(self, a: str, b: str, found: Comparison) -> bool:
        """Whether two networks differ by no more than two trainings of one do."""
        numbers = (self.n_trainings[a], self.n_trainings[b])
        return min(numbers) == 1 and abs(found.ratio - 1.0) < TRAINING_SCATTER

    def _is_bounded(self, key: str, optimum: str | None) -> bool:
        """Whether a method was given what the optimum was, and no other background."""
        return optimum is not None and self.start[key] == self.start[optimum]

    def _is_beaten(self, optimum: str) -> bool:
        """Whether a method scores better than the optimum by more than its interval."""
        able = (key for key, role in self.role.items() if role == "method")
        bounded = (key for key in able if self._is_bounded(key, optimum))
        found = (self.compared(key, optimum, _POOLED) for key in bounded)
        return any(c is not None and c.ratio_ci95[1] < 1.0 for c in found)


def _ratio(name: str, found: Comparison | None) -> dict[str, float]:
    ratio, low, high = (found.ratio, *found.ratio_ci95) if found else [math.nan] * 3
    return {name: ratio, f"{name}_low": low, f"{name}_high": high}


class Summary:
    """What everything that is shown of an experiment is made from.

    Attributes
    ----------
    source : Source
    measure : Measure
        The one that decides.
    is_tuning : bool
        Whether methods were tuned and nothing else.
    """

    def __init__(self, source: Source) -> None:
        settings = source.results[0].settings
        self.source = source
        self.measure = MEASURES[settings.measure]
        self.is_tuning = settings.tune_only
        self._diagnostics: dict[str, xarray.Dataset] = {}

    @cached_property
    def results(self) -> pd.DataFrame:
        """As `open_results` gives it."""
        return results_of(self.source.results)

    @cached_property
    def board(self) -> pd.DataFrame:
        """As `scores` gives it, with published scores beside.

        Methods of a case that have the same label are told apart by their keys.
        """
        import pandas as pd

        how = asdict(self.source.results[0].settings.scores)
        board = scores(self.results, self.measure.name, **how)
        cells = (self.cell(row).settings for row in board.itertuples())
        beside = map(beside_published, cells, board.itertuples())
        keyed = board["label"] + " [" + board["method"] + "]"
        twice = board.duplicated([*CASE, "label"], keep=False)
        labels = board["label"].mask(twice, keyed)
        board = board.assign(in_decibel=self.measure.in_decibel, label=labels)
        return board.join(pd.DataFrame(beside))

    @cached_property
    def cases(self) -> list[Rows]:
        """The rows of each case, best first; `rank` is an int or None."""
        ranks = self.board["rank"].astype(object)
        board = self.board.assign(rank=ranks.where(ranks.notna(), None))
        return [
            list(rows.itertuples(index=False))
            for _, rows in board.groupby(list(CASE), sort=False)
        ]

    @property
    def rows(self) -> Rows:
        """The rows of all cases."""
        return [row for rows in self.cases for row in rows]

    @cached_property
    def featured(self) -> list[Rows]:
        """The cases whose states are shown: one per operator, that in its middle."""
        by_operator: dict[str, list[Rows]] = {}
        for rows in self.cases:
            by_operator.setdefault(rows[0].operator, []).append(rows)
        return [found[len(found) // 2] for found in by_operator.values()]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Every method and its kind, so that each looks alike in all figures."""
        methods = {row.label: self.cell(row).settings.method for row in self.rows}
        return {k: str(getattr(m, "model", m.scheme)) for k, m in methods.items()}

    def suffix(self, rows: Rows) -> str:
        """Return what tells the files of a featured case apart; empty for one case."""
        return f"_{file_name(rows[0].operator)}" if len(self.featured) > 1 else ""

    def cell(self, row: Any) -> Result:
        """Return the opened cell, of its first seed, that a row was made of."""
        return self.source.cells[row.cell]

    def diagnostics(self, row: Any) -> xarray.Dataset:
        """Return the diagnostics of a row, of its first seed, in double precision."""
        if row.cell not in self._diagnostics:
            data = self.cell(row).dataset(DIAGNOSTICS)
            self._diagnostics[row.cell] = data.astype(float)
        return self._diagnostics[row.cell]


def best_of(rows: Rows) -> Any:
    """Return the row of lowest score among those that compete; None without one."""
    able = (r for r in rows if r.role == "method" and math.isfinite(r.score))
    return next(able, None)


def case_title(row: Any) -> str:
    """Return what the data of a row are."""
    more = f", {row.case}" if row.case else ""
    return (
        f"{observed(row.operator)} observed with σ = {row.sigma:.3g} every "
        f"{row.interval:g} time units{more}"
    )
