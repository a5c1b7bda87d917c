"""What is made for several test processes is made by one of them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import sleep

import pytest

from made_once import made_once


def test_two_that_ask_at_once_get_what_one_of_them_made(tmp_path: Path) -> None:
    together, made = Barrier(2), []

    def make(folder: Path) -> Path:
        made.append(folder)
        sleep(0.1)  # long enough for the other to come in, if it could
        folder.joinpath("file").write_text("made")
        return folder

    def ask() -> Path:
        together.wait()
        return made_once(tmp_path / "thing", make)

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(ask) for _ in range(2)]
    first, second = (answer.result() for answer in answers)
    assert first == second == made[0]
    assert len(made) == 1
    assert first.joinpath("file").read_text() == "made"


def test_a_failure_is_everyones_own_and_not_kept(tmp_path: Path) -> None:
    def fail(_: Path) -> Path:
        raise OSError("no compiler")

    for _ in range(2):
        with pytest.raises(OSError, match="no compiler"):
            made_once(tmp_path / "thing", fail)
    assert made_once(tmp_path / "thing", lambda folder: folder.name).startswith("work")
