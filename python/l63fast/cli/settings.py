"""From a command line to settings: defaults, then the TOML file, then the flags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from l63fast.cli.declare import Given
from l63fast.errors import ConfigurationError

if TYPE_CHECKING:
    from l63fast.experiments.config import CellSettings

__all__ = ["cell_settings", "given_tables"]

Tables = dict[str, Any]


def given_tables(given: Given) -> tuple[Tables, str]:
    """Return what file and flags say, without defaults, and where it comes from.

    A mistake in the file is reported as the file's, before flags are laid over it.
    """
    from l63fast.experiments.config import merged
    from l63fast.experiments.settings_file import read_tables

    path = given["config"]
    tables = {} if path is None else read_tables(path)
    over = given.tables()
    sizes = _sizes(given, merged(tables, over).get("data", {}))
    return merged(merged(tables, over), sizes), str(path or "command line")


def _sizes(given: Given, data: Any) -> Tables:
    """Return the sizes of the splits that `--n_traj` implies."""
    total = given.typed("n_traj")
    if total is None or not isinstance(data, dict):
        return {}
    n_train, n_val = data.get("n_train"), data.get("n_val")
    if n_train is None and n_val is None:
        n_val = max(total // 3, 1)
    if n_train is None:
        n_train = total - n_val
    if n_val is None:
        n_val = total - n_train
    if n_train + n_val != total or min(n_train, n_val) < 1:
        raise ConfigurationError(
            f"--train {n_train} and --val {n_val} do not add up to --n_traj {total}"
            if min(n_train, n_val) >= 1
            else f"--n_traj {total} leaves no trajectory for "
            f"{'training' if n_train < 1 else 'validation'} (--train {n_train}, "
            f"--val {n_val})"
        )
    return {"data": {"n_train": n_train, "n_val": n_val}}


def cell_settings(tables: Tables, source: str) -> CellSettings:
    """Return the settings of a cell."""
    from l63fast.experiments.config import cell_from_tables

    return cell_from_tables(tables, source=source)


def default_data(operator: str) -> Path:
    """Return where the data of an operator are unless `--data` says otherwise."""
    return Path("data") / operator
