"""Threads over static blocks of members, as in the C++ core."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

BLOCK: Final = 512  # members per block: 3 components of 512 float64 stay in L1

# Work per compiled call, in steps of one member. Python reacts to Ctrl-C only between
# two calls. So a call must be short, even where denormal numbers make it a hundred
# times slower, and long compared with the microseconds that entering compiled code
# takes.
CHUNK: Final = 2**19


def in_threads(
    run: Callable[[int, int, Callable[[], bool]], int], n: int, n_threads: int
) -> list[int]:
    """Call `run(begin, end, cancelled)` over static blocks; raise the first exception.

    An interrupt or an exception cancels the other threads: `run` calls `cancelled`
    between two chunks of its work.
    """
    n_blocks = -(-n // BLOCK)
    n_workers = max(1, min(n_threads, n_blocks))
    bounds = [min(n, n_blocks * i // n_workers * BLOCK) for i in range(n_workers + 1)]
    results = [0] * n_workers
    errors: list[BaseException] = []
    cancel = threading.Event()

    def work(i: int) -> None:
        try:
            results[i] = run(bounds[i], bounds[i + 1], cancel.is_set)
        except BaseException as error:
            errors.append(error)
            cancel.set()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, n_workers)]
    try:
        for thread in threads:
            thread.start()
        work(0)
        for thread in threads:
            thread.join()
    except BaseException:
        cancel.set()
        for thread in threads:
            if thread.ident is not None:  # it was started
                thread.join()
        raise
    if errors:
        raise errors[0]
    return results
