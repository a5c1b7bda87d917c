"""From a command line to settings: defaults, then the TOML file, then the flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from l63fast.cli.declare import Given
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.config import CellSettings
    from l63fast.twin import TwinSettings

__all__ = ["cell_settings", "data_settings", "default_data", "given_tables", "resolved"]

T = TypeVar("T")
Tables = dict[str, Any]

COMMAND_LINE: Final = "command line"
_PLACE: Final = re.compile(rf"{COMMAND_LINE}: \[?(\w+)[\]. ]+(\w+)(?:\.\d+)?: ")


def given_tables(given: Given, over: Mapping[str, Any] | None = None) -> Tables:
    """Return what file and flags say, without defaults; `over` adds to the flags."""
    from l63fast.experiments.config import merged

    tables = merged(merged(_file(given), given.tables()), over or {})
    return merged(tables, _sizes(given, tables.get("data", {})))


def resolved(given: Given, tables: Tables, make: Callable[[Tables, str], T]) -> T:
    """Return the settings that `make` makes of tables.

    Raises
    ------
    ConfigurationError
        Naming the flag, if the value at fault was typed, otherwise the file and key.
    """
    try:
        return make(tables, COMMAND_LINE)
    except ConfigurationError as error:
        place = _PLACE.match(str(error))
        flag = given.flag(place[1], place[2]) if place else None
        if place is None or flag is None:
            return make(tables, str(given["config"] or "settings"))
        raise ConfigurationError(f"--{flag}: {str(error)[place.end() :]}") from None


def cell_settings(given: Given, tables: Tables) -> CellSettings:
    """Return the settings of a cell."""
    from l63fast.experiments.config import cell_from_tables

    return resolved(given, tables, lambda t, source: cell_from_tables(t, source=source))


def data_settings(given: Given, tables: Tables) -> TwinSettings:
    """Return the settings of a twin experiment; other tables are checked, not used."""
    from l63fast.experiments.config import sections_from_tables

    def make(tables: Tables, source: str) -> TwinSettings:
        data: TwinSettings = sections_from_tables(tables, source=source)["data"]
        return data

    return resolved(given, tables, make)


def default_data(operator: str) -> Path:
    """Return where the data of an operator are unless `--data` says otherwise."""
    return Path("data") / operator


def _file(given: Given) -> Tables:
    from l63fast.experiments.settings_file import read_tables

    return {} if given["config"] is None else read_tables(given["config"])


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
