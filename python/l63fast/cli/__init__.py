"""The command line `l63fast`."""

from l63fast.cli.entry import main

__all__ = ["main"]
