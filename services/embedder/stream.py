"""One StreamEmbed call: takes texts in, and sends each answer as soon as it is ready."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial

from services.embedder.batcher import Batcher
from services.embedder.catalogue import Catalogue
from services.embedder.convert import is_query, to_embedding
from services.embedder.limits import TextLimits
from services.embedder.ports import Embedded
from services.embedder.waiting import Ticket
from services.kit.errors import InvalidArgument, NotFound, Unavailable
from weft.embedder.v1 import embedder_pb2

# Texts of one stream that are taken in and whose answers the client has not taken.
WINDOW_TEXTS = 4096

Request = embedder_pb2.StreamEmbedRequest
Response = embedder_pb2.StreamEmbedResponse
Write = Callable[[Response], Awaitable[None]]


class EmbedStream:
    """Owns the call's reader task and its texts in the queue; both are gone when `run` ends."""

    def __init__(
        self,
        catalogue: Catalogue,
        limits: TextLimits,
        deadline_s: float | None = None,
        window_texts: int = WINDOW_TEXTS,
    ) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._deadline_s = deadline_s
        self._window = asyncio.Semaphore(window_texts)
        self._tickets: dict[int, tuple[Batcher, Ticket]] = {}
        # Holds at most one entry for each place of the window, and one None that only wakes the writer.
        self._answers: asyncio.Queue[Response | None] = asyncio.Queue(window_texts + 1)
        self._unanswered = 0
        self._reading = True
        self._stopping: Unavailable | None = None
        self._reader: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"EmbedStream(unanswered={self._unanswered} reading={self._reading})"

    async def run(self, requests: AsyncIterator[Request], write: Write) -> None:
        """Ends after the last answer; raises Unavailable where the service stops first."""
        self._reader = asyncio.create_task(self._read(requests))
        try:
            while self._reading or self._unanswered:
                answer = await self._answers.get()
                if answer is not None:
                    await write(answer)
                    self._unanswered -= 1
                    self._window.release()
            if self._stopping is not None:
                raise self._stopping
            await self._reader
        finally:
            self._reader.cancel()
            with suppress(asyncio.CancelledError, Exception):
                # What the reader failed with was raised above, or the call ends for another reason.
                await self._reader
            for batcher, ticket in list(self._tickets.values()):
                batcher.withdraw(ticket)

    def stop(self, error: Unavailable) -> None:
        """Takes no more texts in; those taken are answered where they can be, then the call ends with `error`."""
        if self._reader is not None and self._reading:
            self._stopping = error
            self._reader.cancel()

    async def _read(self, requests: AsyncIterator[Request]) -> None:
        try:
            async for request in requests:
                await self._window.acquire()
                self._unanswered += 1
                await self._take(request)
        finally:
            self._reading = False
            self._answers.put_nowait(None)

    async def _take(self, request: Request) -> None:
        index = request.index
        try:
            if index in self._tickets:
                raise InvalidArgument(f"index {index} is taken by a text that is not answered yet")
            self._limits.check(request.text, "text")
            batcher = self._catalogue.find(request.model)
            ticket = await batcher.submit(
                request.text, query=is_query(request.purpose), caller=self, deadline_s=self._deadline_s
            )
        except (InvalidArgument, NotFound) as error:
            self._answers.put_nowait(Response(index=index, error=error.message))
            return
        except BaseException:
            # The text was not taken in after all: nobody waits for its answer.
            self._unanswered -= 1
            raise
        self._tickets[index] = batcher, ticket
        ticket.result.add_done_callback(partial(self._done, index))

    def _done(self, index: int, result: asyncio.Future[Embedded]) -> None:
        del self._tickets[index]
        if result.cancelled():
            return
        error = result.exception()
        if error is None:
            self._answers.put_nowait(Response(index=index, embedding=to_embedding(result.result())))
        elif isinstance(error, Unavailable):
            # The service stops: the client sends it again elsewhere, which an answer would keep it from.
            self.stop(error)
            self._unanswered -= 1
            self._answers.put_nowait(None)
        else:
            self._answers.put_nowait(Response(index=index, error=getattr(error, "message", "the model failed")))
