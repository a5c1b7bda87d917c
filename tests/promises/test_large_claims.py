"""Files that claim to be large: refused at once, nothing read, no memory taken."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crafted_netcdf import WRAPS, write_crafted
from l63fast import storage
from l63fast.errors import ConfigurationError, DataFileError, ModelFileError
from l63fast.experiments.settings_file import read_tables
from l63fast.learning.card import CARD, FILES
from l63fast.learning.encoders import build_encoder
from l63fast.learning.export import load_encoder, save_model
from l63fast.learning.normaliser import Normaliser
from l63fast.learning.settings import EncoderSettings
from l63fast.storage.manifest import finished_part, publish_part
from l63fast.twin.shards import KIND, open_shards

HUGE = 2**40


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Let the process take 1 GiB more than it has: 1 TB is an error, not a kill."""
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize(
    "variables",
    [
        {"truth": ("f8", (2**20, 2**20))},
        {"truth": ("f8", (4, WRAPS))},
        {"axis": ("i1", (HUGE,))},  # a coordinate, which is read when a file is opened
        {"text": (str, (HUGE,))},
    ],
    ids=["12 TiB", "wraps", "coordinate", "strings"],
)
@pytest.mark.promise("C1", "netCDF of 7 KB with 8 TiB of values, 4 kinds: at once")
def test_a_netcdf_file_that_declares_more_than_it_holds(
    tmp_path: Path, variables: dict[str, Any]
) -> None:
    path = tmp_path / "x.nc"
    write_crafted(path, variables)
    assert path.stat().st_size < 20_000
    with pytest.raises(DataFileError, match=r"x\.nc: declares \d+ bytes of values"):
        storage.read_dataset(path)


def test_what_is_compressed_or_empty_is_read(tmp_path: Path) -> None:
    import numpy as np
    import xarray as xr

    zeros = xr.Dataset({"a": ("x", np.zeros(10**6)), "b": ("y", np.zeros(0))})
    zeros.to_netcdf(tmp_path / "x.nc", encoding={"a": {"zlib": True, "complevel": 9}})
    assert (tmp_path / "x.nc").stat().st_size < 80_000
    assert storage.read_dataset(tmp_path / "x.nc").sizes == {"x": 10**6, "y": 0}


@pytest.mark.promise("C1", "a shard that declares terabytes: at once")
def test_a_shard_that_declares_more_than_it_holds(tmp_path: Path) -> None:
    with storage.result_directory(tmp_path / "x", kind=KIND) as folder:
        storage.write_json(folder / "shards.json", {"n_shards": 1})
        write_crafted(folder / "part-00000.nc", {"axis": ("i1", (HUGE,))})
    with pytest.raises(DataFileError, match="more than a file of"):
        open_shards(tmp_path / "x")


@pytest.mark.promise("C1", "sparse files of 1 TB, 6 kinds: at once")
def test_sparse_files_of_a_terabyte(tmp_path: Path) -> None:
    with storage.result_directory(tmp_path / "x") as folder:
        (folder / "a.json").write_text("{}")
    os.truncate(tmp_path / "x" / "a.json", HUGE)
    damaged = "is damaged: expected 2 bytes, got 1099511627776"
    with pytest.raises(DataFileError, match=damaged):
        storage.verify_directory(tmp_path / "x")
    with pytest.raises(DataFileError, match=damaged):
        storage.read_bytes(tmp_path / "x", "a.json")
    with pytest.raises(DataFileError, match=r"needs .* available"):
        storage.read_file(tmp_path / "x" / "a.json")
    with pytest.raises(DataFileError, match="expected at most"):
        storage.read_json(tmp_path / "x" / "a.json")
    with pytest.raises(ConfigurationError, match="expected at most"):
        read_tables(tmp_path / "x" / "a.json")
    os.truncate(tmp_path / "x" / storage.MANIFEST, HUGE)
    with pytest.raises(DataFileError, match=r"manifest\.json: expected at most"):
        storage.read_manifest(tmp_path / "x")
    publish_part(tmp_path, "part", lambda path: path.write_bytes(b"12") and None)
    os.truncate(tmp_path / "part", HUGE)
    with pytest.raises(DataFileError, match=damaged):
        finished_part(tmp_path, "part")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    settings = EncoderSettings("gru", "xy", window=2, hidden=8)
    encoder = build_encoder(settings, Normaliser.identity("xy"))
    save_model(encoder, folder, {}, formats=("torchscript",))
    return folder


@pytest.mark.parametrize("size", [10**12, -3, 1])
@pytest.mark.parametrize("format", ["safetensors", "torchscript"])
@pytest.mark.promise("C1", "hidden_size of 1e12, -3 and another in a model card")
def test_a_card_with_a_memory_that_nobody_has(
    original: Path, tmp_path: Path, size: int, format: str
) -> None:
    model = Path(shutil.copytree(original, tmp_path / "model"))
    card = json.loads((model / CARD).read_text())
    (model / CARD).write_text(json.dumps(card | {"hidden_size": size}))
    if (size, format) == (1, "torchscript"):  # known when it runs
        return
    with pytest.raises(ModelFileError, match="hidden_size: expected"):
        load_encoder(model, format=format, trust=format != "safetensors")


def test_model_files_of_a_terabyte(original: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(original, tmp_path / "model"))
    os.truncate(model / FILES["safetensors"], HUGE)
    with pytest.raises(DataFileError, match=r"needs .* available"):
        load_encoder(model)
    os.truncate(model / CARD, HUGE)
    with pytest.raises(DataFileError, match="expected at most"):
        load_encoder(model)
