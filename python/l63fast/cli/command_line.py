"""The options of the command line, and settings made from files and typed options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import typer

from l63fast.errors import ConfigurationError
from l63fast.experiments.experiment import merged_tables
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.settings import AXES, NONE_WITH_PATH
from l63fast.experiments.settings_file import merged, read_tables, refuse

T = TypeVar("T")
Tables = dict[str, Any]

_COMMAND_LINE: Final = "command line"
_PLACE: Final = re.compile(rf"{_COMMAND_LINE}: ([\w.-]+): ")
_OTHER_SETTING: Final = re.compile(r"(\w+) = ")  # in a message about two settings
_DASHED_NAMES: Final[dict[str, str]] = {}  # names with "-" of choices, by that with "_"


def _declared_name(token: str) -> str:
    """Return the declared spelling of a name: `--n_traj` for `--n-traj`."""
    underscored = token.replace("-", "_")
    return _DASHED_NAMES.get(underscored, underscored)


CONTEXT: Final[dict[Any, Any]] = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": _declared_name,
}


def choices(names: Iterable[str]) -> Any:
    """Return the type of an option whose value is one of these names."""
    names = tuple(names)
    _DASHED_NAMES.update(
        (name.replace("-", "_"), name) for name in names if "-" in name
    )
    return cast(Any, Literal)[names]


@dataclass(frozen=True)
class Option:
    """One option of the command line, in both spellings (`--n_traj`, `--n-traj`).

    Attributes
    ----------
    name : str
        Name without the dashes.
    kind : type
        Type of the value: `Literal[...]` for choices, `bool` for a switch.
    help : str
    default : Any
    target : str or None
        The setting that it sets, such as "data.sigma", if any.
    minimum, maximum : float or None
    positional : bool
        Whether it is an argument, whose value is given without a name.
    panel : str
        Heading in `--help`.
    read : callable, optional
        Returns the list of values in a text with commas.
    """

    name: str
    kind: Any
    help: str
    default: Any = None
    target: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    positional: bool = False
    panel: str = "Run"
    read: Callable[[str], list[Any]] | None = None

    def parameter(self) -> inspect.Parameter:
        """Return the option as a function parameter for typer."""
        info: Any = typer.Option(
            f"--{self.name}",
            help=self.help,
            min=self.minimum,
            max=self.maximum,
            rich_help_panel=self.panel,
        )
        if self.positional:
            info = typer.Argument(help=self.help, metavar=self.name.upper())
        kind = self.kind | None if self.default is None else self.kind
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=self.default,
            annotation=Annotated[kind, info],
        )


@dataclass(frozen=True)
class Given:
    """The values of all options of a command, and the names of the typed ones."""

    options: Sequence[Option]
    values: dict[str, Any]
    names: set[str]  # of the options that were typed

    def __getitem__(self, name: str) -> Any:
        """Return the value of an option, its default if it was not typed."""
        return self.values[name]

    def typed(self, name: str) -> Any:
        """Return the value of an option, None if it was not typed."""
        return self.values[name] if name in self.names else None

    def flag(self, table: str, field: str) -> str | None:
        """Return the name of the typed option that set a setting, or None."""
        target = f"{table}.{field}"
        return next((o.name for o in self._typed() if o.target == target), None)

    def flags(self, table: str) -> list[str]:
        """Return the names of the typed options that set settings of a table."""
        return [o.name for o in self._typed() if f"{o.target}.".startswith(f"{table}.")]

    def _typed(self) -> list[Option]:
        return [option for option in self.options if option.name in self.names]

    def tables(self) -> Tables:
        """Return the settings of file and typed options as tables; no defaults."""
        tables: Tables = {}
        for option in self._typed():
            if option.target is not None:
                value = self[option.name]
                value = value if option.read is None else option.read(value)
                for name in reversed(option.target.split(".")):
                    value = {name: value}
                tables = merged(tables, value)
        tables = merged_tables(self.file_tables(), tables)
        return merged(tables, _sizes(self, tables.get("data", {})))

    def file_tables(self) -> Tables:
        """Return the tables of the file of `--config`, none without a file.

        Raises
        ------
        ConfigurationError
            If it cannot be read, or has a key that is in no table.
        """
        config = self["config"]
        tables = {} if config is None else read_tables(config)
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise ConfigurationError(
                    f"{config}: {name}: expected a table [{name}], got {table!r}"
                )
        return tables

    def refuse_other_protocol(self, holder: str, tables: Tables) -> None:
        """Refuse options of windows if the settings are in cycles, and the reverse.

        Tables with both protocols or with none are refused when they are read.

        Parameters
        ----------
        holder : str
            The preset or file with the settings, for the message.
        tables : dict
            The settings.

        Raises
        ------
        ConfigurationError
            The message names the option.
        """
        of = [name for name in PROTOCOLS if name in tables]
        for other in (name for name in PROTOCOLS if [name] != of and len(of) == 1):
            for flag in self.flags(other):
                raise ConfigurationError(
                    f"--{flag}: expected settings in {other}, got {holder}, which is "
                    f"in {of[0]}"
                )

    def resolved(self, tables: Tables, make: Callable[..., T], source: str = "") -> T:
        """Return the settings that `make` makes from tables.

        Parameters
        ----------
        tables : dict
        make : callable
            Takes the tables and `source`.
        source : str
            Source of the values that were not typed, by default the file.

        Raises
        ------
        ConfigurationError
            The message names the option if the wrong value was typed, otherwise the
            file and the key.
        """
        try:
            return make(tables, source=_COMMAND_LINE)
        except ConfigurationError as error:
            place = _PLACE.match(str(error))
            if place is not None:
                said = str(error)[place.end() :]
                table, field = _setting(place.group(1))
                flag = self._varied(table, field) or self.flag(table, field)
                of_place = (o.name for o in self._typed() if o.target == place.group(1))
                flag = flag or next(of_place, None)
                if flag is not None:
                    raise ConfigurationError(f"--{flag}: {said}") from None
                for beside in _OTHER_SETTING.findall(said):
                    flag = self._varied("data", beside) or self.flag("data", beside)
                    if flag is not None:
                        raise ConfigurationError(f"--{flag}: {field}: {said}") from None
        return make(tables, source=source or str(self["config"] or "settings"))

    def workers(self, n_tasks: int) -> tuple[dict[str, Any], str]:
        """Return `n_workers` or `scheduler` for `run_cells`, and a text about them.

        Raises
        ------
        ConfigurationError
            If both are given, since a cluster already has its workers.
        """
        from l63fast.experiments.tasks import Scheduler, default_workers

        address, file = self["scheduler"], self["scheduler_file"]
        if address is None and file is None:
            if self["insecure"]:
                raise ConfigurationError(
                    "--insecure: expected together with --scheduler, got it alone"
                )
            n = self["workers"] or default_workers(n_tasks)
            return {"n_workers": n}, f"{n} worker{'s' if n > 1 else ''}"
        if address is not None and file is not None:
            raise ConfigurationError(
                "--scheduler, --scheduler_file: expected one of them, got both"
            )
        if self["workers"] is not None:
            raise ConfigurationError(
                f"--workers: expected none with a scheduler, whose cluster already has "
                f"its workers, got {self['workers']}"
            )
        scheduler = Scheduler(address, file, self["insecure"])
        return {"scheduler": scheduler}, f"the workers of {address or file}"

    def _varied(self, table: str, field: str) -> str | None:
        """Return the typed option of an axis that varies a setting, or None."""
        axes = (a for a, (places, _) in AXES.items() if f"{table}.{field}" in places)
        return next(filter(None, (self.flag("vary", axis) for axis in axes)), None)


OPTIONS: Final[dict[str, Sequence[Option]]] = {}  # of each command, by its name


def command(*options: Option) -> Callable[[Callable[[Given], None]], Any]:
    """Return a decorator that makes a command of a function, with these options."""

    def register(body: Callable[[Given], None]) -> Any:
        @wraps(body)
        def run(context: typer.Context, **values: Any) -> None:
            sources = ((name, context.get_parameter_source(name)) for name in values)
            typed = {n for n, source in sources if source and source.name != "DEFAULT"}
            body(Given(options, values, typed))

        first = inspect.Parameter(
            "context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
        )
        parameters = [first, *(option.parameter() for option in options)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        OPTIONS[body.__name__] = options
        return run

    return register


def _sizes(given: Given, data: Any) -> Tables:
    """Return the sizes of the training and validation splits that `--n_traj` implies.

    If none of the two sizes is given, training gets two thirds, as in the defaults.
    """
    total = given.typed("n_traj")
    if total is None or not isinstance(data, dict):
        return {}
    refuse("path" in data, "--n_traj", NONE_WITH_PATH, total)
    n_train, n_val = data.get("n_train"), data.get("n_val")
    typed = given.names & {"train", "val"}
    if not typed and None not in (n_train, n_val):
        n_train = n_val = None  # both are from the file: the typed option replaces them
    if n_train is None:
        n_train = total - (max(total // 3, 1) if n_val is None else n_val)
    n_val = total - n_train if n_val is None else n_val
    if min(n_train, n_val) < 1:
        given_size, other = ("val", "train") if n_train < 1 else ("train", "val")
        raise ConfigurationError(
            f"--n_traj: expected more than --{given_size} {max(n_train, n_val)}, got "
            f"{total}, which leaves nothing for --{other}"
        )
    if n_train + n_val != total:
        raise ConfigurationError(
            f"--n_traj: expected the sum of --train {n_train} and --val {n_val}, got "
            f"{total}"
        )
    return {"data": {"n_train": n_train, "n_val": n_val}}


def _setting(place: str) -> tuple[str, str]:
    """Return the table and the field in a place like "methods.gru.training.epochs"."""
    parts = ["", *(part for part in place.split(".") if not part.isdecimal())]
    table = parts[-2]
    if parts[1] == "methods" and table != "training":
        table = "method"
    return table, parts[-1]
