"""The page of messages says what the command line says, and each is a sentence."""

from __future__ import annotations

import messages


def test_every_mistake_is_answered_as_the_page_says(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    made = messages.page()
    assert "Traceback" not in made
    assert made.count("(exit 1)") + made.count("(exit 2)") == made.count("$ l63fast")
    assert made == messages.PAGE.read_text(), "run: python tests/helpers/messages.py"
