"""`python -m l63fast` is the command `l63fast`."""

from l63fast.cli import main

main()
