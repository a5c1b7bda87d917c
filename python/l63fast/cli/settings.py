"""From a command line to settings: defaults, then the TOML file, then the flags."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from l63fast.cli.declare import Given
from l63fast.errors import ConfigurationError
from l63fast.experiments.protocols import PROTOCOLS
from l63fast.experiments.settings import AXES
from l63fast.experiments.settings_file import (
    build,
    merged,
    read_tables,
    refuse_unknown_tables,
)
from l63fast.twin import TwinSettings

__all__ = [
    "data_settings",
    "default_data",
    "file_tables",
    "given_tables",
    "refuse_other_protocol",
    "resolved",
]

T = TypeVar("T")
Tables = dict[str, Any]

COMMAND_LINE: Final = "command line"
_PLACE: Final = re.compile(rf"{COMMAND_LINE}: ([\w.-]+): ")
_BESIDE: Final = re.compile(r"(\w+) = ")  # a setting that another must agree with


def given_tables(given: Given) -> Tables:
    """Return what file and flags say, without defaults."""
    tables = merged(file_tables(given), given.tables())
    return merged(tables, _sizes(given, tables.get("data", {})))


def file_tables(given: Given) -> Tables:
    """Return what the file of `--config` says, nothing where there is none.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or has a key outside of its tables.
    """
    config = given["config"]
    tables = {} if config is None else read_tables(config)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigurationError(
                f"{config}: {name}: expected a table [{name}], got {table!r}"
            )
    return tables


def refuse_other_protocol(given: Given, holder: str, tables: Tables) -> None:
    """Refuse flags of windows where the settings that they change are in cycles.

    And the reverse. Tables with both, or none, are refused where they are read.

    Raises
    ------
    ConfigurationError
        Naming the flag.
    """
    of = [name for name in PROTOCOLS if name in tables]
    for other in (name for name in PROTOCOLS if [name] != of and len(of) == 1):
        for flag in given.flags(other):
            raise ConfigurationError(
                f"--{flag}: expected with {other}, got {holder}, which is in {of[0]}"
            )


def resolved(
    given: Given,
    tables: Tables,
    make: Callable[[Tables, str], T],
    source: str = "",
) -> T:
    """Return the settings that `make` makes of tables.

    A source says where values are from that were not typed: by default the file.

    Raises
    ------
    ConfigurationError
        Naming the flag, if the value at fault was typed, otherwise the file and key.
    """
    source = source or str(given["config"] or "settings")
    try:
        return make(tables, COMMAND_LINE)
    except ConfigurationError as error:
        place = _PLACE.match(str(error))
        if place is None:
            return make(tables, source)
        said = str(error)[place.end() :]
        table, field = _setting(place.group(1))
        flag = _flag(given, table, field)
        if flag is not None:
            raise ConfigurationError(f"--{flag}: {said}") from None
        for beside in _BESIDE.findall(said):
            flag = _flag(given, "data", beside)
            if flag is not None:
                raise ConfigurationError(f"--{flag}: {field}: {said}") from None
        return make(tables, source)


def _setting(place: str) -> tuple[str, str]:
    """Return table and field of a place such as "methods.gru.training.epochs"."""
    parts = ["", *(part for part in place.split(".") if not part.isdecimal())]
    table = parts[-2]
    if parts[1] == "methods" and table != "training":
        table = "method"
    return table, parts[-1]


def _flag(given: Given, table: str, field: str) -> str | None:
    """Return the typed flag that set a field, or an axis that it is varied along."""
    for axis, (places, _) in AXES.items():
        varied = given.flag("vary", axis)
        if varied and f"{table}.{field}" in places:
            return varied
    return given.flag(table, field)


def data_settings(given: Given, tables: Tables) -> TwinSettings:
    """Return the settings of a twin experiment, which are in the table [data]."""

    def make(tables: Tables, source: str) -> TwinSettings:
        refuse_unknown_tables(tables, ("data",), source)
        return build(TwinSettings, tables.get("data", {}), source=source, key="data")

    return resolved(given, tables, make)


def default_data(operator: str) -> Path:
    """Return where the data of an operator are unless `--data` says otherwise."""
    return Path("data") / operator


def _sizes(given: Given, data: Any) -> Tables:
    """Return the sizes of training and validation that `--n_traj` implies.

    Alone it is divided two to one, as the defaults are.
    """
    total = given.typed("n_traj")
    if total is None or not isinstance(data, dict):
        return {}
    n_train, n_val = data.get("n_train"), data.get("n_val")
    typed = {given.typed("train"), given.typed("val")} - {None}
    if not typed and None not in (n_train, n_val):
        n_train = n_val = None  # both from the file, and the flag overrules it
    if n_train is None:
        n_train = total - (max(total // 3, 1) if n_val is None else n_val)
    n_val = total - n_train if n_val is None else n_val
    if min(n_train, n_val) < 1:
        given_size, other = ("val", "train") if n_train < 1 else ("train", "val")
        raise ConfigurationError(
            f"--n_traj {total}: expected more than --{given_size} "
            f"{max(n_train, n_val)}, which leaves nothing for --{other}"
        )
    if n_train + n_val != total:
        raise ConfigurationError(
            f"--train {n_train} and --val {n_val} do not add up to --n_traj {total}"
        )
    return {"data": {"n_train": n_train, "n_val": n_val}}
