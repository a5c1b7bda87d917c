"""Progress of long calls: shown or not, what they return is the same to the byte."""

from __future__ import annotations

import dataclasses
import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import l63fast
from experiment_samples import contents, tiny_cycled
from l63fast import _progress
from l63fast._progress import shown
from l63fast.errors import ArgumentTypeError
from l63fast.learning import train, train_cycled
from l63fast.learning.settings import EncoderSettings, TrainSettings
from l63fast.twin import TwinExperiment, TwinSettings
from learning_samples import CYCLES, GRU, samples

TWIN = TwinExperiment.generate(
    TwinSettings("xy", n_train=5, n_val=3, n_test=4, n_steps=200)
)
C = TWIN.climatology.covariance
ENKF = l63fast.EnKF.for_twin(TWIN, B=C, n_members=4, inflation=1.05)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """Standard error whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time stand still but for what is asked."""
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    monkeypatch.delenv(_progress.VARIABLE, raising=False)

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def told(clock: Callable[[float], None], stream: Any, wait: float) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with shown(True) as say:
            for line in ("a first long line", "second", "third"):
                say(line)
                clock(wait)
            say("last")
    return str(stream.getvalue())


def test_a_terminal_has_one_line_that_is_written_over(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "8")
    text = told(clock, Terminal(), 0.2)
    assert text == "\ra first\rsecond \rthird \rlast \n"
    # Faster than anyone reads: the first and the last.
    assert told(clock, Terminal(), 0.0) == "\ra first\rlast   \n"


def test_a_file_has_a_line_now_and_then(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(clock, io.StringIO(), 6.0) == "a first long line\nthird\nlast\n"
    monkeypatch.setenv(_progress.VARIABLE, "0")
    assert told(clock, Terminal(), 6.0) == "a first long line\nthird\nlast\n"


def test_a_notebook_is_written_over_as_well(clock: Callable[[float], None]) -> None:
    class OutStream(io.StringIO):
        __module__ = "ipykernel.iostream"

    assert told(clock, OutStream(), 0.0).startswith("\ra first long line\r")


def test_what_is_interrupted_leaves_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with pytest.raises(KeyboardInterrupt), shown(True) as say:  # noqa: PT012
        say("half way")
        raise KeyboardInterrupt
    assert stream.getvalue() == "\rhalf way\n"


@pytest.mark.parametrize("progress", [None, 1, "yes"])
def test_progress_is_a_bool_or_a_function(progress: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"progress: expected True, False or a"):
        l63fast.run_cycles(ENKF, TWIN, progress=progress)


# The calls


def cycled(**how: Any) -> Any:
    found = l63fast.run_cycles(ENKF, TWIN, keep_members=True, **how)
    return [found.background, found.analysis, found.members, found.status]


def tuned(**how: Any) -> Any:
    def scheme(value: float) -> Any:
        return dataclasses.replace(ENKF, inflation=value)

    found = l63fast.tune_cycled(scheme, TWIN, [1.0, 1.1, 1.21], **how)
    return [found.scales, found.scores]


def compared(**how: Any) -> Any:
    schemes = {"3dvar": l63fast.ThreeDVar.for_twin(TWIN, B=C), "enkf": ENKF}
    found = l63fast.compare(schemes, TWIN, burn_in=5, n_bootstrap=20, **how)
    return [found.results["rmse_a"].to_numpy(), found.board["score"].to_numpy()]


def trained(**how: Any) -> Any:
    settings = EncoderSettings("mlp", "xy", window=2, hidden=4)
    data = samples("xy", 60)
    found = train(settings, TrainSettings(epochs=2), data, data, **how)
    return [found.history, *(v.numpy() for v in found.encoder.state_dict().values())]


def trained_in_cycles(**how: Any) -> Any:
    settings = TrainSettings(epochs=2, batch_size=8)
    found = train_cycled(GRU, settings, CYCLES, TWIN, **how)
    return [found.history, *(v.numpy() for v in found.encoder.state_dict().values())]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (cycled, "cycle 20 of 20"),
        (tuned, "value 1.1: rmse_a "),
        (compared, "enkf: cycle 20 of 20"),
        (trained, "epoch   2/2  training "),
        (trained_in_cycles, "epoch   2/2  training "),
    ],
)
def test_progress_changes_no_result(
    call: Callable[..., Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    plain = pickle.dumps(call())
    assert pickle.dumps(call(progress=lines.append)) == plain
    assert any(one.startswith(line) for one in lines)
    for stream in (Terminal(), closed(), None, Broken()):
        monkeypatch.setattr(sys, "stderr", stream)
        assert pickle.dumps(call(progress=True)) == plain


def test_progress_of_an_experiment_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, lines = tiny_cycled("pf"), []
    experiment.run(tmp_path / "plain")
    experiment.run(tmp_path / "told", progress=lines.append)
    assert [line.partition(": ")[0] for line in lines] == [
        "[ 1/2] oi           optimal interp.",
        "[ 2/2] enkf         EnKF, N=5",
    ]
    monkeypatch.setattr(sys, "stderr", closed())
    experiment.run(tmp_path / "closed", progress=True)
    plain, told, shut = (
        {cell: contents(tmp_path / where / "tiny" / cell) for cell in ("oi", "enkf")}
        for where in ("plain", "told", "closed")
    )
    assert plain == told == shut


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        tiny_cycled("pf").run(tmp_path, progress=stop)
    assert any("resume=True" in note for note in caught.value.__notes__)
    lines: list[str] = []
    tiny_cycled("pf").run(tmp_path, progress=lines.append, resume=True)
    assert ["kept" in line for line in lines] == [True, False]
