"""From a command line to settings: defaults, then the TOML file, then the flags."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from l63fast.cli import options
from l63fast.cli.declare import Given
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.config import CellSettings

__all__ = ["cell_settings", "default_data", "given_tables", "resolved"]

T = TypeVar("T")
Tables = dict[str, Any]

COMMAND_LINE: Final = "command line"


def given_tables(given: Given, over: Mapping[str, Any] | None = None) -> Tables:
    """Return what file and flags say, without defaults; `over` adds to the flags."""
    from l63fast.experiments.config import merged

    tables = merged(merged(_file(given), given.tables()), over or {})
    return merged(tables, _sizes(given, tables.get("data", {})))


def resolved(given: Given, tables: Tables, make: Callable[[Tables, str], T]) -> T:
    """Return the settings that `make` makes of tables; a mistake names its source.

    Raises
    ------
    ConfigurationError
        Naming the file and key if the file alone is wrong, else the flag.
    """
    try:
        return make(tables, COMMAND_LINE)
    except ConfigurationError as error:
        if given["config"] is not None:
            make(_file(given), str(given["config"]))
        raise ConfigurationError(_with_flags(str(error))) from None


def cell_settings(given: Given, tables: Tables) -> CellSettings:
    """Return the settings of a cell."""
    from l63fast.experiments.config import cell_from_tables

    return resolved(given, tables, lambda t, source: cell_from_tables(t, source=source))


def default_data(operator: str) -> Path:
    """Return where the data of an operator are unless `--data` says otherwise."""
    return Path("data") / operator


def _file(given: Given) -> Tables:
    from l63fast.experiments.settings_file import read_tables

    return {} if given["config"] is None else read_tables(given["config"])


def _with_flags(message: str) -> str:
    """Return a message about a setting as one about its flag."""
    flags = {option.target: option.name for option in options.ALL}

    def flag(match: re.Match[str]) -> str:
        axis = match[2] if match[1] == "experiment" else None
        name = flags.get(f"{match[1]}.{match[2]}", axis)
        return f"--{name}:" if name else f"{match[1]}.{match[2]}:"

    return re.sub(rf"^{COMMAND_LINE}: \[?(\w+)[\]. ]+(\w+):", flag, message)


def _sizes(given: Given, data: Any) -> Tables:
    """Return the sizes of training and validation that `--n_traj` implies.

    Alone it is divided two to one, as the defaults are.
    """
    total = given.typed("n_traj")
    if total is None or not isinstance(data, dict):
        return {}
    n_train, n_val = data.get("n_train"), data.get("n_val")
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
