"""What a connection has to send: frames in order, the peer's windows, and the streams that wait for its own."""

from services.kit.lane.frames import (
    DEFAULT_WINDOW,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    MESSAGE_HEAD,
    BrokenConnection,
    Code,
    Flag,
    Kind,
    frame,
    reset,
)
from services.kit.lane.states import MOVES, Move, State


class Outflow:
    """The sending half of one connection. `frames` fills up until `take`; `paused` holds data back, not control frames.

    The peer's windows, its largest frame and `paused` bound what one moment adds to `frames`.
    """

    __slots__ = ("blocked", "frames", "max_frame_bytes", "paused", "started", "stream_window", "window")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.window = DEFAULT_WINDOW
        self.stream_window = DEFAULT_WINDOW
        self.max_frame_bytes = MAX_FRAME_BYTES
        self.paused = False
        self.started = False
        self.blocked: dict[int, Stream] = {}

    def __repr__(self) -> str:
        return f"Outflow(window={self.window} frames={len(self.frames)} blocked={len(self.blocked)})"

    def take(self) -> bytes:
        """Everything to send by now."""
        data = b"".join(self.frames)
        self.frames.clear()
        return data

    def headers(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """A block of headers, in as many frames as it needs."""
        if not self.started:
            # The first block says that this side's header table is empty and stays so; every block then stands alone.
            self.started = True
            block = b"\x20" + block
        size = self.max_frame_bytes
        parts = [block[start : start + size] for start in range(0, len(block), size)]
        for number, part in enumerate(parts):
            kind = Kind.CONTINUATION if number else Kind.HEADERS
            flags = Flag.END_HEADERS if number == len(parts) - 1 else 0
            self.frames.append(frame(kind, flags | (Flag.END_STREAM if end and not number else 0), stream_id, part))

    def grant(self, increment: int) -> None:
        """The peer takes more on the connection. Raises BrokenConnection where its window would be too large."""
        self.window += increment
        if self.window > MAX_WINDOW:
            raise BrokenConnection(Code.FLOW_CONTROL_ERROR, "the connection's window is over 2^31-1")

    def pump(self) -> list["Stream"]:
        """Sends what waits, as far as the windows let it; the streams that moved. They take turns, frame by frame."""
        moved: dict[int, Stream] = {}
        while self.blocked and self.window > 0 and not self.paused:
            number = next(iter(self.blocked))
            stream = self.blocked.pop(number)
            if stream.pump():
                moved[number] = stream
                stream.wait()
        return list(moved.values())


class Stream:
    """One stream: its state, what waits to be sent on it, and the peer's window for it, which may be negative."""

    __slots__ = (
        "_out",
        "_trailers",
        "answered",
        "ended",
        "queue",
        "received_bytes",
        "since_s",
        "state",
        "stream_id",
        "window",
    )

    def __init__(self, stream_id: int, out: Outflow, since_s: float) -> None:
        self.stream_id = stream_id
        self.state = State.IDLE
        self.window = out.stream_window
        self.queue = bytearray()
        self.since_s = since_s
        self.received_bytes = 0
        """Bytes that came since the stream's window was last given back."""
        self.answered = False
        """Response headers are sent."""
        self.ended = False
        """Nothing more can be sent."""
        self._out = out
        self._trailers: bytes | None = None

    def __repr__(self) -> str:
        return f"Stream({self.stream_id} {self.state.name} window={self.window} queued={len(self.queue)})"

    def move(self, move: Move) -> bool:
        """Whether this may happen now; the state follows."""
        after = MOVES.get((self.state, move))
        if after is None:
            return False
        self.state = after
        return True

    def head(self, block: bytes) -> None:
        """Response headers."""
        if not self.ended:
            self.answered = True
            self._out.headers(self.stream_id, block, end=False)

    def send(self, message: bytes) -> None:
        """One gRPC message: into the frames where the windows have room, into the queue where not."""
        if not self.push(message) and not self.ended:
            self.queue += b"\0" + len(message).to_bytes(4, "big")
            self.queue += message
            self._out.blocked[self.stream_id] = self
            while self.pump():
                continue

    def push(self, message: bytes) -> bool:
        """One gRPC message, if it can leave at once and whole, after headers; False where it was not taken."""
        out, payload = self._out, len(message)
        size = payload + 5
        if (
            self.queue
            or size > self.window
            or size > out.window
            or size > out.max_frame_bytes
            or out.paused
            or self.ended
            or not self.answered
        ):
            return False
        self.window -= size
        out.window -= size
        out.frames.append(MESSAGE_HEAD(size >> 16, size & 0xFFFF, 0, 0, self.stream_id, 0, payload) + message)
        return True

    def end(self, trailers: bytes) -> None:
        """Nothing follows but these headers; they wait for what is queued."""
        if self.ended:
            return
        self._trailers = trailers
        self.ended = True
        if not self.queue:
            self._finish()

    def wait(self) -> None:
        """Takes a turn for the connection's window, last in line, where that is all that holds it back."""
        if self.queue and self.window > 0:
            self._out.blocked[self.stream_id] = self

    def pump(self) -> bool:
        """Sends at most one frame of what waits; whether anything was sent."""
        out = self._out
        size = min(len(self.queue), self.window, out.window, out.max_frame_bytes)
        if size <= 0 or out.paused:
            return False
        self.window -= size
        out.window -= size
        out.frames.append(frame(Kind.DATA, 0, self.stream_id, bytes(self.queue[:size])))
        del self.queue[:size]
        if not self.queue or self.window <= 0:
            out.blocked.pop(self.stream_id, None)
        if not self.queue and self._trailers is not None:
            self._finish()
        return True

    def _finish(self) -> None:
        assert self._trailers is not None
        self._out.headers(self.stream_id, self._trailers, end=True)
        self.move(Move.ANSWER_END)
        if self.state is State.HALF_CLOSED_LOCAL:
            # The client need not go on with a request that is answered already.
            self._out.frames.append(reset(self.stream_id, Code.NO_ERROR))
            self.move(Move.RESET)

    def drop(self) -> None:
        """The stream is over; what waited is gone."""
        self.move(Move.RESET)
        self.ended = True
        self.queue.clear()
        self._out.blocked.pop(self.stream_id, None)
