"""Turns at hosts: a few requests to each at once, and a pause between their beginnings."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.kit.clock import Now

_MAX_IDLE_HOSTS = 1000


@dataclass(slots=True)
class _Host:
    free: asyncio.Semaphore
    next_s: float = 0.0
    users: int = 0


class Turns:
    """`per_host` requests at once; each begins at least `delay_s` after the one before."""

    def __init__(self, per_host: int, delay_s: float, now: Now) -> None:
        self._per_host = per_host
        self._delay_s = delay_s
        self._now = now
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def __repr__(self) -> str:
        return f"Turns({len(self._hosts)} hosts)"

    @contextlib.asynccontextmanager
    async def take(self, host: str, delay_s: float) -> AsyncIterator[None]:
        """Waits for a turn at the host; `delay_s` counts where it is longer than the usual pause."""
        place = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self._per_host)))
        self._hosts.move_to_end(host)
        place.users += 1
        try:
            async with place.free:
                at_s = max(self._now(), place.next_s)
                place.next_s = at_s + max(delay_s, self._delay_s)
                await asyncio.sleep(at_s - self._now())
                yield
        finally:
            place.users -= 1
            self._forget()

    def _forget(self) -> None:
        """Drops hosts that nobody uses, the longest unused first, over the bound."""
        idle = len(self._hosts) - _MAX_IDLE_HOSTS
        for name in [name for name, host in self._hosts.items() if not host.users][: max(0, idle)]:
            del self._hosts[name]
