"""Progress: one plain line per epoch in a file, a bar on a terminal, silence on ask."""

import io

import pytest

from l63fast.learning.progress import VARIABLE, progress

RECORDS = [
    {"epoch": i, "train_loss": 1.0 / i, "val_loss": 2.0 / i, "val_rmse": 0.5 / i}
    for i in (1, 2)
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO) -> str:
    with progress("gru xy", 12, stream=stream) as report:
        for record in RECORDS:
            report(record)
    return stream.getvalue()


def test_a_file_gets_one_plain_line_per_epoch() -> None:
    assert shown(io.StringIO()).splitlines() == [
        "gru xy  epoch  1/12  loss 1.0000  val 2.0000  rmse 0.5000",
        "gru xy  epoch  2/12  loss 0.5000  val 1.0000  rmse 0.2500",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    text = shown(Terminal())
    assert "epoch  2/12" in text
    assert "\x1b[" in text


def test_off_by_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    assert shown(io.StringIO()) == ""
    assert shown(Terminal()) == ""
