"""Numbers as tables show them."""

from __future__ import annotations

import pytest

from l63fast.experiments.describe import microseconds


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        *((0.0719, "0.0719"), (3.585, "3.58"), (99.94, "99.9"), (99.96, "100")),
        *((934.2, "934"), (12345.6, "12,346")),
    ],
)
def test_microseconds_are_never_in_powers_of_ten(micro: float, text: str) -> None:
    assert microseconds(1e-6 * micro) == text
