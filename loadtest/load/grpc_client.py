"""StreamChat over HTTP/2, for very many answers on few connections, in a few µs for each token.

grpc's own client costs several times what the mesh does for a token; one that is to load a mesh has to cost less.
"""

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote

from hpack import Decoder, HPACKError

from loadtest.load.client import Done, Target
from loadtest.load.protobuf import TOKENS, WrongMessage, read_tokens
from loadtest.load.record import OK, Record
from services.kit.lane.frames import (
    DEFAULT_WINDOW,
    MAX_WINDOW,
    PREFACE,
    Code,
    Flag,
    Kind,
    Setting,
    frame,
    read_settings,
    reset,
    settings,
    unpadded,
    window_update,
)
from services.kit.lane.frames import Frame as WireFrame
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

METHOD = b"/weft.router.v1.RouterService/StreamChat"
STREAMS_EACH = 256
"""Answers on one connection before the next one is taken."""
WINDOW_BYTES = 2**30
LAST_STREAM = 2**31 - 1
CONNECT_LIMIT_S = 10.0
CONNECTIONS_LIMIT = 256
_HEAD = struct.Struct(">BHBBI")
_MESSAGE = struct.Struct(">BI")
_CODES = {
    0: "OK",
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
_ROLES = {
    "system": chat_pb2.ROLE_SYSTEM,
    "user": chat_pb2.ROLE_USER,
    "assistant": chat_pb2.ROLE_ASSISTANT,
    "tool": chat_pb2.ROLE_TOOL,
}


def message(record: Record, target: Target) -> bytes:
    """The request as StreamChat takes it."""
    request = record.request
    return router_pb2.StreamChatRequest(
        model=target.model,
        messages=[chat_pb2.Message(role=_ROLES[role], content=content) for role, content in request.messages],
        sampling=chat_pb2.Sampling(max_tokens=request.max_tokens, seed=request.seed),
        session_id=request.session,
    ).SerializeToString()


def header_block(target: Target, method: bytes = METHOD) -> bytes:
    """The same for every request, so it is made once: fields without a table, which HPACK allows anybody (RFC 7541)."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + _string(name) + _string(value)

    scheme = b"\x87" if target.tls or target.ca_file else b"\x86"
    fixed = b"\x83" + scheme + b"\x04" + _string(method) + b"\x01" + _string(target.authority.encode())
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"weft-load")]
    fields.append((b"grpc-timeout", b"%dm" % int(target.timeout_s * 1e3)))
    fields += [(name.lower().encode(), value.encode()) for name, value in target.headers]
    return fixed + b"".join([literal(name, value) for name, value in fields])


def _string(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, digits = len(value) - 127, bytearray((127,))
    while rest > 0x7F:
        digits.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*digits, rest)) + value


class _Stream:
    """One answer under way, and what came of a message that is not complete."""

    __slots__ = ("done", "outgoing", "record", "rest")

    def __init__(self, record: Record, done: Done) -> None:
        self.record = record
        self.done = done
        self.rest = b""
        self.outgoing = b""


class Connection(asyncio.Protocol):
    """One HTTP/2 connection. `now` is the run's clock; each chunk is timed by when its bytes were read."""

    def __init__(self, target: Target, now: Callable[[], float]) -> None:
        self.streams: dict[int, _Stream] = {}
        self._target = target
        self._now = now
        self._block = header_block(target)
        self._next_id = 1
        self._rest = b""
        self._decoder = Decoder(max_header_list_size=1 << 16)
        self._headers: tuple[int, int, bytearray] | None = None
        self._taken_bytes = 0
        self._window = DEFAULT_WINDOW
        self._first_window = DEFAULT_WINDOW
        self._held: list[int] = []
        self.peer_streams = 100
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.over = False

    def __repr__(self) -> str:
        return f"Connection(streams={len(self.streams)} over={self.over})"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        mine = settings({Setting.ENABLE_PUSH: 0, Setting.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
        self.transport.write(PREFACE + mine + window_update(0, WINDOW_BYTES - DEFAULT_WINDOW))

    def connection_lost(self, error: Exception | None) -> None:
        self.over = True
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionError("the connection closed before it was ready"))
        for stream_id in list(self.streams):
            self._end(stream_id, "UNAVAILABLE", f"the connection was lost: {error or 'closed by the server'}")

    # What goes out.

    @property
    def has_room(self) -> bool:
        """Whether it may carry one answer more."""
        room = min(self.peer_streams, STREAMS_EACH)
        return not self.over and len(self.streams) < room and self._next_id < LAST_STREAM

    def send(self, record: Record, done: Done) -> None:
        """Opens a stream for the answer."""
        assert self.transport is not None
        stream_id = self._next_id
        self._next_id += 2
        self.streams[stream_id] = stream = _Stream(record, done)
        data = message(record, self._target)
        data = _MESSAGE.pack(0, len(data)) + data
        headers = frame(Kind.HEADERS, Flag.END_HEADERS, stream_id, self._block)
        if len(data) <= min(self._window, self._first_window, 16_384):
            self._window -= len(data)
            self.transport.write(headers + frame(Kind.DATA, Flag.END_STREAM, stream_id, data))
            return
        stream.outgoing = data
        self.transport.write(headers)
        self._held.append(stream_id)
        self._pump()

    def _pump(self) -> None:
        """Sends what the connection's window held back.

        A stream's own window is looked at once, when it begins: prompts over it wait for the server's settings, which
        every server of gRPC sends before it takes anything.
        """
        assert self.transport is not None
        while self._held and self._window > 0:
            stream_id = self._held[0]
            stream = self.streams.get(stream_id)
            if stream is None:
                self._held.pop(0)
                continue
            size = min(self._window, 16_384, len(stream.outgoing))
            part, stream.outgoing = stream.outgoing[:size], stream.outgoing[size:]
            self._window -= size
            last = 0 if stream.outgoing else Flag.END_STREAM
            self.transport.write(frame(Kind.DATA, last, stream_id, part))
            if last:
                self._held.pop(0)

    def cancel(self, record: Record) -> bool:
        """Leaves the answer; whether it was on this connection."""
        stream_id = next((number for number, stream in self.streams.items() if stream.record is record), None)
        if stream_id is None or self.transport is None:
            return False
        self.transport.write(reset(stream_id, Code.CANCEL))
        self._end(stream_id, "CANCELLED", "left by the load generator")
        return True

    # What comes in: from here on, the path of each token.

    def data_received(self, data: bytes) -> None:
        now_s = self._now()
        if self._rest:
            data = self._rest + data
        at, size, streams, unpack = 0, len(data), self.streams, _HEAD.unpack_from
        while size - at >= 9:
            high, low, kind, flags, stream_id = unpack(data, at)
            begin = at + 9
            end = begin + (high << 16 | low)
            if end > size:
                break
            if kind == 0 and not flags:
                self._taken_bytes += end - begin
                stream = streams.get(stream_id)
                if stream is not None:
                    self._body(stream_id, stream, data[begin:end], now_s)
            else:
                self._other(WireFrame(kind, flags, stream_id & MAX_WINDOW, data[begin:end]), now_s)
            at = end
        self._rest = data[at:] if at < size else b""
        if self._taken_bytes > WINDOW_BYTES // 2 and self.transport is not None:
            self.transport.write(window_update(0, self._taken_bytes))
            self._taken_bytes = 0

    def _body(self, stream_id: int, stream: _Stream, data: bytes, now_s: float) -> None:
        if stream.rest:
            data, stream.rest = stream.rest + data, b""
        at, size = 0, len(data)
        while size - at >= 5:
            compressed, length = _MESSAGE.unpack_from(data, at)
            end = at + 5 + length
            if end > size:
                break
            if compressed:
                self._refuse(stream_id, "a compressed message, which nobody asked for")
                return
            try:
                if length and data[at + 5] == TOKENS:
                    index, count = read_tokens(data[at + 5 : end])
                    if count:
                        stream.record.token(now_s, index, count)
                else:
                    self._event(stream.record, data[at + 5 : end], now_s)
            except (WrongMessage, ValueError) as error:
                self._refuse(stream_id, str(error))
                return
            at = end
        stream.rest = data[at:] if at < size else b""

    def _event(self, record: Record, data: bytes, now_s: float) -> None:
        event = router_pb2.StreamChatResponse.FromString(data)
        kind = event.WhichOneof("event")
        if kind == "accepted":
            record.accepted_s = record.accepted_s or now_s
            record.worker = event.accepted.worker_id
        elif kind == "moved":
            record.moves += 1
            record.worker = event.moved.to_worker_id
        elif kind == "finished":
            finished = event.finished
            record.code, record.worker = OK, finished.worker_id
            record.reason = chat_pb2.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_")
            usage = finished.usage
            record.prompt_tokens, record.cached_tokens = usage.prompt_tokens, usage.cached_tokens
            record.completion_tokens = usage.completion_tokens
            record.queue_s = finished.timing.queue.ToNanoseconds() / 1e9
        elif kind == "failed":
            record.code = _CODES.get(event.failed.code, str(event.failed.code))
            record.reason, record.detail = event.failed.reason, event.failed.message

    def _refuse(self, stream_id: int, why: str) -> None:
        if self.transport is not None:
            self.transport.write(reset(stream_id, Code.PROTOCOL_ERROR))
        self._end(stream_id, "BROKEN_ANSWER", why)

    def _other(self, found: WireFrame, now_s: float) -> None:
        assert self.transport is not None
        kind, stream_id = found.kind, found.stream_id
        if kind == Kind.DATA:
            self._taken_bytes += len(found.payload)
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._body(stream_id, stream, unpadded(found), now_s)
            if found.flags & Flag.END_STREAM:
                self._end(stream_id, "", "the stream ended without a status")
        elif kind == Kind.HEADERS:
            self._gather(stream_id, found.flags, bytearray(unpadded(found)))
        elif kind == Kind.CONTINUATION and self._headers is not None:
            stream_id, flags, block = self._headers
            self._gather(stream_id, flags | found.flags, block + found.payload)
        elif kind == Kind.SETTINGS and not found.flags & Flag.ACK:
            self._settings(found.payload)
        elif kind == Kind.PING and not found.flags & Flag.ACK:
            self.transport.write(frame(Kind.PING, Flag.ACK, 0, found.payload))
        elif kind == Kind.WINDOW_UPDATE and not stream_id:
            self._window += int.from_bytes(found.payload, "big")
            self._pump()
        elif kind == Kind.RST_STREAM:
            code = int.from_bytes(found.payload, "big")
            name = "RESOURCE_EXHAUSTED" if code == Code.REFUSED_STREAM else "UNAVAILABLE"
            self._end(stream_id, name, f"the server reset the stream (code {code})")
        elif kind == Kind.GOAWAY:
            # Streams up to the number that it names go on; new ones take another connection.
            self.over = True
            last = int.from_bytes(found.payload[:4], "big") & MAX_WINDOW
            for number in [number for number in self.streams if number > last]:
                self._end(number, "UNAVAILABLE", "the server is leaving (GOAWAY)")

    def _settings(self, payload: bytes) -> None:
        assert self.transport is not None
        for key, value in read_settings(payload):
            if key == Setting.MAX_CONCURRENT_STREAMS:
                self.peer_streams = value
            elif key == Setting.INITIAL_WINDOW_SIZE:
                self._first_window = value
        self.transport.write(frame(Kind.SETTINGS, Flag.ACK, 0))
        if not self.ready.done():
            self.ready.set_result(None)

    def _gather(self, stream_id: int, flags: int, block: bytearray) -> None:
        if not flags & Flag.END_HEADERS:
            self._headers = stream_id, flags, block
            return
        self._headers = None
        try:
            fields = {bytes(k): bytes(v) for k, v in self._decoder.decode(bytes(block), raw=True)}
        except HPACKError as error:
            self._end(stream_id, "BROKEN_ANSWER", f"headers that cannot be read: {error}")
            return
        if b"grpc-status" in fields:
            number = int(fields[b"grpc-status"])
            text = unquote(fields.get(b"grpc-message", b"").decode(errors="replace"))
            self._end(stream_id, "" if number == 0 else _CODES.get(number, str(number)), text)
        elif flags & Flag.END_STREAM or fields.get(b":status", b"200") != b"200":
            status = fields.get(b":status", b"?").decode()
            self._end(stream_id, "UNAVAILABLE", f"HTTP {status} without a gRPC status")

    def _end(self, stream_id: int, code: str, detail: str) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return
        record = stream.record
        if code:
            record.code, record.detail = code, detail
        elif not record.code:
            record.code, record.detail = "BROKEN_ANSWER", detail or "the answer ended without finished or failed"
        record.ended_s = self._now()
        stream.done(record)


class GrpcClient:
    """Answers over as many connections as it takes. A request for which none has room waits for the next one."""

    def __init__(self, target: Target, now: Callable[[], float], connections: int = 2) -> None:
        self._target = target
        self._now = now
        self._wanted = connections
        self._connections: list[Connection] = []
        self._opening: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Record, Done]] = deque()
        self._tls = _tls(target)
        self._turn = 0

    def __repr__(self) -> str:
        return f"GrpcClient({self._target.authority} connections={len(self._connections)} waiting={len(self._waiting)})"

    async def open(self) -> None:
        for _ in range(self._wanted):
            await self._connect()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._target.host, self._target.port
        async with asyncio.timeout(CONNECT_LIMIT_S):
            transport, connection = await loop.create_connection(
                lambda: Connection(self._target, self._now),
                host,
                port,
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
            try:
                await connection.ready
            except BaseException:
                transport.abort()
                raise
        self._connections.append(connection)

    def send(self, record: Record, done: Done) -> None:
        if self._waiting or not self._place(record, done):
            self._waiting.append((record, done))
            if self._opening is None or self._opening.done():
                self._opening = asyncio.get_running_loop().create_task(self._make_room())

    def _place(self, record: Record, done: Done) -> bool:
        """Sends it over the next connection with room, if there is one."""
        connections = self._connections
        for _ in range(len(connections)):
            self._turn = (self._turn + 1) % len(connections)
            if connections[self._turn].has_room:
                record.sent_s = self._now()
                connections[self._turn].send(record, done)
                return True
        return False

    async def _make_room(self) -> None:
        """Opens connections until nobody waits. Those who wait for one that cannot be opened end with NO_CONNECTION."""
        while self._waiting:
            self._connections = [one for one in self._connections if one.streams or not one.over]
            try:
                if len(self._connections) >= CONNECTIONS_LIMIT:
                    raise OSError(f"{CONNECTIONS_LIMIT} connections are open, and all are full")
                await self._connect()
            except OSError as error:
                waiting, self._waiting = self._waiting, deque()
                for record, done in waiting:
                    record.sent_s = record.ended_s = self._now()
                    record.code, record.detail = "NO_CONNECTION", str(error) or type(error).__name__
                    done(record)
            while self._waiting and self._place(*self._waiting[0]):
                self._waiting.popleft()

    def cancel(self, record: Record) -> None:
        for connection in self._connections:
            if connection.cancel(record):
                return
        self._waiting = deque(pair for pair in self._waiting if pair[0] is not record)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        for connection in self._connections:
            if connection.transport is not None:
                connection.transport.close()


def _tls(target: Target) -> ssl.SSLContext | None:
    if not target.tls and not target.ca_file:
        return None
    context = ssl.create_default_context(cafile=target.ca_file or None)
    context.set_alpn_protocols(["h2"])
    return context
