"""What the tests of argument checks share."""

from __future__ import annotations

import pytest

from l63fast.errors import L63Error


def refused(check, *arguments, error, message="name", **options) -> None:
    with pytest.raises(error, match=message) as caught:
        check("name", *arguments, **options)
    assert str(caught.value).startswith("name"), "the message names the argument"
    assert isinstance(caught.value, L63Error)
