"""The clock that shells read and hand to the core as a number."""

import time
from collections.abc import Callable

Now = Callable[[], float]
"""Seconds on a clock that never goes back; only differences mean anything."""

monotonic_s: Now = time.monotonic
