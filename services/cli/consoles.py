"""Where commands print: answers and tables on stdout, notes on stderr."""

import sys

from rich.console import Console

_PIPE_WIDTH = 200


def out(*, quiet: bool = False) -> Console:
    """Stdout. A pipe gets wide lines, so that what reads it finds whole names."""
    return Console(quiet=quiet, highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def notes(*, quiet: bool = False) -> Console:
    """Stderr, for what is not the result."""
    return Console(stderr=True, quiet=quiet, highlight=False)
