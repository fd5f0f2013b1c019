"""One HTTP/1.1 connection with one streamed answer at a time, as events over SSE.

The bytes are read where they arrive; there is no task for an answer. It opens nothing itself. What an event means
stands in sse_dialect.py.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from loadtest.load.client import Done, Target
from loadtest.load.record import OK, Record
from loadtest.load.sse_dialect import CODES, Dialect, body, openai_event, weft_event

HEAD_LIMIT_BYTES = 64 * 1024
EVENT_LIMIT_BYTES = 4 * 1024 * 1024


class Connection(asyncio.Protocol):
    """One connection, one answer at a time. `free` is called when it can take another.

    `again` gets a request that met the end of a connection which had been kept: no server has begun to answer it.
    """

    def __init__(
        self,
        target: Target,
        dialect: Dialect,
        now: Callable[[], float],
        free: "Callable[[Connection], None]",
        again: Callable[[Record, Done], None],
    ) -> None:
        self._now = now
        self._free = free
        self._again = again
        self._kept = False
        self._take = openai_event if dialect is Dialect.OPENAI else weft_event
        self._dialect = dialect
        self._target = target
        lines = [f"POST {dialect.value} HTTP/1.1", f"Host: {target.authority}", "Content-Type: application/json"]
        lines += ["Accept: text/event-stream", *(f"{name}: {value}" for name, value in target.headers)]
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode()
        self.transport: asyncio.Transport | None = None
        self.record: Record | None = None
        self._done: Done | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rest = b""
        self._event = b""
        self._in_body = False
        self._chunked = False
        self._chunk_left = 0
        self._length_left = 0
        self._status = 0
        self._error = b""
        self._closes = False
        self._encoding = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._closes = True
        if self.record is not None and self._done is not None:
            if self._kept and not self._in_body and not self._rest:
                record, done, self.record = self.record, self._done, None
                if self._timer is not None:
                    self._timer.cancel()
                self._again(record, done)
            elif error is None and self._in_body and not self._chunked and self._length_left < 0:
                # Without a length the body ends with its connection (RFC 9112, 6.3).
                self._complete("UNAVAILABLE")
            else:
                self._end("UNAVAILABLE", f"the connection was lost: {error or 'closed by the server'}")

    def ask(self, record: Record, done: Done) -> None:
        """Sends the request."""
        assert self.transport is not None
        self.record, self._done = record, done
        data = body(record, self._target, self._dialect)
        self._rest, self._event, self._error, self._in_body, self._status = b"", b"", b"", False, 0
        record.sent_s = record.sent_s or self._now()
        limit_s = self._target.timeout_s
        self._timer = asyncio.get_running_loop().call_later(limit_s, self.leave, "DEADLINE_EXCEEDED", "no end in time")
        self.transport.write(self._head + str(len(data)).encode() + b"\r\n\r\n" + data)

    def leave(self, code: str = "CANCELLED", detail: str = "left by the load generator") -> None:
        """Gives the answer up; HTTP/1.1 says so by closing."""
        self._closes = True
        if self.transport is not None:
            self.transport.abort()
        self._end(code, detail)

    # The path of each token.

    def data_received(self, data: bytes) -> None:
        if self.record is None:
            # An answer that goes on after its end belongs to nobody.
            self._closes = True
            return
        now_s = self._now()
        if self._rest:
            data, self._rest = self._rest + data, b""
        while not self._in_body:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                if len(data) > HEAD_LIMIT_BYTES:
                    self.leave("BROKEN_ANSWER", "headers without an end")
                return
            self._read_head(data[:end])
            data = data[end + 4 :]
            if self._encoding:
                self.leave("BROKEN_ANSWER", f"an answer in {self._encoding}, which nobody asked for")
                return
        if self._chunked:
            self._chunks(data, now_s)
        else:
            if self._length_left >= 0:
                self._length_left = max(0, self._length_left - len(data))
            self._events(data, now_s)
            if self._length_left == 0 and self.record is not None:
                self._complete()

    def _chunks(self, data: bytes, now_s: float) -> None:
        """Takes the chunked coding off."""
        at, size = 0, len(data)
        if not self._chunk_left and not self._event and data.endswith(b"\n\n\r\n"):
            # Most reads hold one chunk, and it one event.
            end = data.find(b"\r\n")
            if data.find(b"\n\n") == size - 4 and data.startswith(b"data: ", end + 2) and self._status == 200:
                self._take(cast(Record, self.record), data[end + 8 : -4], now_s)
                return
        while at < size and self.record is not None:
            if self._chunk_left:
                part = data[at : at + self._chunk_left]
                at += len(part)
                self._chunk_left -= len(part)
                self._events(part, now_s)
                continue
            if data.startswith(b"\r\n", at):
                at += 2
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            try:
                self._chunk_left = int(data[at:end].split(b";")[0], 16)
            except ValueError:
                self.leave("BROKEN_ANSWER", "a chunk without a size")
                return
            at = end + 2
            if not self._chunk_left:
                self._last_chunk(data, at)
                return
        self._rest = data[at:]

    def _last_chunk(self, data: bytes, at: int) -> None:
        """Nothing follows but an empty line, or trailers and then an empty line."""
        if data.startswith(b"\r\n", at) or data.find(b"\r\n\r\n", at) >= 0:
            self._complete()
        else:
            self._rest = b"0\r\n" + data[at:]

    def _events(self, data: bytes, now_s: float) -> None:
        if self._status != 200:
            self._error = (self._error + data)[:EVENT_LIMIT_BYTES]
            return
        if self._event:
            data, self._event = self._event + data, b""
        if b"\r" in data:
            # JSON holds no bare CR, so each is part of a line's end.
            data = data.replace(b"\r\n", b"\n")
        at = 0
        while (end := data.find(b"\n\n", at)) >= 0:
            if self.record is not None:
                plain = data.startswith(b"data: ", at) and data.find(b"\n", at, end) < 0
                event = data[at + 6 : end] if plain else _data(data[at:end])
                if event:
                    self._take(self.record, event, now_s)
            at = end + 2
        if at < len(data):
            self._event = data[at:]
            if len(self._event) > EVENT_LIMIT_BYTES:
                self.leave("BROKEN_ANSWER", "an event without an end")

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        try:
            self._status = int(first.split(b" ", 2)[1])
            self._length_left = int(fields.get(b"content-length", b"-1"))
        except (IndexError, ValueError):
            self._status, self._length_left = 0, -1
        self._chunked = b"chunked" in fields.get(b"transfer-encoding", b"").lower()
        kept = fields.get(b"connection", b"").lower()
        self._closes = b"close" in kept or (first.startswith(b"HTTP/1.0") and b"keep-alive" not in kept)
        encoding = fields.get(b"content-encoding", b"identity").decode(errors="replace")
        self._encoding = "" if encoding == "identity" else encoding
        # An interim response such as 100 has no body; the real head follows (RFC 9110, 15.2).
        self._chunk_left, self._in_body = 0, not 100 <= self._status < 200

    def _complete(self, cut_off: str = "") -> None:
        """The response is over; `cut_off` is the code for one that has no other sign of having been whole."""
        if self._status == 200 and self.record is not None:
            if self._event and (event := _data(self._event.rstrip())):
                # Some servers leave the last empty line out.
                self._take(self.record, event, self._now())
            if self.record.code == OK and self._dialect is Dialect.OPENAI:
                self.record.counted(self.record.completion_tokens)
            cut = cut_off if not self.record.code else ""
            self._end(cut, "the connection was closed before the last event" if cut else "")
            return
        name = CODES.get(self._status, f"HTTP_{self._status}")
        self._end(name, self._error[:500].decode(errors="replace"))

    def _end(self, code: str, detail: str) -> None:
        record, done, self.record = self.record, self._done, None
        if self._timer is not None:
            self._timer.cancel()
        if record is None or done is None:
            return
        if code:
            record.code, record.detail = code, detail
        elif not record.code:
            record.code, record.detail = "BROKEN_ANSWER", "the answer ended without its last event"
        record.ended_s = self._now()
        if not self._closes:
            self._kept = True
            self._free(self)
        elif self.transport is not None:
            self.transport.close()
        done(record)


def _data(event: bytes) -> bytes:
    """The data of an event with other fields, comments, several lines, or no space after the colon."""
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
