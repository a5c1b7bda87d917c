"""Experiments: data, a protocol, methods, and the settings that vary."""

from __future__ import annotations

import dataclasses
import inspect
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from l63fast import _checks
from l63fast._progress import Progress, shown
from l63fast._user_code import file_name
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ConfigurationError,
    L63Warning,
    ResultError,
)
from l63fast.experiments.data import SavedSettings, saved_settings
from l63fast.experiments.describe import counted, describe_data
from l63fast.experiments.methods import (
    Method,
    Optimum,
    TrainedEncoder,
    method_from_table,
    method_table,
)
from l63fast.experiments.protocols import Cycles, Protocol
from l63fast.experiments.results import CONFIG, results_of, write_text
from l63fast.experiments.runner import chosen_cells, run_cells
from l63fast.experiments.settings import (
    AXES,
    MEASURES,
    NONE_WITH_PATH,
    RESERVED_NAMES,
    TUNABLE,
    Cell,
    ScoreSettings,
    Vary,
    common_settings,
    data_table,
    folder_of,
    model_table,
    naming_source,
    with_operator_by_name,
)
from l63fast.experiments.settings_file import (
    PRESETS,
    Checked,
    build,
    dump_tables,
    limited,
    merged,
    preset_tables,
    read_tables,
    refuse,
    to_table,
)
from l63fast.experiments.tasks import Progress as TaskProgress
from l63fast.twin import ForecastModel, TwinSettings

if TYPE_CHECKING:
    import pandas as pd

_MOST_CELLS: Final = 20_000  # the settings of one cell take half a millisecond
_CASE_AXES: Final = tuple(AXES)[:8]
_DATA_AXES: Final = ("operator", "sigma", "interval", "missing", "seed")
# Settings of the times of observation; one of them replaces the others.
_TIMES: Final = ("steps_per_cycle", "interval", "observation_steps")
_WINDOW_AXES: Final = ("window", "background", "regime")
_NOTE_FORMATS: Final = {"window": "window {}", "background": "background {}"}
ENCODER_AXES: Final = ("loss", "n_iterations", "training_seed")
# Axes that vary the same settings as other axes.
OVERLAPPING_AXES: Final = {"seed": ("training_seed",), "regime": ("background", "loss")}


@dataclass(frozen=True)
class Experiment(Checked):
    """A comparison of methods: every method runs on every case.

    Attributes
    ----------
    name : str
        Name of the experiment, and of the folder of its results.
    data : TwinSettings
        Settings that are common to all cases; an axis replaces those that it varies.
        The folder of a saved `TwinExperiment` is allowed too; then no axis can vary the
        data.
    protocol : Windows or Cycles
    methods : dict of str to Method
        The methods, by the name (key) that the experiment gives them.
    axes : Vary
    model : ForecastModel
        The model that methods forecast with, by default that of the truth. The optimum
        always knows that of the truth.
    measure : str
        The score by which methods are ranked, a name in `settings.MEASURES`; by
        default that of the protocol.
    model_error : float
        Ratio of the variance of the model error to that of the observation error, in
        each case; 0 keeps the Q of the data.
    scores : ScoreSettings
    tune_only : bool
        Tune the methods only; the test split is not read.

    Examples
    --------
    >>> experiment = Experiment.preset("sakov2012").vary(sigma=[0.5, 1.0])
    >>> results = experiment.only("3dvar", "enkf-10").run("results")  # doctest: +SKIP
    """

    name: str
    data: TwinSettings
    protocol: Protocol
    methods: Mapping[str, Method]
    axes: Vary = field(default_factory=Vary)
    model: ForecastModel = field(default_factory=ForecastModel)
    measure: str = limited("", _checks.choice, allowed=MEASURES)
    model_error: float = limited(0.0, minimum=0.0)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    tune_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.file_name("name", self.name)
        if isinstance(self.data, (str, Path)):
            object.__setattr__(self, "data", saved_settings(self.data))
        if isinstance(self.data, SavedSettings):
            self._keep_to_saved_data()
        object.__setattr__(self, "data", with_operator_by_name(self.data))
        object.__setattr__(self, "measure", self.measure or self.protocol.measure)
        for key in self.methods:
            _checks.file_name("methods", key)
            if key in RESERVED_NAMES:
                raise ConfigurationError(
                    f"methods.{key}: expected another name, got {key!r}, which is the "
                    "name of a folder of the experiment itself"
                )
        for axis in _WINDOW_AXES:
            refused = isinstance(self.protocol, Cycles) and self._axis(axis)
            refuse(refused, f"vary.{axis}", "none with cycles", list(self._axis(axis)))
        most = f"at most {_MOST_CELLS} cells (vary less, or run several experiments)"
        refuse(self.n_cells > _MOST_CELLS, "vary", most, self.n_cells)
        self.cells()

    def _keep_to_saved_data(self) -> None:
        """Refuse changes of saved data; limit the cycles to those that they have."""
        changes: dict[str, Any] = {"experiment.model_error": self.model_error}
        changes |= {f"vary.{axis}": list(self._axis(axis)) for axis in _DATA_AXES}
        for place, value in changes.items():
            refuse(value, place, NONE_WITH_PATH, value)
        if isinstance(self.protocol, Cycles):
            object.__setattr__(self, "protocol", self.protocol.within(self.data))

    @classmethod
    def preset(cls, name: str) -> Experiment:
        """Return the experiment of this package that has this name.

        Raises
        ------
        ArgumentValueError
            If no preset has this name.
        """
        _checks.choice("name", name, PRESETS)
        return cls.from_tables(name, preset_tables(name), source=name)

    @classmethod
    def from_toml(cls, path: str | Path) -> Experiment:
        """Return the experiment in a TOML file; its name is that of the file."""
        return cls.from_tables(Path(path).stem, read_tables(path), source=str(path))

    @classmethod
    def from_tables(
        cls, name: str, tables: Mapping[str, Any], *, source: str
    ) -> Experiment:
        """Return an experiment from its tables.

        The tables are [experiment] (measure, model_error), [vary] (the axes), [data],
        [model] (that methods forecast with), [windows] or [cycles], [scores], and
        [methods.KEY], one for each method, whose `scheme` is a name in `METHODS`.

        Raises
        ------
        ConfigurationError
            If a table or a key is unknown, or a value has the wrong type or is not
            allowed.
        """
        with naming_source(source):
            common = common_settings(tables, ("experiment", "vary"), "methods", source)
            protocol, methods = common["protocol"].name, tables.get("methods", {})
            if not methods:
                raise ConfigurationError(
                    f"{source}: methods: expected at least one table, got none"
                )
            axes = build(Vary, tables.get("vary", {}), source=source, key="vary")
            _refuse_fixed_and_varied(vars(axes), tables, source)
            built = {
                key: method_from_table(
                    table, protocol, source=source, key=f"methods.{key}"
                )
                for key, table in methods.items()
            }
            general = tables.get("experiment", {})
            general = build(_ExperimentTable, general, source=source, key="experiment")
            return cls(name, methods=built, axes=axes, **common, **vars(general))

    def to_tables(self) -> dict[str, Any]:
        """Return the tables that `from_tables` reads."""
        varied = [p for a, (places, _) in AXES.items() if self._axis(a) for p in places]
        data = data_table(self.data, self.protocol)
        if isinstance(self.data, SavedSettings):
            data = {"path": self.data.path}
        tables = {
            "data": data,
            self.protocol.name: to_table(self.protocol),
        }
        fixed = {
            name: {k: v for k, v in table.items() if f"{name}.{k}" not in varied}
            for name, table in tables.items()
        }
        return {
            "experiment": {"measure": self.measure, "model_error": self.model_error},
            "vary": {k: v for k, v in to_table(self.axes).items() if v},
            **fixed,
            **model_table(self.model),
            "scores": to_table(self.scores),
            "methods": {k: method_table(m) for k, m in self.methods.items()},
        }

    def to_toml(self) -> str:
        """Return the experiment as TOML."""
        return dump_tables(self.to_tables())

    def write(self, folder: Path) -> None:
        """Write the settings as a TOML file into the folder of the experiment.

        If the folder has cells of other settings too, the file could not make all of
        them again: then no file is written, and an old one is removed.
        """
        path = folder / f"{self.name}.toml"
        if self.others_in(folder):
            path.unlink(missing_ok=True)
        else:
            write_text(folder, path.name, self.to_toml())

    def others_in(self, folder: Path) -> list[str]:
        """Return the names of the cells in a folder that this experiment lacks."""
        there = {cell.parent.name for cell in folder.glob(f"[!.]*/{CONFIG}")}
        return sorted(there - {cell.name for cell in self.cells()})

    def vary(self, **axes: Any) -> Experiment:
        """Return the experiment with other axes, such as operator=["x", "xy"].

        An axis is a field of `Vary`. It replaces a setting of data, protocol or method.

        Raises
        ------
        ArgumentValueError
            If there is no such axis.
        """
        chosen = {
            name: tuple(v) if isinstance(v, (list, tuple)) else (v,)
            for name, v in axes.items()
        }
        unknown = [name for name in chosen if name not in AXES]
        if unknown:
            raise ArgumentValueError(
                f"vary: expected some of {', '.join(AXES)}, got {unknown[0]!r}"
            )
        return dataclasses.replace(self, axes=dataclasses.replace(self.axes, **chosen))

    def updated(self, **tables: Mapping[str, Any]) -> Experiment:
        """Return the experiment with other settings, such as data={"n_test": 50}.

        data={"path": "folder"} takes the twin experiment that is saved in that folder.
        """
        changed = merged_tables(self.to_tables(), tables)
        return type(self).from_tables(self.name, changed, source="updated")

    def only(self, *keys: str) -> Experiment:
        """Return the experiment with these of its methods, in this order.

        "optimum" may always be among them; it has default settings if it has no others.

        Raises
        ------
        ConfigurationError
            If it has no method of that name, or no name is given.
        """
        refuse(not keys, "methods", "at least one", "none")
        known: dict[str, Method] = dict(self.methods)
        known.setdefault("optimum", Optimum())
        unknown = [key for key in keys if key not in known]
        if unknown:
            raise ConfigurationError(
                f"methods: expected methods of {self.name} "
                f"({', '.join(known)}), got {unknown[0]!r}"
            )
        chosen = {key: known[key] for key in keys}
        return dataclasses.replace(self, methods=chosen)

    def tuning(self) -> Experiment:
        """Return an experiment that only tunes its methods.

        Every number that can be tuned is tuned, also where a value is given.

        Raises
        ------
        ConfigurationError
            If no method has a number to tune.
        """
        methods: dict[str, Any] = dict(self.methods)
        opened = {}
        for key, method in methods.items():
            fields = (f for f in dataclasses.fields(method) if f.default is None)
            numbers = dict.fromkeys({f.name for f in fields} & set(TUNABLE))
            if numbers:
                opened[key] = dataclasses.replace(method, **numbers)
        one = f"at least one with a number to tune ({', '.join(TUNABLE)})"
        refuse(not opened, "methods", one, ", ".join(methods))
        name = f"{self.name}-tuning"
        return dataclasses.replace(self, name=name, methods=opened, tune_only=True)

    def run(
        self,
        root: str | Path = "results",
        *,
        workers: int = 1,
        progress: Progress = False,
        **options: Any,
    ) -> pd.DataFrame:
        """Run every cell, write tables, and return the results as `open_results` does.

        Parameters
        ----------
        root : path
            Folder of all results; those of the experiment are in a subfolder that has
            its name. If that has cells of other methods or settings too, there is a
            warning. A page in it is removed if the results are not the ones that it
            shows: `report` writes it.
        workers : int
            Number of processes on this machine; the results do not depend on it.
        progress : bool or callable
            Show each finished cell on standard error; a callable is given each line.
        **options
            resume, overwrite, force, keep_states : bool, and only : str, as the options
            of `l63fast experiment`; scheduler, as in `run_cells`.

        Raises
        ------
        ResultError
            If every cell failed; if only some failed, there is a warning.
        ArgumentValueError, ArgumentTypeError
            If an argument is unknown or not as described.
        """
        known = [*inspect.signature(run_cells).parameters][3:]  # after n_workers
        for name in options:
            if name not in known:
                raise ArgumentTypeError(
                    f"run: expected some of root, workers, {', '.join(known)}, got an "
                    f"argument {name!r}"
                )
        place, cells = _checks.path("root", root), self.cells()
        if place.exists() and not place.is_dir():
            raise ArgumentValueError(f"root: expected a folder, got the file {root}")
        folder = place / self.name
        if others := self.others_in(folder):
            warnings.warn(of_others(folder, others), L63Warning, stacklevel=2)
        n_cells = len(chosen_cells(cells, options.get("only", "*")))
        with shown(progress) as say:
            options["progress"] = TaskProgress.of_lines(say, n_cells)
            try:
                outcome = run_cells(cells, folder, n_workers=workers, **options)
            except KeyboardInterrupt as error:
                error.add_note("run(..., resume=True) continues this run")
                raise
        failed = "; ".join(f"{cell}: {why}" for cell, why in outcome.failures.items())
        if not outcome.results:
            raise ResultError(f"{folder}: every cell failed: {failed}")
        self.write(folder)
        if failed:
            warnings.warn(f"failed: {failed}", L63Warning, stacklevel=2)
        return results_of(outcome.results)

    def describe(self) -> list[str]:
        """Return lines that describe the experiment: methods, data and protocol."""
        cells = self.cells()
        first = cells[0]
        cases = list(dict.fromkeys(cell.case for cell in cells))
        data = describe_data(first.data)
        if len(cases) > 1:
            data = f"{len(cases)} cases: {', '.join(cases)}; the first: {data}"
        model = self.model.describe(first.data)
        in_windows = [getattr(self.axes, name) for name in _WINDOW_AXES]
        return [
            f"experiment  {self.name}: {', '.join(self.methods)}: "
            f"{counted(len(cells), 'cell')}",
            f"data        {data}",
            *([f"model       {model}"] if model else []),
            first.protocol.describe() + "; that of the first case" * any(in_windows),
        ]

    def _axis(self, name: str) -> tuple[Any, ...]:
        values: tuple[Any, ...] = getattr(self.axes, name)
        return values

    def _combined(self, axes: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return every combination of the values of these axes, where they vary."""
        given = {name: self._axis(name) for name in axes if self._axis(name)}
        return [
            dict(zip(given, values, strict=True)) for values in product(*given.values())
        ]

    def cases(self) -> list[dict[str, Any]]:
        """Return the values of the axes in each case, by the name of the axis."""
        return self._combined(_CASE_AXES)

    @property
    def n_cells(self) -> int:
        """Number of cells, computed without making them."""

        def n_of(axes: tuple[str, ...]) -> int:
            return math.prod(max(len(self._axis(name)), 1) for name in axes)

        n_encoders = sum(isinstance(m, TrainedEncoder) for m in self.methods.values())
        n_others = len(self.methods) - n_encoders
        return n_of(_CASE_AXES) * (n_encoders * n_of(ENCODER_AXES) + n_others)

    def cells(self) -> list[Cell]:
        """Return the cells, all methods of one case together.

        The name of a cell is made of its case, its method and its values of the axes.
        It does not depend on the other values of an axis, so that a value that is added
        later renames no cell.

        Raises
        ------
        ConfigurationError
            If two cells would have the same name, or settings contradict each other.
        """
        cells = [cell for case in self.cases() for cell in self._cells_of(case)]
        for name, n in Counter(cell.name for cell in cells).items():
            refuse(n > 1, "methods", "names that differ", f"{name} twice")
        return cells

    def _cells_of(self, case: dict[str, Any]) -> Iterator[Cell]:
        protocol: Any = dataclasses.replace(self.protocol, **_changes("windows", case))
        changes = _changes("data", case)
        if self.model_error:
            sigma = changes.get("sigma", self.data.sigma)
            changes["Q"] = self.model_error * sigma**2
        data = protocol.completed(self.data, **changes)
        if self.axes.window:
            # All lengths start where the longest one can, and are scored at the same
            # times.
            longest = max(self.axes.window)
            dataclasses.replace(protocol, window=longest).completed(data)
            start = max(protocol.start, longest)
            protocol = dataclasses.replace(protocol, start=start)
        note = [] if data.R is None else [f"R {[list(row) for row in data.R]}"]
        note += list(filter(None, (data.irregular, data.beyond_the_usual)))
        note += [
            words.format(case[a]) for a, words in _NOTE_FORMATS.items() if a in case
        ]
        if "regime" in case:
            note.append(f"background {case['regime'].partition(':')[0]}")
        tags = _tags(case, _CASE_AXES)
        if model := self.model.describe(data):
            note.append(f"model {model}")
            tags.append(self.model.tag)
        for key, method in self.methods.items():
            for more, repeat, variant in self._variants(method, case):
                yield Cell(
                    key="-".join([key, *more]),
                    data=data,
                    protocol=protocol,
                    method=variant,
                    model=self.model,
                    scores=self.scores,
                    measure=self.measure,
                    case="_".join(tags),
                    repeat=repeat,
                    note=", ".join(note),
                    data_name="_".join(_tags(case, _DATA_AXES)) or folder_of(data),
                    tune_only=self.tune_only,
                )

    def _variants(
        self, method: Method, case: dict[str, Any]
    ) -> Iterator[tuple[list[str], str, Method]]:
        """Yield each variant of a method: parts of its name, its seed, its settings."""
        if not isinstance(method, TrainedEncoder):
            yield [], "", method
            return
        for values in self._combined(ENCODER_AXES):
            chosen, own = {**case, **values}, method.training
            training = dataclasses.replace(own, **_changes("training", chosen))
            changes = {**_changes("method", chosen), "training": training}
            more = _tags(chosen, ("loss", "n_iterations"))
            repeat = "".join(_tags(chosen, ("training_seed",)))
            yield more, repeat, dataclasses.replace(method, **changes)


def of_others(folder: Path, names: Sequence[str]) -> str:
    """Return a sentence on cells in a folder that are not of the experiment."""
    some = ", ".join([*names[:3], "..."][: len(names)])
    return (
        f"{folder}: holds {counted(len(names), 'cell')} of other methods or settings "
        f"too ({some}), which open_results and the report include"
    )


def merged_with_preset(preset: str, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a preset, changed by other tables.

    A table `[methods]` replaces the methods of the preset as a whole. A setting that
    the tables fix removes the axis of the preset that varies it, and an axis of the
    tables removes the setting of the preset.
    """
    below = preset_tables(preset)
    if "methods" in tables:
        del below["methods"]
    varied = below.get("vary", {})
    for axis, parts in OVERLAPPING_AXES.items():
        for part in parts if _holds(tables, "vary", axis) else ():
            varied.pop(part, None)
    for axis, section, key in _places():
        if _holds(tables, section, key):
            varied.pop(axis, None)
        if _holds(tables, "vary", axis):
            below.get(section, {}).pop(key, None)
    return merged_tables(below, tables)


def merged_tables(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of `below` with the keys of `over` replaced, table by table.

    A folder of data (`data.path`) replaces all settings of the data; the axis of seeds
    then repeats the training only. A setting of the times of observation replaces the
    others of them.
    """
    if _holds(over, "data", "path"):
        vary, general = below.get("vary", {}), below.get("experiment", {})
        vary = {"training_seed": vary.get("seed", []), **vary}
        vary = {k: v for k, v in vary.items() if k not in _DATA_AXES}
        general = {k: v for k, v in general.items() if k != "model_error"}
        below = {**below, "data": {}, "vary": vary, "experiment": general}
    if any(_holds(over, "data", key) for key in _TIMES):
        data = {k: v for k, v in below.get("data", {}).items() if k not in _TIMES}
        below = {**below, "data": data}
    return merged(below, over)


def with_encoder_settings(tables: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return tables in which [method] and [training] are part of every encoder.

    Raises
    ------
    ConfigurationError
        If an axis varies one of their settings too, or [method] has a scheme or another
        table.
    """
    varied = tables.get("vary", {})
    if isinstance(varied, Mapping):
        # Varied seeds replace a seed that is given: that is no contradiction.
        others = {k: v for k, v in varied.items() if not k.endswith("seed")}
        _refuse_fixed_and_varied(others, tables, source)
    rest = {k: v for k, v in tables.items() if k not in ("method", "training")}
    own = tables.get("method", {})
    for key, value in own.items() if isinstance(own, Mapping) else ():
        if isinstance(value, Mapping) and key not in ("training", "cycles"):
            raise ConfigurationError(
                f"{source}: method.{key}: unknown table [method.{key}]; did you mean "
                f"[methods.{key}]?"
            )
        if key == "scheme" and value != "encoder":
            raise ConfigurationError(
                f"{source}: method.scheme: expected none, as [method] is for all "
                f"encoders, got {value!r}; the table of one method is [methods.NAME]"
            )
    if "training" in tables:
        own = {**own, "training": tables["training"]}
    methods = rest.get("methods")
    for key, method in methods.items() if isinstance(methods, Mapping) else ():
        if own and isinstance(method, Mapping) and method.get("scheme") == "encoder":
            rest = merged(rest, {"methods": {key: own}})
    return rest


def _refuse_fixed_and_varied(
    varied: Mapping[str, Any], tables: Mapping[str, Any], source: str
) -> None:
    for axis, section, key in _places():
        if varied.get(axis) and _holds(tables, section, key):
            raise ConfigurationError(
                f"{source}: {section}.{key}: expected none, as vary.{axis} varies it"
            )


def _places() -> Iterator[tuple[str, str, str]]:
    """Yield each axis with the table and the key of each setting that it replaces."""
    for axis, (places, _) in AXES.items():
        for section, _, key in (place.partition(".") for place in places):
            yield axis, section, key


def _holds(tables: Mapping[str, Any], section: str, key: str) -> bool:
    table = tables.get(section)
    return isinstance(table, Mapping) and key in table


def _changes(section: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a table that these values of axes replace, by key."""
    changes = {}
    for axis, place, key in _places():
        if axis in chosen and place == section:
            background, _, loss = str(chosen[axis]).partition(":")
            of_regime = loss if key == "loss" else background
            changes[key] = of_regime if axis == "regime" else chosen[axis]
    if "interval" in changes:  # one of the two decides
        is_drawn = isinstance(changes["interval"], tuple)
        changes["steps_per_cycle" if is_drawn else "interval"] = None
    return changes


def _tags(chosen: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    given = {name: chosen[name] for name in names if name in chosen}
    if isinstance(pair := given.get("interval"), tuple):
        given["interval"] = "-".join(f"{time:.6g}" for time in pair)
    return [file_name(AXES[name][1].format(value)) for name, value in given.items()]


@dataclass(frozen=True)
class _ExperimentTable(Checked):
    """The settings in the table [experiment]."""

    measure: str = limited("", _checks.choice, allowed=MEASURES)
    model_error: float = limited(0.0, minimum=0.0)
