"""A twin experiment that guards its test split."""

from __future__ import annotations


class WithoutTest:
    """A twin whose test split cannot be opened."""

    def __init__(self, twin):
        self._twin = twin

    def __getattr__(self, name):
        assert name != "test"
        return getattr(self._twin, name)

    def split(self, name):
        assert name != "test"
        return self._twin.split(name)
