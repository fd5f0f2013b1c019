"""How busy this embedder is, told to those that watch: on change, not too often, and never long without a word."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass

# A watcher hears of a change within the first, and something within the second.
QUIET_S = 0.05
SILENT_S = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """A reading. `tokens_per_s` is 0 while nothing was embedded yet; `draining`: no more texts are taken."""

    queued_texts: int
    queued_tokens: int
    running: int
    tokens_per_s: float
    draining: bool


class LoadBoard:
    """Holds no reading itself: it asks `read` for a new one whenever someone is to be told."""

    def __init__(self, read: Callable[[], Load], quiet_s: float = QUIET_S, silent_s: float = SILENT_S) -> None:
        self._read = read
        self._quiet_s = quiet_s
        self._silent_s = silent_s
        self._watchers: set[asyncio.Event] = set()

    def __repr__(self) -> str:
        return f"LoadBoard({len(self._watchers)} watchers, {self._read()})"

    def changed(self) -> None:
        """Something is to be told; cheap, so it may be called for each text."""
        for watcher in self._watchers:
            watcher.set()

    async def watch(self) -> AsyncGenerator[Load, None]:
        """Readings for one watcher, until it is closed."""
        woken = asyncio.Event()
        self._watchers.add(woken)
        try:
            while True:
                woken.clear()
                yield self._read()
                await asyncio.sleep(self._quiet_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._silent_s - self._quiet_s)):
                        await woken.wait()
        finally:
            self._watchers.discard(woken)
