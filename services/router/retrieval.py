"""Asks the retriever over one bidirectional stream, opened at the first search and again after it was lost."""

import asyncio
import contextlib
from collections.abc import Sequence

import grpc.aio
import structlog

from services.kit.cancellation import heed_cancellation
from services.kit.channels import dial
from services.kit.errors import DeadlineExceeded, Unavailable, WeftError, error_for, from_rpc
from services.kit.settings.shared import GrpcSettings
from services.router.convert import search_message
from services.router.core.chat import Retrieval
from weft.retriever.v1 import retriever_pb2
from weft.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

MAX_UNDER_WAY = 64
RETRY_S = 2.0

_Found = Sequence[retriever_pb2.Passage]


class RetrieverLink:
    """Searches, many at a time; `close` ends the stream. An empty address means that there is no retriever."""

    def __init__(self, address: str, grpc_settings: GrpcSettings) -> None:
        self._address = address
        self._channel = dial(address, grpc_settings) if address else None
        self._places = asyncio.Semaphore(MAX_UNDER_WAY)
        self._stream: _SearchStream | None = None
        self._log = structlog.get_logger("retrieval")

    def __repr__(self) -> str:
        return f"RetrieverLink({self._address or 'none'})"

    async def search(self, query: str, retrieval: Retrieval, timeout_s: float) -> _Found:
        """See ports.Searcher."""
        if self._channel is None:
            raise Unavailable("this router has no retriever; set router.retriever", reason="NO_RETRIEVER")
        try:
            async with asyncio.timeout(timeout_s), self._places:
                if self._stream is None or self._stream.ended:
                    self._stream = _SearchStream(self._channel, self._address)
                return await self._stream.search(search_message(query, retrieval))
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed during retrieval", reason="DEADLINE") from error

    async def close(self) -> None:
        """Ends the stream and its channel; searches under way fail."""
        if self._stream is not None:
            await self._stream.close()
        if self._channel is not None:
            await self._channel.close()


class _SearchStream:
    """One StreamSearch call with a reader task; writes are one at a time."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._address = address
        self._call = RetrieverServiceStub(channel).StreamSearch()
        self._waiting: dict[int, asyncio.Future[_Found]] = {}
        self._number = 0
        self._write_lock = asyncio.Lock()
        self._reader = asyncio.create_task(self._read(), name="retriever-reader")
        self.ended = False

    async def search(self, request: retriever_pb2.SearchRequest) -> _Found:
        """The answer to one search. Raises Unavailable when the stream ends first."""
        self._number += 1
        number = self._number
        found = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            # A write that is abandoned half way would collide with the next one, so cancellation does not reach it.
            await asyncio.shield(self._write(retriever_pb2.StreamSearchRequest(number=number, search=request)))
            passages: _Found = await found
            return passages
        finally:
            self._waiting.pop(number, None)

    async def _write(self, message: retriever_pb2.StreamSearchRequest) -> None:
        async with self._write_lock:
            # A stream that has ended answers through the reader, which knows why.
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(message)

    async def _read(self) -> None:
        error: WeftError = self._away("it closed the stream")
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                assert isinstance(message, retriever_pb2.StreamSearchResponse)
                self._answer(message)
        except grpc.aio.AioRpcError as failed:
            heed_cancellation(failed)
            known = from_rpc(failed)
            error = self._away(known.message) if isinstance(known, Unavailable) else known
        finally:
            self.ended = True
            self._call.cancel()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)

    def _answer(self, message: retriever_pb2.StreamSearchResponse) -> None:
        future = self._waiting.get(message.number)
        if future is None or future.done():
            return
        if message.HasField("failure"):
            failure = message.failure
            retry_s = RETRY_S if failure.code == Unavailable.code.value[0] else None
            future.set_exception(error_for(failure.code, failure.message, reason=failure.reason, retry_delay_s=retry_s))
        else:
            future.set_result(message.found.passages)

    def _away(self, why: str) -> Unavailable:
        text = f"the retriever at {self._address} does not answer ({why}); try again in {RETRY_S:g} s"
        return Unavailable(text, reason="RETRIEVER_AWAY", retry_delay_s=RETRY_S)

    async def close(self) -> None:
        """Ends the call and the reader."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
