"""The page on clusters: its commands are understood, its shards are read as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock, Mock

import pytest

from cli_runs import Command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "cluster.md"
TEXT = PAGE.read_text("utf-8")
LINES = re.sub(r"\\\n", " ", TEXT).splitlines()
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SMALL = {"--n_traj": "200", "--shards": "4", "--workers": "1"}


def test_every_command_of_the_page_is_understood(l63fast: Command) -> None:
    commands = [line for line in LINES if line.startswith("l63fast ")]
    assert len(commands) > 6
    for line in commands:
        run = l63fast(*shlex.split(line, comments=True)[1:], "--dry_run")
        assert run.code == 0, (line, run.err)


def test_the_shards_of_the_page_are_made_and_read(
    l63fast: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (one for one in LINES if one.startswith("l63fast simulate")):
        words = shlex.split(line)[1:]
        for option, value in SMALL.items():
            if option in words:
                words[words.index(option) + 1] = value
        run = l63fast(*words)
        assert run.code == 0, (line, run.err)
        assert run.out.count("kept") == (4 if "--resume" in words else 0)
    exec(PYTHON[-1], {})
    spread = re.findall(r"[\d.]+", capsys.readouterr().out)
    assert all(5 < float(number) < 12 for number in spread)


def test_the_batch_script_is_one() -> None:
    [script] = re.findall(r"```\n(#!/bin/bash\n.*?)```", TEXT, re.DOTALL)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    # A step without it takes the whole job, and the next waits for ever.
    steps = [line for line in script.splitlines() if line.startswith("srun ")]
    assert len(steps) == 2
    assert all("--exact" in step.split() for step in steps)


def test_a_cluster_of_jobs_takes_what_its_classes_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, experiment = MagicMock(scheduler_address="tls://10.0.0.1:8786"), Mock()
    monkeypatch.setitem(
        sys.modules, "dask_jobqueue", Mock(SLURMCluster=Mock(return_value=cluster))
    )
    monkeypatch.setattr("l63fast.Experiment.run", experiment)
    exec(PYTHON[0], {})
    assert experiment.call_args.kwargs["scheduler"].address == "tls://10.0.0.1:8786"
