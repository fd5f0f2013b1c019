"""How many cores there are to compute on."""

import os

import psutil


def cores() -> int:
    """Cores that this process may use, at least 1; two threads of one core share what computes, and count once."""
    usable = len(os.sched_getaffinity(0))
    return min(usable, psutil.cpu_count(logical=False) or usable)
