"""One router's stream as the worker sees it: a bounded queue of messages, and the requests that go through it."""

import asyncio
from collections import deque

from services.kit.errors import Exhausted, WeftError
from weft.worker.v1 import worker_pb2 as pb

# Starts and ends of requests in one message that still waits: what comes beyond them is a message of its own.
ENTRIES_LIMIT = 4096


class Link:
    """Messages for one reader, at most `limit` of them, and the engine's keys of its requests by their numbers.

    What is put while the last message still waits joins it where the contract allows, so that a burst of starts is
    one message. Over the limit the link is cut: what waits is dropped, `cut` is set and `take` raises why.
    """

    def __init__(self, limit: int, name: str) -> None:
        self.name = name
        self.requests: dict[int, int] = {}
        self.cut = asyncio.Event()
        self.load_put_s = 0.0
        self._waiting: deque[pb.AttachResponse] = deque()
        self._limit = limit
        self._ready = asyncio.Event()
        self._end: WeftError | None = None

    def __repr__(self) -> str:
        return f"Link({self.name} requests={len(self.requests)} waiting={len(self._waiting)} end={self._end!r})"

    def put(self, message: pb.AttachResponse, now_s: float) -> None:
        """Never blocks; a message after the end is dropped."""
        if self._end is not None:
            return
        self.load_put_s = now_s
        last = self._waiting[-1] if self._waiting else None
        if last is not None and not last.HasField("hello") and not _both_grow(last, message):
            if message.HasField("load"):
                # Merging would keep the older reading's fields where the newer one's are zero.
                last.ClearField("load")
            last.MergeFrom(message)
        elif len(self._waiting) < self._limit:
            self._waiting.append(message)
            self._ready.set()
        else:
            self._cut()

    def _cut(self) -> None:
        self._waiting.clear()
        self.close(
            Exhausted(
                f"{self.name} does not read its stream: {self._limit} messages were waiting for it",
                reason="SLOW_READER",
            )
        )
        self.cut.set()

    def close(self, end: WeftError) -> None:
        """Lets the reader take what waits, and then raises `end` there; a second end is ignored."""
        if self._end is None:
            self._end = end
            self._ready.set()

    async def take(self) -> pb.AttachResponse:
        """The next message; raises why the link ended once none is left."""
        while not self._waiting:
            self.raise_end()
            self._ready.clear()
            await self._ready.wait()
        return self._waiting.popleft()

    def raise_end(self) -> None:
        """Raises why the link ended; nothing while it is open."""
        if self._end is not None:
            raise self._end


def _both_grow(last: pb.AttachResponse, message: pb.AttachResponse) -> bool:
    """Whether the two must stay apart: a reader that is away would make one message of them that has no bound."""
    grows = (last.deltas and message.deltas) or (last.kv_events and message.kv_events)
    return bool(grows) or len(last.started) + len(last.ended) >= ENTRIES_LIMIT
