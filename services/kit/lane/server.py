"""The lane's socket side: accepts connections, gives their bytes to the protocol, and runs calls. It keeps no rules."""

import asyncio
from collections.abc import Collection
from typing import Any, cast

import structlog

from services.kit.edge import Edge
from services.kit.errors import Exhausted, Unimplemented, WeftError
from services.kit.lane.call import Call, Method, method, refuse
from services.kit.lane.connection import (
    Broken,
    Cancelled,
    Completed,
    Connection,
    Event,
    Moved,
    Opened,
    Received,
)
from services.kit.lane.frames import Code
from services.kit.lane.headers import Head, Malformed, NotGrpc, http_block, read_head
from services.kit.lane.limits import Limits
from services.kit.lane.message import Request
from services.kit.lane.outflow import Stream
from services.kit.server import AddressInUse
from services.kit.settings.shared import GrpcSettings

MAX_CONNECTIONS = 4_096
"""Connections open at once; one more is closed at once."""
MAX_REQUEST_BYTES_FACTOR = 4
"""Requests that are still coming hold at most this many largest messages together; beyond it they are refused."""
TRANSPORT_BUFFER_BYTES = 256 * 1024
"""Bytes that wait in a socket before its streams wait too."""


class LaneServer:
    """One port. Register servicers with the generated `add_…Servicer_to_server`, then `start`; `stop` drains.

    It serves `paths` alone (`/package.Service/Method`), and of those only calls with one request.
    """

    def __init__(self, host: str, port: int, paths: Collection[str], settings: GrpcSettings, edge: Edge) -> None:
        self.limits = Limits(max_streams=settings.max_concurrent_calls, max_message_bytes=settings.max_message_bytes)
        self.edge = edge
        self.request_bytes = 0
        """Bytes of requests that are not complete yet."""
        self.calls = 0
        self.methods: dict[str, Method] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.grpc: Any = self
        """What generated code registers servicers with, as `GrpcServer.grpc` is."""
        self._host = host
        self._port = port
        self._paths = frozenset(paths)
        self._settings = settings
        self._connections: set[LaneConnection] = set()
        self._listener: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"LaneServer({self._host}:{self._port} connections={len(self._connections)} calls={self.calls})"

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """What generated code calls to register a servicer."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            found = method(path, handler)
            if path in self._paths and found is not None:
                self.methods[path] = found

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """What generated code calls as well, for servers that know no registered handlers."""

    async def start(self) -> int:
        """Listens and returns the port; raises AddressInUse."""
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(lambda: LaneConnection(self), self._host, self._port)
        except OSError as error:
            raise AddressInUse(
                f"cannot listen on {self._host}:{self._port}: {error.strerror}; "
                "stop the program that has it or choose another port"
            ) from error
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def stop(self, grace_s: float) -> None:
        """Opens no more streams, lets calls under way finish for `grace_s` seconds, then ends them with UNAVAILABLE."""
        if self._listener is None:
            return
        self._listener.close()
        for connection in list(self._connections):
            connection.drain()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=grace_s)
        for connection in list(self._connections):
            connection.stop()
        if self.tasks:
            await asyncio.wait(self.tasks)
        for connection in list(self._connections):
            connection.close()
        await self._listener.wait_closed()

    @property
    def keepalive_s(self) -> float:
        """Silence before a ping."""
        return self._settings.keepalive_s

    @property
    def keepalive_timeout_s(self) -> float:
        """Silence after it before the connection counts as lost."""
        return self._settings.keepalive_timeout_s

    def full(self) -> bool:
        """Whether one more call would be too many."""
        return self.calls >= self.limits.max_streams

    def admits(self, size: int) -> bool:
        """Whether so many more bytes of incomplete requests may be held."""
        return self.request_bytes + size <= MAX_REQUEST_BYTES_FACTOR * self.limits.max_message_bytes

    def joins(self, connection: "LaneConnection") -> bool:
        """Whether there is a place for one more connection; it has it then."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def leaves(self, connection: "LaneConnection") -> None:
        """The connection is over."""
        self._connections.discard(connection)


class LaneConnection(asyncio.Protocol):
    """One client's connection: its calls, and one write for all that a moment of the loop has to send."""

    def __init__(self, server: LaneServer) -> None:
        self._server = server
        self._core = Connection(server.limits)
        self._pending: dict[int, tuple[Head, Method, Request]] = {}
        self._calls: dict[int, Call] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._flush_due = False
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger("lane")

    def __repr__(self) -> str:
        return f"LaneConnection({self._core} calls={len(self._calls)})"

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = wire = cast(asyncio.Transport, transport)
        if not self._server.joins(self):
            self._log.warning("connection_refused", reason="too many connections", limit=MAX_CONNECTIONS)
            wire.abort()
            return
        wire.set_write_buffer_limits(high=TRANSPORT_BUFFER_BYTES)
        self._timer = self._loop.call_later(self._server.keepalive_s, self._tick)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._heard = True
        self._take(self._core.receive(data, self._loop.time()))

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._core.out.paused = True
        # A client that does not read must not be able to ask for more: every answer has headers at least.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._core.out.paused = False
        if self._transport is not None:
            self._transport.resume_reading()
        self._take(self._core.pump())

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol: every call on it ends at once."""
        self._transport = None
        self._server.leaves(self)
        if self._timer is not None:
            self._timer.cancel()
        for stream in list(self._core.streams.values()):
            self._gone(stream)
        self._core.streams.clear()

    # What the server calls.

    def drain(self) -> None:
        """Takes no new calls; the connection closes after the last of those that it has."""
        self._core.drain()
        self.flush()

    def stop(self) -> None:
        """Ends the calls under way."""
        for call in list(self._calls.values()):
            call.stop()

    def close(self) -> None:
        """Sends what there is and closes."""
        if self._transport is not None:
            self._core.drain()
            self._flush_now()
            self._transport.close()

    # Events to calls.

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Opened():
                    self._opened(event)
                case Received():
                    self._received(event.stream, event.data)
                case Completed():
                    self._completed(event.stream)
                case Moved():
                    if (call := self._calls.get(event.stream.stream_id)) is not None:
                        call.moved()
                case Cancelled():
                    self._gone(event.stream)
                case Broken():
                    self._log.warning("connection_broken", code=event.code.name, reason=event.message)
                    self.close()
        self.flush()

    def _opened(self, event: Opened) -> None:
        stream, head = event.stream, read_head(event.fields)
        if isinstance(head, Head):
            found = self._server.methods.get(head.path)
            if found is None:
                self._refuse(stream, Unimplemented(f"{head.path[:200]} is not served on this port"))
            elif self._server.full():
                text = f"{self._server.limits.max_streams} calls are under way; try again when some are over"
                self._refuse(stream, Exhausted(text, reason="TOO_MANY_CALLS", retry_delay_s=1.0))
            else:
                self._pending[stream.stream_id] = (head, found, Request(self._server.limits.max_message_bytes))
        elif isinstance(head, WeftError):
            self._refuse(stream, head)
        elif isinstance(head, NotGrpc):
            stream.end(http_block(head.status))
            self._core.settle(stream)
        else:
            assert isinstance(head, Malformed)
            self._core.abandon(stream, Code.PROTOCOL_ERROR)

    def _received(self, stream: Stream, data: bytes) -> None:
        if (waiting := self._pending.get(stream.stream_id)) is None:
            return
        request = waiting[2]
        error: WeftError | None
        if self._server.admits(len(data)):
            self._server.request_bytes += len(data)
            error = request.feed(data)
        else:
            text = "requests that are still coming fill the memory that they may have; try again"
            error = Exhausted(text, reason="REQUESTS_TOO_LARGE", retry_delay_s=1.0)
        if error is not None:
            self._forget(stream)
            self._refuse(stream, error)

    def _completed(self, stream: Stream) -> None:
        if (waiting := self._forget(stream)) is None:
            return
        head, found, request = waiting
        body = request.whole()
        if isinstance(body, WeftError):
            self._refuse(stream, body)
            return
        call = Call(
            found,
            head,
            stream,
            flush=self.flush,
            on_end=self._call_ended,
            buffer_bytes=self._server.limits.send_buffer_bytes,
        )
        self._calls[stream.stream_id] = call
        self._server.calls += 1
        task = call.start(body, self._server.edge)
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _forget(self, stream: Stream) -> tuple[Head, Method, Request] | None:
        """The request that was still coming; its bytes no longer count."""
        waiting = self._pending.pop(stream.stream_id, None)
        if waiting is not None:
            self._server.request_bytes -= len(waiting[2])
        return waiting

    def _refuse(self, stream: Stream, error: WeftError) -> None:
        refuse(stream, error)
        self._core.settle(stream)

    def _gone(self, stream: Stream) -> None:
        """The client does not wait for this stream any more."""
        self._forget(stream)
        stream.drop()
        if (call := self._calls.get(stream.stream_id)) is not None:
            call.cancel()

    def _call_ended(self, stream: Stream, code: Code | None) -> None:
        """A call's task is over; with a code nobody is told how."""
        self._server.calls -= 1
        self._calls.pop(stream.stream_id, None)
        if code is not None:
            self._core.abandon(stream, code)
        else:
            stream.since_s = self._loop.time()
            self._core.settle(stream)
        self.flush()

    # The socket.

    def flush(self) -> None:
        """Whatever is to be sent leaves in one write, before the loop waits again."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        if self._transport is None:
            return
        if self._core.out.frames:
            self._transport.write(self._core.out.take())
        if self._core.draining and not self._core.streams and not self._transport.is_closing() and self._core.parted:
            self._transport.close()

    def _tick(self) -> None:
        """Pings a silent client, and ends streams that nobody goes on with."""
        now_s = self._loop.time()
        for stream in self._core.stale(now_s - self._server.limits.request_s):
            self._forget(stream)
            self._core.abandon(stream, Code.CANCEL)
        wait_s = self._server.keepalive_s
        if not self._heard:
            self._core.ping()
            wait_s = self._server.keepalive_timeout_s
            self._timer = self._loop.call_later(wait_s, self._silent)
        else:
            self._heard = False
            self._timer = self._loop.call_later(wait_s, self._tick)
        self.flush()

    def _silent(self) -> None:
        if self._heard:
            self._tick()
        elif self._transport is not None:
            self._log.info("connection_lost", reason="the client does not answer a ping")
            self._transport.abort()
