"""Unusual environments: what is asked for works, or one sentence says why it cannot."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import l63fast
from builds import REPOSITORY
from l63fast import _checks
from l63fast.assimilation.particle import ParticleFilter
from l63fast.errors import ArgumentTypeError, MemoryLimitError
from l63fast.experiments.tasks import default_workers
from l63fast.lorenz63 import simulate

MAIN: Final = "from l63fast.cli import main; main()"
FORECAST: Final = """
import numpy as np, l63fast
forecast = l63fast.forecast(np.ones((3, 3)), 5, backend={backend!r})
"""
NUMBA, AUTO = FORECAST.format(backend="numba"), FORECAST.format(backend="auto")
PLOT: Final = """
import os
from l63fast.plotting import error_distribution
assert os.environ["MPLBACKEND"] == "foo"
"""


@dataclass(frozen=True)
class Case:
    """A command in an environment; what standard error ends with, nothing by default.

    With `closed`, it is started without standard output.
    """

    code: str
    words: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    says: str = ""
    status: int = 0
    closed: bool = False


CASES: Final = {
    "NUMBA_DISABLE_JIT": Case(
        NUMBA,
        environment={"NUMBA_DISABLE_JIT": "1"},
        says="BackendError: NUMBA_DISABLE_JIT: expected it to be unset, got 1: "
        "interpreted, Numba's kernels cannot round as the compiled ones do",
        status=1,
    ),
    "NUMBA_DISABLE_JIT, C++": Case(AUTO, environment={"NUMBA_DISABLE_JIT": "1"}),
    "NUMBA_NUM_THREADS": Case(
        NUMBA,
        environment={"NUMBA_NUM_THREADS": "0"},
        says="BackendError: backend: Numba cannot be imported: Number of threads "
        "specified must be > 0.",
        status=1,
    ),
    "NUMBA_NUM_THREADS, C++": Case(AUTO, environment={"NUMBA_NUM_THREADS": "0"}),
    "warnings as errors": Case(MAIN, ("doctor",), ("-W", "error")),
    "no docstrings": Case(MAIN, ("doctor",), ("-OO",)),
    "closed output": Case(
        MAIN, ("simulate", "--n_traj", "4", "--n_steps", "100", "--shards", "2"),
        closed=True,
    ),
    "MPLBACKEND": Case(
        PLOT,
        environment={"MPLBACKEND": "foo"},
        says="BackendWarning: MPLBACKEND: expected a backend of matplotlib, got "
        "'foo'; it is ignored\n  _import_matplotlib()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.promise("E1", "8 environments: works, or one sentence")
def test_a_command_in_an_unusual_environment(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    command = [sys.executable, *case.flags, "-c", case.code, *case.words]
    if case.closed:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | case.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = done.stderr.strip()
    assert done.returncode == case.status, said
    assert said.endswith(case.says)
    assert case.says or not said


# A user of whom the system knows no name and no home.
UNKNOWN: Final = """
import pwd
def unknown(_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = unknown
"""


@pytest.mark.promise("E1", "no HOME, unknown uid, package and cache read-only: works")
def test_a_user_without_a_name_a_home_or_a_place_to_write_to(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    package, site = Path(l63fast.__file__).parent, tmp_path / "site"
    shutil.copytree(package, site / "l63fast", ignore=ignored)
    # Root may write anywhere, except where a file is in the way.
    (site / "l63fast/_kernels/numba_kernels/__pycache__").write_text("")
    kept = {"PATH", "LD_LIBRARY_PATH", "LANG"}
    environment = {name: os.environ[name] for name in kept & set(os.environ)}
    environment |= {"PYTHONPATH": str(site), "XDG_CACHE_HOME": "/proc/none"}
    code = f"{UNKNOWN}{NUMBA}\nprint(l63fast.__file__)\n{MAIN}"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, "doctor"],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(str(site))
    assert "the expected bits" in done.stdout


@pytest.mark.promise("B6", "the limit of `ulimit -v` counts as memory")
def test_a_limit_on_addresses_is_a_limit_on_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0])
    limit = used * resource.getpagesize() + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        assert 0 < _checks.available_memory() <= 2**28
        with pytest.raises(MemoryLimitError, match="n_steps: needs"):
            simulate(np.ones((1000, 3)), 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.promise("E1", "np.seterr(all='raise') with a particle filter: works")
def test_numpy_that_raises_and_a_particle_filter() -> None:
    scheme = ParticleFilter("x2", B=50.0, R=1e-4, n_particles=20, n_members=5)
    with np.errstate(all="raise"):
        for y in (1e3, 1e150):
            state = scheme.initial(np.full((3, 3), 20.0), np.random.default_rng(0))
            state, _ = scheme.analyse(state, np.full((3, 1, 1), y))
            scheme.forecast(state, 10)


@pytest.mark.promise("E1", "a masked array as `out`: one sentence")
def test_a_masked_array_to_write_to_is_refused() -> None:
    out = np.ma.masked_array(np.zeros((3, 6, 3)), mask=True)
    with pytest.raises(ArgumentTypeError, match="out: expected a plain array, got a m"):
        simulate(np.ones((3, 3)), 5, out=out)
    assert not out.data.any()


@pytest.mark.promise("E1", "no os.sched_getaffinity, as on macOS: works")
def test_a_system_that_does_not_say_which_cores_may_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert _checks.threads("n_threads", None) == 3
    assert default_workers(100) in (1, 3)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _checks.usable_cores() == 1
    sources = (REPOSITORY / "python").rglob("*.py")
    asking = [p.name for p in sources if "os.sched_getaffinity(" in p.read_text()]
    assert sorted(asking) == ["_timing.py", "values.py"]  # each asks for it first
