"""Counts the files of the package that a cycled experiment crosses, flag to page.

`python tests/helpers/walk.py` runs two methods on one operator in this process and
prints every file in which a function of l63fast was called on the way.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["walked"]

_FLAGS = (
    *("experiment", "sakov2012", "--methods", "3dvar,enkf-10", "--operators", "xy"),
    *("--train", "6", "--val", "4", "--test", "5", "--n_cycles", "20"),
    *("--burn_in", "1", "--n_bootstrap", "50", "--workers", "1", "--quiet"),
)


def walked() -> list[str]:
    """Return the files, relative to the package, in which a function was called."""
    import l63fast
    from l63fast.cli import main

    root = Path(l63fast.__file__).parent
    seen: set[str] = set()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            seen.add(frame.f_code.co_filename)

    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["l63fast", *_FLAGS, "--results", folder]
        sys.setprofile(note)
        threading.setprofile(note)
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"ended with {end.code}") from None
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    files = {Path(name) for name in seen}
    return sorted(str(f.relative_to(root)) for f in files if f.is_relative_to(root))


if __name__ == "__main__":
    found = walked()
    print("\n".join(found))
    print(f"{len(found)} files")
