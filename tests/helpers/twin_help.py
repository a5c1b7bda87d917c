"""A twin experiment that guards its test split."""

from __future__ import annotations

from l63fast.twin import Split, TwinExperiment


class WithoutTest(TwinExperiment):
    """A twin whose test split cannot be opened."""

    def __init__(self, twin: TwinExperiment):
        vars(self).update(vars(twin))

    def split(self, name: str) -> Split:
        assert name != "test"
        return super().split(name)
