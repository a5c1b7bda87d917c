"""Threads of our own over static blocks of members, as in the C++ core."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

BLOCK: Final = 512  # members per block: 3 components of 512 float64 stay in L1


def in_threads(run: Callable[[int, int], int], n: int, n_threads: int) -> list[int]:
    """Run `run(begin, end)` over static blocks; the first exception wins."""
    n_blocks = -(-n // BLOCK)
    n_workers = max(1, min(n_threads, n_blocks))
    bounds = [min(n, n_blocks * i // n_workers * BLOCK) for i in range(n_workers + 1)]
    results = [0] * n_workers
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            results[i] = run(bounds[i], bounds[i + 1])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, n_workers)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
