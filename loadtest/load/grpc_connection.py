"""One HTTP/2 connection that carries many StreamChat answers, in a few µs for each token; it opens none itself.

The file is long since the path of a token, and the frames around it, stand in one place.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import cast
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from hpack import Decoder, HPACKError

from loadtest.load.client import Done, Target
from loadtest.load.grpc_request import CODES, RESETS, STATUSES, header_block, message
from loadtest.load.protobuf import TOKENS, WrongMessage, read_tokens
from loadtest.load.record import OK, Record
from services.kit.lane.frames import (
    DEFAULT_WINDOW,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PREFACE,
    BrokenConnection,
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
    word,
)
from services.kit.lane.frames import Frame as WireFrame
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

STREAMS_EACH = 256
"""Answers on one connection before the next one is taken."""
WINDOW_BYTES = 2**30
LAST_STREAM = 2**31 - 1
DEADLINE_GRACE_S = 1.0
"""How much later than the server this side gives an answer up, so that the server's own word comes first."""
_HEAD = struct.Struct(">BHBBI")
_MESSAGE = struct.Struct(">BI")


class _Stream:
    """One answer under way: what came of a message that is not complete, and what of the request is not yet sent."""

    __slots__ = ("done", "outgoing", "record", "rest", "timer", "window")

    def __init__(self, record: Record, done: Done, window: int, timer: asyncio.TimerHandle) -> None:
        self.record = record
        self.done = done
        self.rest = b""
        self.outgoing = b""
        self.window = window
        self.timer = timer


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
        self._loop = asyncio.get_running_loop()
        self.peer_streams = 100
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.over = False

    def __repr__(self) -> str:
        return f"Connection(streams={len(self.streams)} over={self.over})"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        spoken = transport.get_extra_info("ssl_object")
        if spoken is not None and spoken.selected_alpn_protocol() != "h2":
            self.ready.set_exception(ConnectionError("the server speaks no HTTP/2 over TLS (ALPN)"))
            transport.close()
            return
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
        timer = self._loop.call_later(self._target.timeout_s + DEADLINE_GRACE_S, self._late, stream_id)
        self.streams[stream_id] = stream = _Stream(record, done, self._first_window, timer)
        data = message(record, self._target)
        data = _MESSAGE.pack(0, len(data)) + data
        headers = frame(Kind.HEADERS, Flag.END_HEADERS, stream_id, self._block)
        if len(data) <= min(self._window, self._first_window, MAX_FRAME_BYTES):
            self._window -= len(data)
            self.transport.write(headers + frame(Kind.DATA, Flag.END_STREAM, stream_id, data))
            return
        stream.outgoing = data
        self.transport.write(headers)
        self._held.append(stream_id)
        self._pump()

    def _pump(self) -> None:
        """Sends what the windows held back: the connection's, and each stream's own."""
        assert self.transport is not None
        for stream_id in list(self._held):
            stream = self.streams.get(stream_id)
            while stream is not None and stream.outgoing:
                size = min(self._window, stream.window, MAX_FRAME_BYTES, len(stream.outgoing))
                if size <= 0:
                    break
                part, stream.outgoing = stream.outgoing[:size], stream.outgoing[size:]
                self._window -= size
                stream.window -= size
                last = 0 if stream.outgoing else Flag.END_STREAM
                self.transport.write(frame(Kind.DATA, last, stream_id, part))
            if stream is None or not stream.outgoing:
                self._held.remove(stream_id)
            if self._window <= 0:
                return

    def _late(self, stream_id: int) -> None:
        """The server has not kept the deadline that it was told."""
        if self.transport is not None:
            self.transport.write(reset(stream_id, Code.CANCEL))
        self._end(stream_id, "DEADLINE_EXCEEDED", "no end in time")

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
                try:
                    self._other(WireFrame(kind, flags, stream_id & MAX_WINDOW, data[begin:end]), now_s)
                except (BrokenConnection, struct.error, ValueError) as error:
                    self._broken(f"the server broke HTTP/2: {error}")
                    return
            at = end
        self._rest = data[at:] if at < size else b""
        if self._taken_bytes > WINDOW_BYTES // 2 and self.transport is not None:
            self.transport.write(window_update(0, self._taken_bytes))
            self._taken_bytes = 0

    def _broken(self, why: str) -> None:
        """Nothing more can be read of this connection."""
        self.over = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))
        if self.transport is not None:
            self.transport.abort()
        for stream_id in list(self.streams):
            self._end(stream_id, "BROKEN_ANSWER", why)

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
            except (WrongMessage, DecodeError, ValueError) as error:
                self._refuse(stream_id, str(error))
                return
            at = end
        stream.rest = data[at:] if at < size else b""

    def _event(self, record: Record, data: bytes, now_s: float) -> None:
        event = router_pb2.StreamChatResponse.FromString(data)
        kind = event.WhichOneof("event")
        if kind == "accepted":
            record.accepted_s = record.accepted_s or now_s
            record.hosted(now_s, event.accepted.worker_id)
        elif kind == "moved":
            record.moves += 1
            record.hosted(now_s, event.moved.to_worker_id)
        elif kind == "finished":
            finished = event.finished
            record.code, record.worker = OK, finished.worker_id
            record.reason = chat_pb2.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_")
            usage = finished.usage
            record.prompt_tokens, record.cached_tokens = usage.prompt_tokens, usage.cached_tokens
            record.counted(usage.completion_tokens)
            record.queue_s = finished.timing.queue.ToNanoseconds() / 1e9
        elif kind == "failed":
            record.code = CODES.get(event.failed.code, str(event.failed.code))
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
        elif kind == Kind.WINDOW_UPDATE:
            self._widen(stream_id, word(found.payload))
        elif kind == Kind.RST_STREAM:
            code = word(found.payload)
            self._end(stream_id, RESETS.get(code, "INTERNAL"), f"the server reset the stream (code {code})")
        elif kind == Kind.GOAWAY:
            # Streams up to the number that it names go on; new ones take another connection.
            self.over = True
            last = word(found.payload)
            for number in [number for number in self.streams if number > last]:
                self._end(number, "UNAVAILABLE", "the server is leaving (GOAWAY)")
            if not self.streams:
                self.transport.close()

    def _widen(self, stream_id: int, increment: int) -> None:
        """The peer takes more, over the whole connection (0) or of one stream."""
        if not stream_id:
            self._window += increment
        elif (stream := self.streams.get(stream_id)) is not None:
            stream.window += increment
        self._pump()

    def _settings(self, payload: bytes) -> None:
        assert self.transport is not None
        for key, value in read_settings(payload):
            if key == Setting.MAX_CONCURRENT_STREAMS:
                self.peer_streams = value
            elif key == Setting.INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    # RFC 9113, 6.9.2: a change counts for the streams that are open, too.
                    stream.window += value - self._first_window
                self._first_window = value
        self.transport.write(frame(Kind.SETTINGS, Flag.ACK, 0))
        if not self.ready.done():
            self.ready.set_result(None)
        self._pump()

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
            self._end(stream_id, "" if number == 0 else CODES.get(number, str(number)), text)
        elif flags & Flag.END_STREAM or fields.get(b":status", b"200") != b"200":
            status = fields.get(b":status", b"?").decode()
            self._end(stream_id, STATUSES.get(status, "UNKNOWN"), f"HTTP {status} without a gRPC status")

    def _end(self, stream_id: int, code: str, detail: str) -> None:
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return
        stream.timer.cancel()
        if stream.outgoing:
            self._held.remove(stream_id)
        if self.over and not self.streams and self.transport is not None:
            self.transport.close()
        record = stream.record
        if code:
            record.code, record.detail = code, detail
        elif not record.code:
            record.code, record.detail = "BROKEN_ANSWER", detail or "the answer ended without finished or failed"
        record.ended_s = self._now()
        stream.done(record)
