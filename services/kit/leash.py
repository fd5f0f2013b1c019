"""Ends this process when its parent ends. It imports little, so that small child processes can start fast."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int = 0) -> None:
    """Asks Linux to send SIGTERM to this process when its parent ends; elsewhere it does nothing.

    `parent` is the process id that the parent is known to have; where it is another by now, the parent has ended
    before the request was made, and this process ends at once. 0: not known.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent and os.getppid() != parent:
        sys.exit(1)
