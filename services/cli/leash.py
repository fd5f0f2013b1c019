"""Becomes another program that ends when its parent does: `python -m services.cli.leash PARENT_PID PROGRAM ARGUMENT…`.

For programs that are not ours, such as Envoy; Weft's own services ask for the same themselves.
"""

import os
import sys
from typing import NoReturn

from services.kit.leash import die_with_parent


def main(arguments: list[str]) -> NoReturn:
    """Ends with code 1 where the parent is gone already."""
    parent, program = int(arguments[0]), arguments[1]
    die_with_parent(parent)
    os.execv(program, arguments[1:])  # noqa: S606 - the program and its arguments are those that the supervisor built.


if __name__ == "__main__":
    main(sys.argv[1:])
