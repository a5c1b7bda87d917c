"""Promise F2: one bit of any file of any kind, found by whoever reads the file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from experiment_samples import tiny_cell
from l63fast.errors import L63Error
from l63fast.storage import result_directory, verify_directory
from l63fast.twin import SPLIT_NAMES, TwinExperiment, TwinSettings

FLIPS = int(os.environ.get("L63FAST_FLIPS", "10000"))
Read = Callable[[Path], object]


def read_twin(path: Path) -> None:
    twin = TwinExperiment.load(path)
    for name in SPLIT_NAMES:
        twin.split(name)


def read_shards(path: Path) -> None:
    from l63fast.twin import open_shards

    open_shards(path, verify=True).close()


def read_checkpoint_of(path: Path) -> None:
    from l63fast.learning.loop import read_checkpoint

    read_checkpoint(path, {"a": 1})


def read_program(format: str, sha256: str) -> Read:
    """Return what loads a program whose right hash the caller knows."""
    from l63fast.learning.export import load_encoder

    return lambda path: load_encoder(path, format=format, sha256=sha256)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, reported: Path) -> dict[str, tuple[Path, list[str], Read]]:
    """Return a folder of each kind, its files, and what a user reads them with."""
    from l63fast.experiments.data import make_shards
    from l63fast.experiments.figures import draw_figures
    from l63fast.experiments.run_cell import run_cell
    from l63fast.learning.card import FILES
    from l63fast.learning.export import load_weights, save_model
    from l63fast.learning.loop import CHECKPOINT, write_checkpoint
    from l63fast.twin import ShardSettings

    root = tmp_path_factory.mktemp("kinds")
    TwinExperiment.generate(tiny_cell().data).save(root / "twin")
    make_shards(ShardSettings(TwinSettings(n_train=9, n_steps=20), 3), root / "shards")
    run_cell(tiny_cell(), root / "twin", root / "cell", keep_states=True)
    draw_figures(root / "cell")
    encoder, trained = load_weights(root / "cell")
    with result_directory(root / "model", kind="model") as folder:
        card = save_model(encoder, folder, trained["training"], formats=tuple(FILES))
    (root / "checkpoint").mkdir()
    write_checkpoint(root / "checkpoint", {"a": 1}, {"weights": [0.0] * 100})
    cycled = next(path.parent for path in reported.glob("*/diagnostics.nc"))
    found = {
        "twin": (root / "twin", read_twin),
        "shards": (root / "shards", read_shards),
        "cell": (root / "cell", verify_directory),
        "cycled cell": (cycled, verify_directory),
        "report": (reported / "report", verify_directory),
        "model": (root / "model", verify_directory),
    }
    every = {
        kind: (path, sorted(files_of(path)), read)
        for kind, (path, read) in found.items()
    }
    every["checkpoint"] = (root / "checkpoint", [CHECKPOINT], read_checkpoint_of)
    for format, file in card["files"].items():
        read = read_program(format, file["sha256"])
        every[format] = (root / "model", [file["name"]], read)
    return every


def files_of(path: Path) -> list[str]:
    return [str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()]


def flipped(path: Path, read: Read, name: str, rng: random.Random) -> str:
    """Flip one bit of a file, read, and put it back; return "" if it was found."""
    good = (path / name).read_bytes()
    bit = rng.randrange(8 * len(good))
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    (path / name).write_bytes(bad)
    try:
        read(path)
    except L63Error:
        return ""
    else:
        return f"{path / name}: bit {bit}"
    finally:
        (path / name).write_bytes(good)


@pytest.mark.slow
@pytest.mark.promise("F2", "10,000 single-bit flips of every kind of file: all found")
def test_every_bit_of_every_kind_of_file_is_watched(kinds, record_property) -> None:
    suffixes = {Path(name).suffix for _, names, _ in kinds.values() for name in names}
    assert suffixes >= {".nc", ".json", ".toml", ".csv", ".tex", ".html", ".png"}
    assert suffixes >= {".safetensors", ".pt", ".pt2", ".onnx", ".svg", ".txt"}
    places = [(k, name) for k, (_, names, _) in kinds.items() for name in names]
    rng, missed = random.Random(5), []
    for path, _, read in kinds.values():
        read(path)
    for number in range(FLIPS):
        kind, name = places[number % len(places)]
        path, _, read = kinds[kind]
        missed.append(flipped(path, read, name, rng))
    assert [place for place in missed if place] == []
    what = f"{len(places)} files of {len(kinds)} kinds"
    record_property("measured", f"{FLIPS} of {FLIPS} flips of {what} found")
