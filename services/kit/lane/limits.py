"""The lane's bounds, and a count of what a peer may do in a while."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may hold or ask for; beyond it the stream or the connection ends, as each field says."""

    max_streams: int = 20_000
    """Streams open at once; one more is refused (REFUSED_STREAM)."""
    max_message_bytes: int = 48 * 1024 * 1024
    """Request message; a larger one ends with RESOURCE_EXHAUSTED before it is read."""
    header_bytes: int = 32 * 1024
    """A request's headers, packed and unpacked; beyond it the connection ends."""
    continuations: int = 8
    """CONTINUATION frames of one block of headers; beyond it the connection ends."""
    send_buffer_bytes: int = 32 * 1024
    """Bytes that wait in one stream for its client's window before `write` waits too."""
    window_bytes: int = 1024 * 1024
    """What a client may send on one stream before this side has read it; at least 65,535."""
    connection_window_bytes: int = 16 * 1024 * 1024
    """The same for all of its streams together; at least 65,535."""
    noise_limit: int = 4_000
    """Frames that move no request (settings, pings, priorities, unknown ones, empty data, anything on a stream that is
    over) in `count_s`; beyond it the connection ends with ENHANCE_YOUR_CALM."""
    reset_limit: int = 4_000
    """Streams that the client resets in `count_s`; the same. It is above what a proxy's clients do together when a
    load generator of 1,000 streams is stopped."""
    count_s: float = 10.0
    """How long frames are counted before the count starts anew."""
    request_s: float = 60.0
    """Time in which a request has to be complete; then its stream is reset."""


class Allowance:
    """At most `limit` occasions in each span of `span_s` seconds."""

    __slots__ = ("_from_s", "_limit", "_span_s", "_used")

    def __init__(self, limit: int, span_s: float) -> None:
        self._limit = limit
        self._span_s = span_s
        self._from_s = 0.0
        self._used = 0

    def __repr__(self) -> str:
        return f"Allowance({self._used} of {self._limit})"

    def spend(self, now_s: float) -> bool:
        """Counts one; whether it was within the limit."""
        if now_s - self._from_s >= self._span_s:
            self._from_s, self._used = now_s, 0
        self._used += 1
        return self._used <= self._limit
