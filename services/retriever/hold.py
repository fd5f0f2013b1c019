"""Locks that many share, or one has for itself. Who waits to have one for itself goes before new sharers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator


class Hold:
    """Fair enough for its use: sharers are short, and having it for oneself is rare."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._sharers = 0
        self._waiting = 0
        self._taken = False

    def __repr__(self) -> str:
        return f"Hold(sharers={self._sharers} taken={self._taken} waiting={self._waiting})"

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Held together with others."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._taken and not self._waiting)
            self._sharers += 1
        try:
            yield
        finally:
            self._sharers -= 1
            await self._tell()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Held by nobody else."""
        self._waiting += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._taken and not self._sharers)
                self._taken = True
        finally:
            self._waiting -= 1
            if not self._taken:
                await self._tell()
        try:
            yield
        finally:
            self._taken = False
            await self._tell()

    async def _tell(self) -> None:
        # Shielded: whoever waits has to hear of it even if this task is being cancelled.
        await asyncio.shield(asyncio.ensure_future(self._notify()))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Holds:
    """One hold per name, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._holds: dict[str, tuple[Hold, int]] = {}

    def __repr__(self) -> str:
        return f"Holds({len(self._holds)} in use)"

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[Hold]:
        """The name's hold, the same for everyone who has it now."""
        hold, users = self._holds.get(name, (Hold(), 0))
        self._holds[name] = (hold, users + 1)
        try:
            yield hold
        finally:
            users = self._holds[name][1] - 1
            if users:
                self._holds[name] = (hold, users)
            else:
                del self._holds[name]
