"""One HTTP/2 connection from a client, without its socket: bytes in, events out, and what to send in `out`.

It keeps the protocol (RFC 9113) and its bounds, and knows streams, not calls.
"""

from dataclasses import dataclass

from hpack import Decoder, HPACKError

from services.kit.lane.frames import (
    DEFAULT_WINDOW,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PREFACE,
    BrokenConnection,
    Code,
    Flag,
    Frame,
    Kind,
    Setting,
    frame,
    goaway,
    read_settings,
    reset,
    settings,
    split,
    unpadded,
    window_update,
    word,
)
from services.kit.lane.headers import Fields
from services.kit.lane.limits import Allowance, Limits
from services.kit.lane.outflow import Outflow, Stream
from services.kit.lane.states import Move, State

ALIVE = b"weftlive"
"""Payload of a ping that asks whether the client is there."""
LARGEST_FRAME_BYTES = 64 * 1024
"""Frames stay below this whatever the client takes, so that streams take turns."""
FAREWELL = b"weft-bye"
"""Payload of the ping after the first GOAWAY: its answer says that the client knows, and opens no stream any more."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A client opened a stream with these headers."""

    stream: Stream
    fields: Fields


@dataclass(frozen=True, slots=True)
class Received:
    """A part of a request's body."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True)
class Completed:
    """The request's body is complete."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The stream is over before its answer was: its client does not want it, or broke a rule on it."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Moved:
    """Some of what waited on the stream was sent."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection is over; GOAWAY is the last thing in `out`."""

    code: Code
    message: str


Event = Opened | Received | Completed | Cancelled | Moved | Broken
"""What `receive` finds, in order."""


class Connection:
    """The server's end. Times are seconds on one clock that the caller reads."""

    def __init__(self, limits: Limits) -> None:
        self.out = Outflow()
        self.streams: dict[int, Stream] = {}
        self.last_stream_id = 0
        """The latest stream that was taken; `_seen_id` is the latest that was asked for."""
        self.draining = False
        self.broken = False
        self._limits = limits
        self._data = bytearray()
        self._greeted = False
        self._settled = False
        self._decoder = Decoder(max_header_list_size=limits.header_bytes)
        self._block: _Block | None = None
        self._received_bytes = 0
        self._noise = Allowance(limits.noise_limit, limits.count_s)
        self._resets = Allowance(limits.reset_limit, limits.count_s)
        self._closed_for_new = False
        self._seen_id = 0
        self._greet()

    def __repr__(self) -> str:
        return f"Connection(streams={len(self.streams)} last={self.last_stream_id} broken={self.broken})"

    def _greet(self) -> None:
        limits = self._limits
        values = {
            Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
            Setting.INITIAL_WINDOW_SIZE: limits.window_bytes,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }
        self.out.frames.append(settings(values))
        self.out.frames.append(window_update(0, limits.connection_window_bytes - DEFAULT_WINDOW))

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Takes what the socket brought. A client that breaks the protocol ends it: `Broken` is then the last event."""
        events: list[Event] = []
        if self.broken:
            return events
        self._data += data
        try:
            if not self._greeted and not self._preface():
                return events
            for found in split(self._data):
                self._take(found, events, now_s)
        except BrokenConnection as error:
            self._break(error.code, error.message, events)
        return events

    def _break(self, code: Code, message: str, events: list[Event]) -> None:
        self.broken = True
        self._data.clear()
        self.out.frames.append(goaway(self.last_stream_id, code, message))
        events.append(Broken(code, message))

    def _preface(self) -> bool:
        """Whether the client's first words are complete and right."""
        head = bytes(self._data[: len(PREFACE)])
        if head != PREFACE[: len(head)]:
            raise BrokenConnection(Code.PROTOCOL_ERROR, "this port speaks HTTP/2 without TLS, from the first byte")
        if len(head) < len(PREFACE):
            return False
        del self._data[: len(PREFACE)]
        self._greeted = True
        return True

    # What a server sends of its own accord.

    def ping(self) -> None:
        """Asks whether the client is there; any bytes of its are an answer."""
        self.out.frames.append(frame(Kind.PING, 0, 0, ALIVE))

    def drain(self) -> None:
        """Tells the client to open no more streams; those that it has go on. The second time: new ones are refused."""
        if self.broken:
            return
        if not self.draining:
            self.draining = True
            self.out.frames.append(goaway(MAX_WINDOW, Code.NO_ERROR))
            self.out.frames.append(frame(Kind.PING, 0, 0, FAREWELL))
        elif not self._closed_for_new:
            self._closed_for_new = True
            self.out.frames.append(goaway(self.last_stream_id, Code.NO_ERROR))

    @property
    def parted(self) -> bool:
        """The client knows that it is to open no more streams."""
        return self._closed_for_new

    def abandon(self, stream: Stream, code: Code) -> None:
        """Ends a stream whose answer is not worth sending any more."""
        if self.streams.pop(stream.stream_id, None) is not None:
            self.out.frames.append(reset(stream.stream_id, code))
        stream.drop()

    def settle(self, stream: Stream) -> None:
        """Forgets a stream that is over."""
        if stream.state is State.CLOSED:
            self.streams.pop(stream.stream_id, None)

    def pump(self) -> list[Event]:
        """Sends what waits, after the socket has room again."""
        moved = self.out.pump()
        for stream in moved:
            self.settle(stream)
        return [Moved(stream) for stream in moved]

    def stale(self, before_s: float) -> list[Stream]:
        """Streams opened before that time whose request is not complete, and those whose end nobody has read since."""
        return [
            stream
            for stream in self.streams.values()
            if stream.since_s < before_s and (stream.state is State.OPEN or stream.ended)
        ]

    # What a client sends.

    def _take(self, found: Frame, events: list[Event], now_s: float) -> None:
        if self._block is not None and (found.kind != Kind.CONTINUATION or found.stream_id != self._block.stream_id):
            raise BrokenConnection(Code.PROTOCOL_ERROR, "headers were left unfinished")
        if not self._settled:
            if found.kind != Kind.SETTINGS or found.flags & Flag.ACK:
                raise BrokenConnection(Code.PROTOCOL_ERROR, "the first frame has to be SETTINGS")
            self._settled = True
        match found.kind:
            case Kind.WINDOW_UPDATE:
                self._window_update(found, events, now_s)
            case Kind.DATA:
                self._body(found, events, now_s)
            case Kind.HEADERS:
                self._headers(found, events, now_s)
            case Kind.CONTINUATION:
                self._continuation(found, events, now_s)
            case Kind.RST_STREAM:
                self._reset(found, events, now_s)
            case Kind.SETTINGS:
                self._settings(found, events, now_s)
            case Kind.PING:
                self._ping(found, now_s)
            case Kind.GOAWAY:
                _check(found.stream_id == 0 and len(found.payload) >= 8, "a GOAWAY that is none")
                self._quiet(now_s)
            case Kind.PUSH_PROMISE:
                raise BrokenConnection(Code.PROTOCOL_ERROR, "a client cannot push")
            case Kind.PRIORITY:
                _check(found.stream_id != 0, "PRIORITY without a stream")
                _check(len(found.payload) == 5, "PRIORITY has 5 bytes", Code.FRAME_SIZE_ERROR)
                self._quiet(now_s)
            case _:
                self._quiet(now_s)

    def _quiet(self, now_s: float) -> None:
        """Counts a frame that moves no request."""
        if not self._noise.spend(now_s):
            raise BrokenConnection(Code.ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def _known(self, stream_id: int, what: str) -> Stream | None:
        """The stream, or None where it is over. Raises BrokenConnection where it never was."""
        stream = self.streams.get(stream_id)
        if stream is None:
            _check(stream_id <= self._seen_id and stream_id % 2 == 1, f"{what} on a stream that was never opened")
        return stream

    def _window_update(self, found: Frame, events: list[Event], now_s: float) -> None:
        _check(len(found.payload) == 4, "WINDOW_UPDATE has 4 bytes", Code.FRAME_SIZE_ERROR)
        increment = word(found.payload)
        if not found.stream_id:
            _check(increment > 0, "a window grows by more than 0")
            self.out.grant(increment)
            events += self.pump()
            return
        stream = self._known(found.stream_id, "WINDOW_UPDATE")
        if stream is None:
            self._quiet(now_s)
        elif not increment or stream.window + increment > MAX_WINDOW:
            self._fail(stream, Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR, events, now_s)
        else:
            stream.window += increment
            stream.wait()
            if stream.queue and stream.pump():
                while stream.pump():
                    continue
                self.settle(stream)
                events.append(Moved(stream))

    def _body(self, found: Frame, events: list[Event], now_s: float) -> None:
        # What comes is taken at once, so windows are given back at half and cannot be overrun.
        self._received_bytes += len(found.payload)
        if self._received_bytes >= self._limits.connection_window_bytes // 2:
            self.out.frames.append(window_update(0, self._received_bytes))
            self._received_bytes = 0
        data = unpadded(found)
        stream = self._known(found.stream_id, "DATA")
        if stream is None:
            return self._quiet(now_s)
        end = bool(found.flags & Flag.END_STREAM)
        if not data and not end:
            self._quiet(now_s)
        stream.received_bytes += len(found.payload)
        if not stream.move(Move.DATA):
            return self._fail(stream, Code.STREAM_CLOSED, events, now_s)
        if data:
            events.append(Received(stream, data))
        if end:
            self._end(stream, events)
        elif stream.received_bytes >= self._limits.window_bytes // 2:
            self.out.frames.append(window_update(stream.stream_id, stream.received_bytes))
            stream.received_bytes = 0
        return None

    def _end(self, stream: Stream, events: list[Event]) -> None:
        stream.move(Move.REQUEST_END)
        events.append(Completed(stream))

    def _headers(self, found: Frame, events: list[Event], now_s: float) -> None:
        block = _Block(found.stream_id, bool(found.flags & Flag.END_STREAM), bytearray(unpadded(found)))
        _check(found.stream_id % 2 == 1, "a client's streams have odd numbers")
        self._gather(block, found, events, now_s)

    def _continuation(self, found: Frame, events: list[Event], now_s: float) -> None:
        if self._block is None:
            raise BrokenConnection(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block = self._block
        block.data += found.payload
        block.continuations += 1
        if block.continuations > self._limits.continuations:
            raise BrokenConnection(Code.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")
        self._gather(block, found, events, now_s)

    def _gather(self, block: "_Block", found: Frame, events: list[Event], now_s: float) -> None:
        if len(block.data) > self._limits.header_bytes:
            raise BrokenConnection(Code.ENHANCE_YOUR_CALM, f"headers over {self._limits.header_bytes} bytes")
        if not found.flags & Flag.END_HEADERS:
            self._block = block
            return
        self._block = None
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(bytes(block.data), raw=True)]
        except HPACKError as error:
            raise BrokenConnection(Code.COMPRESSION_ERROR, f"headers that cannot be read: {error}") from error
        if block.stream_id > self._seen_id:
            self._open(block, fields, events, now_s)
            return
        stream = self._known(block.stream_id, "HEADERS")
        if stream is None:
            self._quiet(now_s)
        elif not block.end or not stream.move(Move.HEADERS):
            self._fail(stream, Code.PROTOCOL_ERROR if not block.end else Code.STREAM_CLOSED, events, now_s)
        else:
            self._end(stream, events)

    def _open(self, block: "_Block", fields: Fields, events: list[Event], now_s: float) -> None:
        self._seen_id = block.stream_id
        if self._closed_for_new or len(self.streams) >= self._limits.max_streams:
            self._quiet(now_s)
            self.out.frames.append(reset(block.stream_id, Code.REFUSED_STREAM))
            return
        self.last_stream_id = block.stream_id
        stream = self.streams[block.stream_id] = Stream(block.stream_id, self.out, now_s)
        stream.move(Move.HEADERS)
        events.append(Opened(stream, fields))
        if block.end:
            self._end(stream, events)

    def _reset(self, found: Frame, events: list[Event], now_s: float) -> None:
        _check(len(found.payload) == 4, "RST_STREAM has 4 bytes", Code.FRAME_SIZE_ERROR)
        if not self._resets.spend(now_s):
            raise BrokenConnection(Code.ENHANCE_YOUR_CALM, "too many streams are reset")
        stream = self._known(found.stream_id, "RST_STREAM")
        if stream is not None:
            del self.streams[stream.stream_id]
            stream.drop()
            events.append(Cancelled(stream))

    def _fail(self, stream: Stream, code: Code, events: list[Event], now_s: float) -> None:
        """A rule of the stream was broken; the others go on."""
        self._quiet(now_s)
        self.abandon(stream, code)
        events.append(Cancelled(stream))

    def _ping(self, found: Frame, now_s: float) -> None:
        _check(found.stream_id == 0, "PING on a stream")
        _check(len(found.payload) == 8, "PING has 8 bytes", Code.FRAME_SIZE_ERROR)
        self._quiet(now_s)
        if not found.flags & Flag.ACK:
            self.out.frames.append(frame(Kind.PING, Flag.ACK, 0, found.payload))
        elif found.payload == FAREWELL and self.draining:
            self.drain()

    def _settings(self, found: Frame, events: list[Event], now_s: float) -> None:
        _check(found.stream_id == 0, "SETTINGS on a stream")
        self._quiet(now_s)
        if found.flags & Flag.ACK:
            _check(not found.payload, "an answer to SETTINGS is empty", Code.FRAME_SIZE_ERROR)
            return
        _check(len(found.payload) % 6 == 0, "SETTINGS come in 6 bytes each", Code.FRAME_SIZE_ERROR)
        # Of a setting that comes twice the last counts; looking at every stream for each would cost too much.
        for key, value in dict(read_settings(found.payload)).items():
            self._set(key, value)
        self.out.frames.append(frame(Kind.SETTINGS, Flag.ACK, 0))
        events += self.pump()

    def _set(self, key: int, value: int) -> None:
        if key == Setting.ENABLE_PUSH:
            _check(value <= 1, "ENABLE_PUSH is 0 or 1")
        elif key == Setting.MAX_FRAME_SIZE:
            _check(MAX_FRAME_BYTES <= value < 2**24, "MAX_FRAME_SIZE is out of range")
            self.out.max_frame_bytes = min(value, LARGEST_FRAME_BYTES)
        elif key == Setting.INITIAL_WINDOW_SIZE:
            _check(value <= MAX_WINDOW, "INITIAL_WINDOW_SIZE is over 2^31-1", Code.FLOW_CONTROL_ERROR)
            grown = value - self.out.stream_window
            self.out.stream_window = value
            for stream in self.streams.values():
                # This may make it negative; then nothing is sent until the client gives as much back.
                stream.window += grown
                stream.wait()
                _check(stream.window <= MAX_WINDOW, "a stream's window is over 2^31-1", Code.FLOW_CONTROL_ERROR)


class _Block:
    """A header block that is still coming."""

    __slots__ = ("continuations", "data", "end", "stream_id")

    def __init__(self, stream_id: int, end: bool, data: bytearray) -> None:
        self.stream_id = stream_id
        self.end = end
        self.data = data
        self.continuations = 0


def _check(holds: bool, message: str, code: Code = Code.PROTOCOL_ERROR) -> None:
    """Raises BrokenConnection unless it holds."""
    if not holds:
        raise BrokenConnection(code, message)
