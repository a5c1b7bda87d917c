"""Results that are changed by hand, with a manifest that fits."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l63fast.experiments.settings_file import dump_tables
from l63fast.storage import read_manifest, result_directory

__all__ = ["of_version_0_1_0", "rewrite"]


def rewrite(
    folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    """Let `change` change the settings and metrics of a result."""
    manifest = read_manifest(folder)
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    tables = tomllib.loads(files["config.toml"].decode())
    metrics = json.loads(files["metrics.json"])
    change(tables, metrics)
    files["config.toml"] = dump_tables(tables).encode()
    files["metrics.json"] = json.dumps(metrics).encode()
    with result_directory(folder, kind=manifest.kind) as new:
        for name, content in files.items():
            (new / name).write_bytes(content)


def of_version_0_1_0(folder: Path) -> None:
    """Give a result the form of version 0.1.0: of cycles, or of windows."""

    def change(tables: dict[str, Any], metrics: dict[str, Any]) -> None:
        if "cycles" in tables:
            tables["cycle"] = tables.pop("cycles")
            tables["cell"] = {"key": tables["cell"]["key"], "case": ""}
        else:
            for name in ("cell", "windows", "method"):
                del tables[name]
            tables["model"] = {"model": "gru"}
        for name in ("role", "three_d_var", "start", "rescued"):
            del metrics[name]
        metrics["versions"]["l63fast"] = "0.1.0"

    rewrite(folder, change)
