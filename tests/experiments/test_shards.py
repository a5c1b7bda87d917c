"""Ensembles in shards: the same however they are made, resumed, found damaged, read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import l63fast
from builds import HELPERS
from cli_runs import Command, make_command
from l63fast.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    ConfigurationError,
    DataFileError,
    L63Error,
    ResultError,
)
from l63fast.experiments.data import make_shards
from l63fast.experiments.tasks import Progress
from l63fast.storage import read_manifest
from l63fast.twin import ShardSettings, TwinExperiment, TwinSettings, shards

FLAGS = ("--n_steps", 20, "--save_every", 10, "--spin_up_time", 1, "--seed", 3)


def small(n: int = 100, n_shards: int = 4, **data: Any) -> ShardSettings:
    settings: dict[str, Any] = {
        "n_steps": 20,
        "save_every": 10,
        "spin_up_time": 1.0,
        "n_train": n,
        "n_val": 1,
    }
    return ShardSettings(TwinSettings(**(settings | data)), n_shards)


def hashes(folder: Path) -> dict[str, str]:
    return {name: file.sha256 for name, file in read_manifest(folder).files.items()}


def made(settings: ShardSettings, folder: Path, **how: Any) -> list[str]:
    """Make shards and return the line about each."""
    lines: list[str] = []
    note = Progress(lambda name, line: lines.append(f"{name} {line}"))
    make_shards(settings, folder, progress=note, **how)
    return lines


@pytest.fixture
def l63(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return make_command(monkeypatch, capsys)


@pytest.mark.parametrize("Q", [0.0, 0.1])
def test_trajectories_are_those_of_a_plain_twin_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, Q: float
) -> None:
    monkeypatch.setattr(shards, "_LEAST_ROWS", 7)
    monkeypatch.setattr(shards, "_BLOCK_BYTES", 1)  # so a shard has several blocks
    made(small(Q=Q), tmp_path / "s")
    twin = TwinExperiment.generate(small(30, 1, Q=Q).data)
    with l63fast.open_shards(tmp_path / "s", verify=True) as ensemble:
        assert dict(ensemble.sizes)["trajectory"] == 100
        assert (ensemble.trajectory == np.arange(100)).all()
        first = ensemble.isel(trajectory=slice(30))
        assert (first.truth.to_numpy() == twin.train.truth).all()
        assert (first.observation.to_numpy() == twin.train.observations).all()
        assert ensemble.truth.chunks is not None  # nothing is read before it is used


def test_xarray_alone_reads_them(tmp_path: Path) -> None:
    made(small(), tmp_path / "s")
    with xr.open_mfdataset(str(tmp_path / "s" / "part-*.nc")) as ensemble:
        assert ensemble.truth.shape == (100, 3, 3)
        assert ensemble.truth.chunks[0] == (25, 25, 25, 25)


def test_sizes_that_do_not_divide(tmp_path: Path) -> None:
    settings = small(10, 3)
    members = [settings.trajectories(k) for k in range(3)]
    assert [i for one in members for i in one] == list(range(10))
    assert {len(one) for one in members} == {3, 4}
    made(settings, tmp_path / "s")
    with l63fast.open_shards(tmp_path / "s") as ensemble:
        assert ensemble.truth.shape[0] == 10
    with pytest.raises(L63Error, match="n_shards: expected at most 10, got 11"):
        small(10, 11)


@pytest.mark.promise("F1", "shards: resumed to equal bytes")
def test_a_stopped_run_is_resumed(tmp_path: Path) -> None:
    made(small(), tmp_path / "whole")

    def stop(name: str, line: str) -> None:
        if name == "part-00001.nc":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shards(small(), tmp_path / "s", progress=Progress(stop))
    assert not (tmp_path / "s").exists()
    partial = tmp_path / ".s.partial"
    (partial / ".part-00003.nc.123.tmp").write_bytes(b"left by a killed run")
    lines = made(small(), tmp_path / "s", resume=True)
    assert [line.endswith("kept") for line in lines] == [True, True, False, False]
    assert hashes(tmp_path / "s") == hashes(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"]


@pytest.mark.promise("F2", "shards: found")
def test_a_damaged_shard_is_found_and_made_again_on_resume(tmp_path: Path) -> None:
    made(small(), tmp_path / "s")
    before = hashes(tmp_path / "s")
    damaged = tmp_path / "s" / "part-00002.nc"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataFileError, match=r"part-00002\.nc: is damaged.*sha256"):
        l63fast.open_shards(tmp_path / "s", verify=True)
    lines = made(small(), tmp_path / "s", resume=True)
    assert [line.endswith("kept") for line in lines] == [True, True, False, True]
    assert "is damaged: expected sha256" in lines[2]
    assert lines[2].endswith("made again)")
    assert hashes(tmp_path / "s") == before
    l63fast.open_shards(tmp_path / "s", verify=True).close()
    assert not any(line.endswith("kept") for line in made(small(), tmp_path / "s"))


def test_a_truncated_shard_is_found_at_once(tmp_path: Path) -> None:
    made(small(), tmp_path / "s")
    path = tmp_path / "s" / "part-00001.nc"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataFileError, match=r"part-00001\.nc: is damaged"):
        l63fast.open_shards(tmp_path / "s")


def test_a_damaged_shard_of_a_stopped_run_is_made_again(tmp_path: Path) -> None:
    def stop(name: str, line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shards(small(), tmp_path / "s", progress=Progress(stop))
    part = tmp_path / ".s.partial" / "part-00000.nc"
    part.write_bytes(part.read_bytes()[:-1])
    lines = made(small(), tmp_path / "s", resume=True)
    assert "is damaged" in lines[0]
    assert l63fast.open_shards(tmp_path / "s", verify=True).sizes["trajectory"] == 100


def test_shards_of_other_settings_are_not_resumed(tmp_path: Path) -> None:
    made(small(), tmp_path / "s")
    before = hashes(tmp_path / "s")
    for other in (small(seed=1), small(99), small(n_shards=5)):
        with pytest.raises(ConfigurationError, match="other settings"):
            make_shards(other, tmp_path / "s", resume=True)
    assert hashes(tmp_path / "s") == before
    made(small(seed=1), tmp_path / "s")
    assert hashes(tmp_path / "s") != before


@pytest.mark.promise("F3", "shards: refused before work")
def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = small().n_bytes
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ResultError, match=f"needs {needed} bytes.* has 1000 bytes"):
        make_shards(small(), tmp_path / "deep" / "s")
    assert list(tmp_path.iterdir()) == []


def test_arguments_of_shards_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ArgumentValueError, match="workers: expected at least 1, got 0"):
        make_shards(small(), tmp_path / "s", n_workers=0)
    with pytest.raises(ArgumentTypeError, match="resume: expected True or False"):
        make_shards(small(), tmp_path / "s", resume="no")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_disk_space_asked_for_is_enough_and_not_far_too_much(tmp_path) -> None:
    settings = small(20_000, 4)
    made(settings, tmp_path / "s")
    used = sum(path.stat().st_size for path in (tmp_path / "s").iterdir())
    assert used <= settings.n_bytes <= 1.3 * used


def test_a_shard_that_fails_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shards, "_SPLIT", "none of them")
        with pytest.raises(ResultError, match=r"4 of 4 shards failed.*part-00000\.nc"):
            make_shards(small(), tmp_path / "s")
    assert not (tmp_path / "s").exists()
    made(small(), tmp_path / "s", resume=True)


def test_something_else_is_not_read_as_shards_nor_replaced(tmp_path: Path) -> None:
    twin = TwinExperiment.generate(small(6, 1, n_test=1).data)
    twin.save(tmp_path / "twin")
    with pytest.raises(DataFileError, match="expected shards, got a 'twin'"):
        l63fast.open_shards(tmp_path / "twin")
    with pytest.raises(ResultError, match="holds a result of kind 'twin'"):
        make_shards(small(), tmp_path / "twin")


def test_the_command_writes_shards(l63: Command) -> None:
    run = l63("simulate", "--n_traj", 50, *FLAGS, "--shards", 2, "--workers", 1)
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    assert lines[0].startswith("50 trajectories of 20 steps")
    assert [line[:20] for line in lines[2:4]] == [
        "[ 1/2] part-00000.nc",
        "[ 2/2] part-00001.nc",
    ]
    assert lines[-1] == "written to data/xy-shards"
    with l63fast.open_shards("data/xy-shards") as ensemble:
        assert ensemble.sizes["trajectory"] == 50
        assert ensemble.attrs["steps_per_cycle"] == 10
    again = l63("simulate", "--n_traj", 50, *FLAGS, "--shards", 2, "--resume")
    assert again.out.count("kept") == 2
    dry = l63("simulate", "--n_traj", 50, *FLAGS, "--shards", 2, "--dry_run")
    assert "would write data/xy-shards" in dry.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shards", 2, "--val", 3), "--val: expected none with --shards"),
        (("--resume",), "--resume: expected together with --shards"),
        (("--workers", 2), "--workers: expected together with --shards"),
        (("--shards", 10, "--n_traj", 4), "--shards: expected at most 4, got 10"),
        (("--shards", 2, "--insecure"), "--insecure: expected together with"),
        (
            ("--shards", 2, "--scheduler", "tls://a:1", "--workers", 2),
            "--workers: expected none with a scheduler",
        ),
        (
            ("--shards", 2, "--scheduler", "tls://a:1", "--scheduler_file", "b"),
            "expected one of them, got both",
        ),
        (("--shards", 2, "--scheduler", "tcp://192.0.2.7:1"), "without TLS"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    l63: Command, words: tuple[object, ...], message: str
) -> None:
    run = l63("simulate", *words)
    assert run.code == 2
    assert message in run.err
    assert list(Path().iterdir()) == []


def test_states_stored_far_apart_are_observed_where_they_are_stored(
    l63: Command,
) -> None:
    words = ("--shards", 1, "--n_steps", 100, "--save_every", 50, "--print_config")
    assert "steps_per_cycle = 50" in l63("simulate", *words).out
    words = ("--shards", 1, "--n_steps", 100, "--save_every", 5, "--print_config")
    assert "steps_per_cycle = 10" in l63("simulate", *words).out


@pytest.mark.slow
def test_memory_does_not_grow_with_the_ensemble(tmp_path: Path) -> None:
    peaks = []
    for n in (1_000_000, 4_000_000):
        script = HELPERS / "shards_memory_script.py"
        words = [sys.executable, str(script), str(n), str(tmp_path / "s")]
        run = subprocess.run(words, capture_output=True, text=True, check=True)
        peaks.append(int(run.stdout))
    assert peaks[1] < 1.1 * peaks[0]
