"""Cycled schemes in DAPPER, on its own sakov2012, statistics included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

N_CYCLES = 200


def dapper_cycles(scheme: str, settings: Mapping[str, Any]) -> Callable[[], float]:
    """Return a function that cycles a scheme of DAPPER once; it gives the mean rms.

    Parameters
    ----------
    scheme : str
        Name of the class in `dapper.da_methods`.
    settings : mapping
        Its own.
    """
    import dapper
    from dapper import da_methods
    from dapper.mods.Lorenz63.sakov2012 import HMM
    from dapper.tools import progressbar

    progressbar.disable_progbar = True
    model = HMM.copy()
    model.tseq.Ko = N_CYCLES - 1
    dapper.set_seed(3)
    truth, observations = model.simulate()

    def cycle() -> float:
        method = getattr(da_methods, scheme)(**settings)
        method.assimilate(model, truth, observations, liveplots=False)
        method.stats.average_in_time()
        return float(method.avrgs.err.rms.a.val)

    return cycle
