"""The command line `l63fast`."""

from __future__ import annotations

import sys

from l63fast.errors import MissingPackageError


def main(command: str | None = None) -> None:
    """Run the command line and exit, as `cli.entry.main`."""
    try:
        from l63fast.cli import entry
    except MissingPackageError as error:
        sys.exit(f"error: {error}")
    entry.main(command)
