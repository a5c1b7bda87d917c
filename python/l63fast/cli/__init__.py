"""The `l63fast` command: parse, call, print."""

from l63fast.cli.entry import main

__all__ = ["main"]
