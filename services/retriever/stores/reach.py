"""Whether a server can be reached: callers say when it was lost, and it is asked again and again until it is back."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

_FIRST_DELAY_S = 0.2
_MAX_DELAY_S = 5.0


class Reach:
    """`probe` raises where the server does not answer. `close` ends the asking."""

    def __init__(self, name: str, probe: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._probe = probe
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._down.set()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("store")

    def __repr__(self) -> str:
        return f"Reach({self._name} {'up' if self.ready else 'down'})"

    @property
    def ready(self) -> bool:
        """Whether it answered last."""
        return self._up.is_set()

    async def until(self, *, ready: bool) -> None:
        """Waits until it answers, or until it does not."""
        await (self._up if ready else self._down).wait()

    def found(self) -> None:
        """It answers."""
        self._down.clear()
        self._up.set()

    def lost(self) -> None:
        """It did not answer; from now on it is asked until it does."""
        if self._task is not None and not self._task.done():
            return
        self._log.warning("the store is away", store=self._name)
        self._up.clear()
        self._down.set()
        self._task = asyncio.create_task(self._ask(), name="reach")

    async def close(self) -> None:
        """Ends the asking."""
        self._up.clear()
        self._down.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _ask(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self._probe()
            except Exception as error:
                # Whatever it was, the server does not answer as it should; the next try may find it well.
                self._log.debug("still away", store=self._name, kind=type(error).__name__)
                delay_s = min(delay_s * 2, _MAX_DELAY_S)
            else:
                self._log.info("the store is back", store=self._name)
                self.found()
                return
