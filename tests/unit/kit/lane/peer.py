"""A client's end of the lane without a socket: writes frames, and reads what the server's end has to send."""

from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from services.kit.lane.connection import Connection, Event
from services.kit.lane.frames import PREFACE, Flag, Frame, Kind, Setting, frame, settings, split, window_update, word
from services.kit.lane.limits import Limits

HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/weft.test.v1.TestService/Call"),
    (":authority", "here"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]
MESSAGE = b"\0\0\0\0\x02hi"


@dataclass
class Peer:
    """Talks to `server`; what it answered is in `frames` after each `send`."""

    limits: Limits = field(default_factory=Limits)
    now_s: float = 0.0
    frames: list[Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = Connection(self.limits)
        self.encoder = Encoder()
        self.decoder = Decoder()

    def greet(self, **values: int) -> "Peer":
        """The preface and this side's settings."""
        self.send(PREFACE + settings({Setting[name.upper()]: value for name, value in values.items()}))
        self.frames.clear()
        return self

    def send(self, data: bytes) -> list[Event]:
        """What the server makes of the bytes."""
        events = self.server.receive(data, self.now_s)
        self.read()
        return events

    def read(self) -> list[Frame]:
        """All frames so far, the new ones at the end."""
        self.frames += split(bytearray(self.server.out.take()))
        return self.frames

    def head(self, stream_id: int = 1, headers: list[tuple[str, str]] = HEADERS, *, end: bool = False) -> bytes:
        """A HEADERS frame."""
        flags = Flag.END_HEADERS | (Flag.END_STREAM if end else 0)
        return frame(Kind.HEADERS, flags, stream_id, self.encoder.encode(headers))

    def request(self, stream_id: int = 1, body: bytes = MESSAGE) -> bytes:
        """A whole call."""
        return self.head(stream_id) + frame(Kind.DATA, Flag.END_STREAM, stream_id, body)

    def open(self, stream_id: int = 1) -> None:
        """Makes a whole call, and answers its headers, so that messages may follow."""
        self.send(self.request(stream_id))
        self.server.streams[stream_id].head(b"\x88")
        self.read()
        self.frames.clear()

    def grant(self, stream_id: int, increment: int) -> list[Event]:
        """More window."""
        return self.send(window_update(stream_id, increment))

    def of(self, kind: Kind, stream_id: int | None = None) -> list[Frame]:
        """The frames of one kind that the server sent."""
        return [f for f in self.frames if f.kind == kind and stream_id in (None, f.stream_id)]

    def data(self, stream_id: int) -> bytes:
        """What came on the stream."""
        return b"".join(f.payload for f in self.of(Kind.DATA, stream_id))

    def code(self, kind: Kind) -> int:
        """The error code of the only RST_STREAM or GOAWAY."""
        (only,) = self.of(kind)
        return word(only.payload[4:] if kind is Kind.GOAWAY else only.payload)
