"""One call on the lane: what its handler is given as context, and the task that runs the handler."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from services.kit.edge import Edge
from services.kit.errors import DeadlineExceeded, InvalidArgument, Unavailable, WeftError, trailers
from services.kit.lane.frames import Code
from services.kit.lane.headers import ANSWER, DONE, Head, status_block
from services.kit.lane.outflow import Stream
from services.kit.telemetry import call_span


@dataclass(frozen=True, slots=True)
class Method:
    """How a call of this path is read, answered and written; `run` is given the request and the call."""

    path: str
    parse: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    run: Callable[[Any, "Call"], Awaitable[None]]


def method(path: str, handler: Any) -> Method | None:
    """The method of a `grpc.RpcMethodHandler`; None where it takes a stream of requests."""
    if handler.request_streaming:
        return None
    inner = handler.unary_stream or handler.unary_unary

    async def unary(request: Any, call: Call) -> None:
        await call.write(await inner(request, call))

    async def iterated(request: Any, call: Call) -> None:
        async with aclosing(inner(request, call)) as messages:
            async for message in messages:
                await call.write(message)

    run = iterated if inspect.isasyncgenfunction(inner) else inner if handler.response_streaming else unary
    return Method(path, handler.request_deserializer, handler.response_serializer, run)


class Call:
    """The handler's context: `write`, `time_remaining` and, for messages that are bytes already, `push`.

    `pushes` is what tells it from a context that has no `push` worth trying.
    `flush` is called after anything was handed to the stream; `buffer_bytes` is what may wait before `write` waits.
    """

    pushes = True
    __slots__ = (
        "_began",
        "_buffer_bytes",
        "_deadline",
        "_deadline_s",
        "_expired",
        "_flush",
        "_head",
        "_loop",
        "_method",
        "_on_end",
        "_room",
        "_stopped",
        "_stream",
        "_task",
    )

    def __init__(
        self,
        method: Method,
        head: Head,
        stream: Stream,
        *,
        flush: Callable[[], None],
        on_end: Callable[[Stream, Code | None], None],
        buffer_bytes: int,
    ) -> None:
        self._method = method
        self._head = head
        self._stream = stream
        self._flush = flush
        self._on_end = on_end
        self._buffer_bytes = buffer_bytes
        self._loop = asyncio.get_running_loop()
        self._room: asyncio.Future[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_s = None if head.timeout_s is None else self._loop.time() + head.timeout_s
        self._began = False
        self._expired = False
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Call({self._method.path} on {self._stream})"

    def start(self, body: bytes, edge: Edge) -> "asyncio.Task[None]":
        """Runs the handler in a task of its own; `on_end` is called at its end."""
        self._task = self._loop.create_task(self._run(body, edge))
        self._task.add_done_callback(self._over)
        if self._deadline_s is not None:
            self._deadline = self._loop.call_at(self._deadline_s, self._expire)
        return self._task

    # For handlers.

    def time_remaining(self) -> float | None:
        """Seconds that the caller still gives it, at least 0; None for as long as it takes."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - self._loop.time())

    def push(self, message: bytes) -> bool:
        """Sends a message that is serialised already, where it can leave at once; False where it was not taken.

        The first message of a call has to be written.
        """
        if self._stream.push(message):
            self._flush()
            return True
        return False

    async def write(self, message: Any) -> None:
        """Sends a message; waits while too much of what was sent before waits for the client."""
        stream = self._stream
        if not stream.answered:
            stream.head(ANSWER)
        stream.send(self._method.serialize(message))
        self._flush()
        while len(self._stream.queue) > self._buffer_bytes:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    # For the connection.

    def moved(self) -> None:
        """Some of what waited was sent."""
        if self._room is not None and not self._room.done() and len(self._stream.queue) <= self._buffer_bytes:
            self._room.set_result(None)

    def cancel(self) -> None:
        """The client is gone."""
        if self._task is not None:
            self._task.cancel()

    def stop(self) -> None:
        """The server stops and waits no longer."""
        self._stopped = True
        self.cancel()

    def _expire(self) -> None:
        self._expired = True
        self.cancel()

    def _over(self, task: "asyncio.Task[None]") -> None:
        """A task that is cancelled before its first step never runs, and so cannot end its call itself."""
        if not self._began:
            if self._deadline is not None:
                self._deadline.cancel()
            self._on_end(self._stream, Code.CANCEL)

    async def _run(self, body: bytes, edge: Edge) -> None:
        self._began = True
        started_s = edge.enter(self._method.path)
        error: BaseException | None = None
        try:
            with call_span(self._method.path, self._head.metadata):
                await self._method.run(self._parsed(body), self)
        except Exception as caught:
            error = caught
        except asyncio.CancelledError as caught:
            # Nobody but the client, the deadline and the server's end cancels this task.
            error = self._cause() or caught
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            edge.leave(self._method.path, started_s, error)
            self._finish(error, edge)

    def _parsed(self, body: bytes) -> Any:
        try:
            return self._method.parse(body)
        except DecodeError as error:
            raise InvalidArgument("the request is no message of this method", reason="UNREADABLE_REQUEST") from error

    def _cause(self) -> WeftError | None:
        if self._expired:
            return DeadlineExceeded("the call's deadline passed", reason="DEADLINE")
        if self._stopped:
            return Unavailable("the service stops", reason="STOPPING")
        return None

    def _finish(self, error: BaseException | None, edge: Edge) -> None:
        """The last frames of the call."""
        stream = self._stream
        if error is None:
            stream.end(DONE if stream.answered else ANSWER + DONE)
        elif isinstance(error, Exception):
            refuse(stream, edge.told(error))
        self._on_end(stream, None if error is None or isinstance(error, Exception) else Code.CANCEL)


def refuse(stream: Stream, error: WeftError) -> None:
    """Ends the stream with this error's status, its details and what else its class says."""
    status = status_block(error.code.value[0], error.message, trailers(error))
    stream.end(status if stream.answered else ANSWER + status)
