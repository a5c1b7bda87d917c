"""Finished cells: what their folders hold, and all of them in one tidy table."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks, storage
from l63fast.errors import (
    DataFileError,
    L63Error,
    ResultError,
    all_printable,
    printable,
)
from l63fast.experiments.describe import describe_outcome
from l63fast.experiments.methods import HISTORY, TrainedEncoder
from l63fast.experiments.settings import NO_CELLS, REPORT, Cell
from l63fast.experiments.settings_file import parse_tables
from l63fast.observation import as_operator

if TYPE_CHECKING:
    import pandas as pd
    import xarray

    from l63fast.experiments.protocols import Estimates

CONFIG: Final = "config.toml"
METRICS: Final = "metrics.json"
RESULTS: Final = "results.csv"
TIMING: Final = "timing.json"
ESTIMATES: Final = "estimates.nc"
_READ: Final = (CONFIG, METRICS, TIMING, RESULTS, HISTORY)
# What `timing.json` says of where and when, for the provenance of a report.
MADE_ON: Final = ("python", "backend", "machine", "platform", "started")

# What the methods of one comparison were given.
CASE: Final = ("operator", "sigma", "interval", "case")
OF_METHOD: Final = (
    *("method", "label", "role", "scheme", "cell", "parameter", "start"),
    "mirror_aware",
)
# Time means of one trajectory: of the instantaneous root mean square error over x, y, z
# and of its square, of the analyses and of the nearer of each and its mirror image.
MEANS: Final = ("rmse_a", "mse_a", "mirror_rmse_a", "mirror_mse_a")
# The same of the backgrounds, and more.
MORE_MEANS: Final = (*(name.removesuffix("a") + "f" for name in MEANS), "crps")
# Numbers of a whole cell, the same in each of its rows; NaN where it has none.
TIMES: Final = (
    *("seconds_per_cycle", "seconds_per_analysis", "training_seconds", "resumed"),
)
FACTS: Final = (
    *("p95", "sign_flips", "diverged", "truth_lost", "spread_ratio"),
    *("innovation_ratio", "innovation_low", "innovation_high", "effective_size"),
    *("cost_ratio", "tuned", "settled", *TIMES),
)


@dataclass(frozen=True)
class Result:
    """A finished result folder, verified against its manifest when it is opened.

    Attributes
    ----------
    directory : Path
    manifest : storage.Manifest
    settings : Cell
    metrics, timing : dict
        The contents of `metrics.json` and `timing.json`.
    tables : dict of bytes
        The files of numbers, as they were when it was opened.
    """

    directory: Path
    manifest: storage.Manifest
    settings: Cell
    metrics: Mapping[str, Any]
    timing: Mapping[str, Any]
    tables: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Result:
        """Return the result in a folder.

        Raises
        ------
        DataFileError
            If it is missing or damaged, or is no result of this version.
        """
        directory = _checks.path("result_dir", path)
        manifest, files = storage.read_directory(directory, *_READ)
        for name in (CONFIG, METRICS, TIMING):
            if name not in files:
                raise DataFileError(
                    f"{directory}: expected the result of a method, got a folder "
                    f"without {name}"
                )
        with storage.content_errors(directory):
            return cls._of(directory, manifest, files)

    @classmethod
    def _of(
        cls, directory: Path, manifest: storage.Manifest, files: Mapping[str, bytes]
    ) -> Result:
        """Return the result, what tables are made of found in it."""
        tables, metrics, earlier = _described(directory, files)
        if earlier:
            raise DataFileError(
                f"{directory}: was made by l63fast {earlier}, whose results have "
                "another form: run the same `l63fast experiment` or `l63fast train` "
                "again, into another folder or with --overwrite"
            )
        with storage.content_errors(directory / CONFIG):
            settings = Cell.from_tables(tables, source=str(directory / CONFIG))
        timing = all_printable(json.loads(files[TIMING]))
        found = cls(directory, manifest, settings, metrics, timing, files)
        # All that is asked of any result: what makes no sense is to fail here.
        _ = describe_outcome(metrics), str(metrics["versions"]["l63fast"])
        _ = [str(timing[name]) for name in ("data", *MADE_ON)], found.history
        if settings.tune_only:
            tuned_numbers([found])
            return found
        columns_of(found)
        expected = metrics["n_trajectories"]
        got = len(found.trajectories[["trajectory", *MEANS, *MORE_MEANS]])
        if got != expected:
            raise DataFileError(
                f"{directory}: expected {expected} rows in {RESULTS}, got {got}"
            )
        return found

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch of a training; empty without one."""
        if HISTORY not in self.tables:
            return []
        rows: list[dict[str, float]] = self._table(HISTORY).to_dict("records")
        return rows

    @cached_property
    def trajectories(self) -> pd.DataFrame:
        """The rows of its `results.csv`, one per test trajectory."""
        return self._table(RESULTS)

    @cached_property
    def estimates(self) -> xarray.Dataset:
        """Truth, observations and states of the test split.

        Raises
        ------
        DataFileError
            If they were not kept, or are damaged.
        """
        if ESTIMATES not in self.manifest.files:
            raise DataFileError(
                f"{self.directory}: keeps no states of the test split: run it again "
                "with --keep_states"
            )
        return self.dataset(ESTIMATES)

    def dataset(self, name: str) -> xarray.Dataset:
        """Return one of its netCDF files.

        Raises
        ------
        DataFileError
            If it is damaged, or the result has been replaced.
        """

        def read() -> xarray.Dataset:
            storage.verify_file(self.directory, name, self.manifest)
            return storage.read_dataset(self.directory / name)

        return storage.read_unchanged(self.directory, read, self.manifest)

    def _table(self, name: str) -> pd.DataFrame:
        """Return a table of numbers, the first column whole, each to its last digit."""
        import pandas as pd

        content = io.BytesIO(self.tables[name])
        # By Python's own float: pandas is exact by default since 3.1 alone.
        table = pd.read_csv(content, dtype=object).astype(float)
        return table.astype({table.columns[0]: int})


def earlier_version(directory: Path) -> str:
    """Return which version made a result of another form; empty where none did.

    Raises
    ------
    DataFileError
        If no result can be read there.
    """
    files = {name: storage.read_bytes(directory, name) for name in (CONFIG, METRICS)}
    return _described(directory, files)[2]


def _described(
    directory: Path, files: Mapping[str, bytes]
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return `config.toml`, `metrics.json`, and which earlier version wrote them."""
    with storage.content_errors(f"{directory}: {CONFIG} or {METRICS}"):
        _checks.file_name("name", directory.resolve().name)
        tables = all_printable(parse_tables(files[CONFIG].decode()))
        metrics = all_printable(json.loads(files[METRICS]))
        known = "cell" in tables and "role" in metrics
        maker = metrics.get("versions", {}).get("l63fast", "of an earlier version")
        return tables, metrics, "" if known else str(maker)


@dataclass(frozen=True)
class Source:
    """An experiment as its folder shows it.

    Attributes
    ----------
    folder : Path
    results : list of Result
        Verified against their manifests.
    left_out : dict of str
        Why a cell is not among them, by its name.
    """

    folder: Path
    results: list[Result]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls, path: str | Path, failures: Mapping[str, str] | None = None
    ) -> Source:
        """Return the experiment in a folder; `failures` are cells known to be missing.

        Raises
        ------
        DataFileError
            If the folder is none of an experiment, or no cell in it can be read.
        """
        folder = _checks.path("results", path)
        there = folder.iterdir() if folder.is_dir() else ()
        cells = sorted(path for path in there if _is_cell(path))
        if not cells:
            raise DataFileError(
                f"{folder}: expected the folder of an experiment, got {_kind(folder)}"
            )
        results, left_out = [], dict(failures or {})
        for cell in cells:
            try:
                results.append(Result.open(cell))
            except L63Error as error:
                left_out[printable(cell.name)] = " ".join(str(error).split())
        if not results:
            why = "; ".join(left_out.values())
            raise DataFileError(f"{folder}: no cell can be read: {why}")
        return cls(folder, sorted(results, key=_place), left_out)

    @classmethod
    def of(cls, results: Sequence[Result]) -> Source:
        """Return an experiment of cells that were opened before."""
        return cls(results[0].directory.parent, sorted(results, key=_place))

    @property
    def name(self) -> str:
        """What the experiment is called."""
        return printable(self.folder.resolve().name)

    @cached_property
    def cells(self) -> dict[str, Result]:
        """The results by the names of their folders."""
        return {result.directory.name: result for result in self.results}


def _is_cell(path: Path) -> bool:
    hidden = path.name.startswith(".") or path.name in NO_CELLS
    marks = (storage.MANIFEST, CONFIG)
    return not hidden and path.is_dir() and any((path / n).exists() for n in marks)


def _kind(folder: Path) -> str:
    """Return what is there in place of an experiment, and where one may be."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "nothing"
    if (folder / CONFIG).exists():
        return f"one without cells; it is a cell itself: give {folder.parent}"
    inner = sorted(p.name for p in folder.iterdir() if (p / REPORT).is_dir())
    hint = f"; choose one of {', '.join(inner)} in it" if inner else ""
    return f"one without cells{hint}"


def _place(result: Result) -> tuple[Any, ...]:
    """Return what results are sorted by: what they were given, then their names."""
    data, name = result.settings.data, result.directory.name
    given = (len(data.operator_name), data.operator_name, data.steps_per_cycle)
    return (*given, data.sigma, name)


def trajectory_table(cell: Cell, found: Estimates) -> pd.DataFrame:
    """Return what a cell writes as `results.csv`: time means, a row per trajectory."""
    import pandas as pd

    blind = as_operator(cell.data.operator).is_mirror_blind
    columns = found.trajectory_columns(blind=blind)
    return pd.DataFrame(columns).rename_axis("trajectory").reset_index()


def open_results(folder: str | Path) -> pd.DataFrame:
    """Return the error of every method on every test trajectory of an experiment.

    The files are verified against their manifests; nothing that they name is imported.

    Parameters
    ----------
    folder : path
        Of an experiment.

    Returns
    -------
    DataFrame
        A row per case, method, seed, training and trajectory. Columns: those of
        `CASE`; `method`, the key of the method in its experiment, and `label`, its name
        in tables; `role` ("method", "baseline", "optimum"), as the method states it,
        and `scheme`; `cell`, its folder; `parameter`, what was tuned; `start`, of
        windows the observation at which it is given a background; `mirror_aware`,
        whether the observations cannot tell a state from its mirror image; `seed` of
        the data, `training` (seed; -1 for what is not trained), `data` (hash of the
        test split); `trajectory`; `MEANS` of the analyses, the same of the backgrounds
        (`rmse_f` and so on) and `crps`; `FACTS`. Where methods were only tuned, a row
        per cell: `parameter`, its best value `tuned` and the `score` there on the
        validation split, the `lowest` and `highest` scale of it that were tried, how
        many `diverged`, and whether the best `is_bracketed` by others.

    Raises
    ------
    DataFileError
        If the folder is none of an experiment, or no cell in it can be read.
    ResultError
        If cells of one case and seed come from different data.
    """
    return results_of(Source.open(folder).results)


def results_of(results: Sequence[Result]) -> pd.DataFrame:
    """Return what `open_results` does, of cells that were opened before."""
    if results[0].settings.tune_only:
        frame = tuned_numbers(results)
    else:
        frame = joined([r.trajectories.assign(**columns_of(r)) for r in results])
    # Where `report` finds the rest.
    frame.attrs["folder"] = str(results[0].directory.parent)
    return frame


def tuned_numbers(results: Sequence[Result]) -> pd.DataFrame:
    """Return what tuning alone found, a row per cell, as `open_results` says."""
    import pandas as pd

    rows = []
    for result in results:
        tuning, number = result.metrics["tuning"], result.metrics["parameter"]
        found = {
            "parameter": number["name"],
            "tuned": float(number["value"]),
            "score": float(tuning["score"]),
            "lowest": min(map(float, tuning["scales"])),
            "highest": max(map(float, tuning["scales"])),
            "diverged": sum(math.isnan(float(score)) for score in tuning["scores"]),
            "is_bracketed": tuning["is_bracketed"],
        }
        rows.append(_identity(result) | found)
    return pd.DataFrame(rows)


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return trajectory tables, each with the columns of its cell, as one.

    Raises
    ------
    ResultError
        If cells of one case and seed come from different data.
    """
    import pandas as pd

    frame = pd.concat(tables, ignore_index=True)
    first = [*CASE, *OF_METHOD, "seed", "training", "data", "trajectory"]
    frame = frame[[*first, *MEANS, *MORE_MEANS, *FACTS]]
    for (*_, seed), rows in frame.groupby([*CASE, "seed"], sort=False):
        cells = rows.drop_duplicates("data")["cell"].tolist()
        if len(cells) > 1:
            raise ResultError(
                f"{' and '.join(cells)}: come from different data of seed {seed} and "
                "cannot be compared"
            )
    return frame


def columns_of(result: Result) -> dict[str, Any]:
    """Return what the rows of a cell have in common."""
    method, metrics = result.settings.method, result.metrics
    seconds = result.timing.get("seconds", {})
    facts = facts_of(metrics, seconds, method.role)
    training = -1
    if isinstance(method, TrainedEncoder):
        training = method.training.seed
        facts["training_seconds"] = seconds.get("fit")
        facts["resumed"] = seconds.get("fit_resumed")
    parameter = ""
    if metrics["tuning"] or (metrics["convergence"] and metrics["parameter"]):
        parameter = metrics["parameter"]["name"]
        facts["tuned"] = metrics["parameter"]["value"]
    return {
        **_identity(result),
        "parameter": parameter,
        "start": metrics["start"],
        "training": training,
        "data": str(metrics["data"].get("test")),
        **numbers(facts),
    }


def _identity(result: Result) -> dict[str, Any]:
    """Return which method of which case a cell is."""
    cell, data = result.settings, result.settings.data
    return {
        "operator": data.operator_name,
        "sigma": data.sigma,
        "interval": data.steps_per_cycle * data.dt,
        "case": cell.note,
        "method": cell.key,
        "label": result.metrics["label"],
        "role": cell.method.role,
        "scheme": cell.method.scheme,
        "cell": result.directory.name,
        "mirror_aware": result.metrics["mirror_aware"],
        "seed": data.seed,
    }


def facts_of(
    metrics: Mapping[str, Any], seconds: Mapping[str, Any], role: str
) -> dict[str, Any]:
    """Return those `FACTS` that scores, claims and times of a method say.

    Parameters
    ----------
    metrics : mapping
        As `run_cell.scored` gives them, with what else is known of the method.
    seconds : mapping
        Those "per_cycle" and "per_analysis".
    role : {"method", "baseline", "optimum"}
    """
    scores, status = metrics["scores"], metrics["status"]
    facts: dict[str, Any] = {
        "p95": scores["p95"],
        "sign_flips": scores["sign_flip_rate"],
        "seconds_per_cycle": seconds.get("per_cycle"),
        "seconds_per_analysis": seconds.get("per_analysis"),
        "effective_size": (metrics["effective_size"] or {}).get("mean"),
        "settled": (metrics.get("convergence") or {}).get("settled"),
    }
    for name in ("spread", "innovation", "cost"):
        facts[f"{name}_ratio"] = (metrics.get(name) or {}).get("ratio")
    if metrics["innovation"]:
        ends = metrics["innovation"]["ci95"]["ratio"]
        facts["innovation_low"], facts["innovation_high"] = ends
    if role != "baseline":  # climatology defines when another has diverged
        facts["diverged"] = scores["divergence_rate"]
        facts["truth_lost"] = status["diverged"] / sum(status.values())
    return facts


def numbers(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return a number for each of `FACTS`, NaN for what is not known."""
    import pandas as pd

    found: dict[str, float] = pd.Series(facts, list(FACTS), dtype=float).to_dict()
    return found


def write_text(folder: Path, name: str, text: str) -> None:
    """Write a text file of a result folder."""
    storage.write_bytes(folder / name, text.encode())


def versions(*more: str) -> dict[str, str]:
    """Return the versions that decide a result, and of `more` that is installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = dict.fromkeys(("l63fast", "numpy", "torch"), "not installed")
    for package in (*found, *more):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
