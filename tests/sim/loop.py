"""An asyncio loop in simulated time: when nothing is ready, the clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class NothingLeft(RuntimeError):
    """Everyone waits and no timer is set: the simulated program can never go on."""


class _Jumping(selectors.DefaultSelector):
    """A selector that never sleeps: it adds what it was asked to sleep to the loop's clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise NothingLeft("every task waits for something that will never come")
            self.now_s += max(0.0, timeout)
        return found


class SimLoop(asyncio.SelectorEventLoop):
    """Its `time` is simulated; sockets and threads have no place in it."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._jumping.now_s


def simulate(program: Coroutine[Any, Any, _T]) -> _T:
    """Runs the program to its end in simulated time."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(program)
