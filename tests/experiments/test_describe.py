"""Numbers as tables show them."""

from __future__ import annotations

import pytest

from l63fast.experiments.describe import captions, microseconds

_OF_A_FIGURE = {"name", "caption", "summary", "folded"}
_PARTS = {"panels": {"forecast", "points", "part"}}


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        *((0.0719, "0.0719"), (3.585, "3.58"), (99.94, "99.9"), (99.96, "100")),
        *((934.2, "934"), (12345.6, "12,346")),
    ],
)
def test_microseconds_are_never_in_powers_of_ten(micro: float, text: str) -> None:
    assert microseconds(1e-6 * micro) == text


def test_every_figure_has_a_caption_and_a_summary() -> None:
    words = {kind: set(said) for kind, said in captions().items() if kind != "table"}
    assert len(words) > 15
    for kind, said in words.items():
        assert {"caption", "summary"} <= said, kind
        assert said - _OF_A_FIGURE <= _PARTS.get(kind, set()), kind
    assert not any(text.endswith(".") for text in captions()["table"].values())
