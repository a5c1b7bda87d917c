"""Files changed at random or by plan, with a manifest that fits or with the old one."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiment_samples import tiny_cell
from l63fast.errors import DataFileError, L63Error
from l63fast.experiments.results import Result, Source
from l63fast.experiments.settings import Cell
from l63fast.experiments.settings_file import dump_tables, read_tables
from l63fast.storage import MANIFEST, FileRecord, read_manifest, verify_directory
from l63fast.twin import SPLIT_NAMES, TwinExperiment

__all__ = ["LOADERS", "fuzz", "originals_in", "put"]

Loader = Callable[[Path], object]
# What stands in place of a number, a word, a list or a table.
HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        10**400,
        1e300,
        "",
        "evil",
        "\ud800",
        "\x1b[2J",
        [],
        {},
        [[1], []],
    ),
    *([1, [2]], {"evil": {}}, float("nan"), "nan", "inf", 0, [0] * 7),
)


def put(folder: Path, name: str, data: bytes, *, sign: bool = True) -> None:
    """Put bytes into a file of a result; with `sign` its manifest and card agree."""
    (folder / name).write_bytes(data)
    record = FileRecord(len(data), hashlib.sha256(data).hexdigest())
    card = folder / "model.json"
    if sign and name == "model.safetensors":
        content = json.loads(card.read_text())
        content["files"]["safetensors"] |= {
            "size": record.size,
            "sha256": record.sha256,
        }
        put(folder, card.name, json.dumps(content).encode())
    if sign and (folder / MANIFEST).exists() and name != MANIFEST:
        manifest = read_manifest(folder)
        files = {**manifest.files, name: record}
        (folder / MANIFEST).write_bytes(replace(manifest, files=files).to_bytes())


def load_twin(path: Path) -> None:
    for name in SPLIT_NAMES:
        _ = TwinExperiment.load(path).split(name)


def load_model(path: Path) -> None:
    from l63fast.learning.export import load_encoder

    load_encoder(path)


def load_result(path: Path) -> None:
    verify_directory(path)
    result = Result.open(path)
    _ = result.estimates, result.history
    Source.of([result])


def load_configuration(path: Path) -> None:
    Cell.from_tables(read_tables(path / "config.toml"), source="a test")


def load_checkpoint(path: Path) -> None:
    from l63fast.learning.loop import read_checkpoint

    read_checkpoint(path, {"a": 1})


# Folder, file and what reads it.
LOADERS: dict[str, tuple[str, str, Loader]] = {
    "dataset": ("twin", "train.nc", load_twin),
    "index": ("twin", "experiment.json", load_twin),
    "manifest": ("cell", "manifest.json", load_result),
    "estimates": ("cell", "estimates.nc", load_result),
    "metrics": ("cell", "metrics.json", load_result),
    "settings": ("cell", "config.toml", load_result),
    "times": ("cell", "timing.json", load_result),
    "history": ("cell", "history.csv", load_result),
    "trajectories": ("cell", "results.csv", load_result),
    "model": ("model", "model.safetensors", load_model),
    "card": ("model", "model.json", load_model),
    "configuration": ("model", "config.toml", load_configuration),
}


def originals_in(root: Path) -> Path:
    """Make one folder of each kind; those that have a cell in them need torch."""
    from l63fast.experiments.run_cell import run_cell

    TwinExperiment.generate(tiny_cell().data).save(root / "twin")
    run_cell(tiny_cell(), root / "twin", root / "cell", keep_states=True)
    (root / "model").mkdir()
    for name in ("model.json", "model.safetensors", "config.toml"):
        shutil.copy(root / "cell" / name, root / "model" / name)
    return root


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with some of them changed, cut, doubled or replaced."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(out) + 1)
        kind = rng.randrange(5)
        if kind == 0 and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[place : place + rng.choice([1, 2, 100, len(out)])]
        elif kind == 2:
            out[place:place] = out[: rng.choice([1, 7, 300])]
        elif kind == 3:
            words = (b"Infinity", b"NaN", b"null", b"[", b"-1", b"1e999", b"\xff\0")
            out[place : place + rng.randrange(9)] = rng.choice(words)
        else:
            out[place : place + 8] = rng.randbytes(8)
    return bytes(out)


def replaced(data: bytes, name: str, rng: random.Random) -> bytes:
    """Return JSON or TOML with one of its values gone, or another in its place."""
    is_json = name.endswith(".json")
    content = json.loads(data) if is_json else tomllib.loads(data.decode())
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            places.append((value, key))
            if isinstance(inner, (dict, list)):
                walk(inner)

    walk(content)
    holder, key = rng.choice(places)
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = rng.choice(HOSTILE)
    try:
        return (json.dumps(content) if is_json else dump_tables(content)).encode()
    except (
        TypeError,
        ValueError,
        AttributeError,
    ):  # TOML has no null, no half character
        return b""


def fuzz(
    kind: str,
    originals: Path,
    folder: Path,
    seconds: float,
    n: int,
    *,
    sign: bool = False,
) -> int:
    """Load mutated files until the time is over; return how many were tried.

    With `sign` every hash is that of the mutant, so content alone can be refused.
    """
    source, name, load = LOADERS[kind]
    shutil.copytree(originals / source, folder)
    load(folder)
    good, rng = (folder / name).read_bytes(), random.Random(kind)
    refusals = DataFileError if sign and kind != "configuration" else L63Error
    structured = sign and name.endswith((".json", ".toml"))
    began, tried = time.monotonic(), 0
    while tried < n or time.monotonic() - began < seconds:
        by_value = structured and rng.random() < 0.7
        bad = replaced(good, name, rng) if by_value else mutated(good, rng)
        put(folder, name, bad, sign=sign)
        try:
            load(folder)
        except refusals:
            pass
        except Exception as error:
            error.add_note(f"{kind}: mutant {tried}: {bad[:3000]!r}")
            raise
        else:
            checked = not sign and kind not in ("card", "configuration")
            assert bad == good or not checked, "damage was not found"
        tried += 1
    return tried
