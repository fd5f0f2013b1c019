"""Bounds the writes that no relay watches over: a client that takes nothing must not hold a place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STUCK_S = 10.0


@asynccontextmanager
async def unless_stuck() -> AsyncIterator[None]:
    """Drops the call, as if its client had left, when what stands within takes longer than STUCK_S.

    The write under way cannot be taken back, and nothing can be written after it: so the call ends by cancellation and
    not with an error that would have to be sent.
    """
    try:
        async with asyncio.timeout(STUCK_S):
            yield
    except TimeoutError as error:
        raise asyncio.CancelledError("the client takes nothing") from error
