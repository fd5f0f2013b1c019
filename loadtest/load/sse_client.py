"""Streamed answers over HTTP/1.1: OpenAI's chat completions, or /v1/chat; a connection for each answer.

Connections are kept and used again. The bytes are read where they arrive; there is no task for each answer.
"""

import asyncio
import json
import ssl
from collections.abc import Callable
from enum import Enum
from typing import Any, cast

from loadtest.load.client import Done, Target
from loadtest.load.record import OK, Record

HEAD_LIMIT_BYTES = 64 * 1024
EVENT_LIMIT_BYTES = 4 * 1024 * 1024
CONNECT_LIMIT_S = 10.0


class Dialect(Enum):
    """What is spoken over HTTP; the values are the paths."""

    OPENAI = "/v1/chat/completions"
    WEFT = "/v1/chat"


_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The codes that HTTP statuses stand for, as Envoy maps them."""


def body(record: Record, target: Target, dialect: Dialect) -> bytes:
    """The request's JSON."""
    request = record.request
    if dialect is Dialect.OPENAI:
        fields: dict[str, Any] = {
            "model": target.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "max_tokens": request.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            fields["seed"] = request.seed
    else:
        sampling: dict[str, Any] = {"max_tokens": request.max_tokens}
        if request.seed is not None:
            sampling["seed"] = str(request.seed)
        fields = {
            "model": target.model,
            "messages": [{"role": f"ROLE_{role.upper()}", "content": text} for role, text in request.messages],
            "sampling": sampling,
            "session_id": request.session,
        }
    return json.dumps(fields | target.extra).encode()


class Connection(asyncio.Protocol):
    """One connection, one answer at a time. `free` is called when it can take another."""

    def __init__(
        self, target: Target, dialect: Dialect, now: Callable[[], float], free: "Callable[[Connection], None]"
    ) -> None:
        self._now = now
        self._free = free
        self._take = self._openai if dialect is Dialect.OPENAI else self._weft
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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._closes = True
        if self.record is not None:
            whole = self._in_body and not self._chunked and self._length_left == 0 and self.record.code
            self._end("" if whole else "UNAVAILABLE", f"the connection was lost: {error or 'closed by the server'}")

    def ask(self, record: Record, done: Done) -> None:
        """Sends the request."""
        assert self.transport is not None
        self.record, self._done = record, done
        data = body(record, self._target, self._dialect)
        self._rest, self._event, self._error, self._in_body, self._status = b"", b"", b"", False, 0
        record.sent_s = self._now()
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
        if not self._in_body:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                if len(data) > HEAD_LIMIT_BYTES:
                    self.leave("BROKEN_ANSWER", "headers without an end")
                return
            self._read_head(data[:end])
            data = data[end + 4 :]
        if self._chunked:
            self._chunks(data, now_s)
        else:
            self._length_left -= len(data)
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
        at = 0
        while (end := data.find(b"\n\n", at)) >= 0:
            if self.record is not None and data.startswith(b"data: ", at):
                self._take(self.record, data[at + 6 : end], now_s)
            at = end + 2
        if at < len(data):
            self._event = data[at:]
            if len(self._event) > EVENT_LIMIT_BYTES:
                self.leave("BROKEN_ANSWER", "an event without an end")

    def _openai(self, record: Record, event: bytes, now_s: float) -> None:
        """One chunk of a chat completion. It has no index; a chunk counts as one token until usage says more."""
        at = event.find(b'"content":"')
        if at > 0 and event[at + 11] != 0x22:
            record.token(now_s, -1, 1)
            if event.find(b'"finish_reason":"') < 0:
                return
        if event == b"[DONE]":
            record.code = record.code or OK
            return
        found = _json(event)
        if found is None:
            return
        if "error" in found:
            self._failed(record, found["error"])
            return
        for choice in found.get("choices") or ():
            if choice.get("finish_reason"):
                record.reason = str(choice["finish_reason"]).upper()
        if usage := found.get("usage"):
            record.prompt_tokens = usage.get("prompt_tokens", 0)
            record.completion_tokens = usage.get("completion_tokens", 0)
            record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) or 0

    def _weft(self, record: Record, event: bytes, now_s: float) -> None:
        """One event of /v1/chat."""
        found = _json(event)
        if found is None:
            return
        if tokens := found.get("tokens"):
            count = len(tokens.get("token_ids", ()))
            if count:
                record.token(now_s, tokens.get("index", 0), count)
        elif "accepted" in found:
            record.accepted_s = record.accepted_s or now_s
            record.worker = found["accepted"].get("worker_id", "")
        elif "moved" in found:
            record.moves += 1
            record.worker = found["moved"].get("to_worker_id", "")
        elif finished := found.get("finished"):
            usage = finished.get("usage", {})
            record.code, record.worker = OK, finished.get("worker_id", "")
            record.reason = str(finished.get("reason", "")).removeprefix("FINISH_REASON_")
            record.prompt_tokens = usage.get("prompt_tokens", 0)
            record.cached_tokens = usage.get("cached_tokens", 0)
            record.completion_tokens = usage.get("completion_tokens", 0)
            record.queue_s = float(finished.get("timing", {}).get("queue", "0s").rstrip("s") or 0)
        elif failed := found.get("failed"):
            self._failed(record, failed)

    @staticmethod
    def _failed(record: Record, error: Any) -> None:
        fields = error if isinstance(error, dict) else {"message": str(error)}
        code = fields.get("code") or fields.get("type") or "INTERNAL"
        record.code = _CODES.get(code, str(code)) if isinstance(code, int) else str(code)
        record.detail = str(fields.get("message", ""))

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        try:
            self._status = int(first.split(b" ", 2)[1])
            self._length_left = int(fields.get(b"content-length", b"-1"))
        except (IndexError, ValueError):
            self._status, self._length_left = 0, -1
        self._chunked = b"chunked" in fields.get(b"transfer-encoding", b"").lower()
        self._closes = fields.get(b"connection", b"").lower() == b"close"
        self._chunk_left, self._in_body = 0, True

    def _complete(self) -> None:
        """The response is whole."""
        if self._status == 200:
            self._end("", "")
            return
        name = _CODES.get(self._status, f"HTTP_{self._status}")
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
            self._free(self)
        elif self.transport is not None:
            self.transport.close()
        done(record)


def _json(event: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(event)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class SseClient:
    """A connection for each answer under way, kept for the next one."""

    def __init__(self, target: Target, dialect: Dialect, now: Callable[[], float], limit: int = 10_000) -> None:
        self._target = target
        self._dialect = dialect
        self._now = now
        self._limit = limit
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._tls = ssl.create_default_context(cafile=target.ca_file or None) if target.tls or target.ca_file else None

    def __repr__(self) -> str:
        return f"SseClient({self._target.authority} connections={len(self._all)} idle={len(self._idle)})"

    async def open(self) -> None:
        self._idle.append(await self._connect())

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        host, port = self._target.host, self._target.port
        async with asyncio.timeout(CONNECT_LIMIT_S):
            _, connection = await loop.create_connection(
                lambda: Connection(self._target, self._dialect, self._now, self._idle.append),
                host,
                port,
                ssl=self._tls,
                server_hostname=host if self._tls else None,
            )
        self._all.add(connection)
        return connection

    def send(self, record: Record, done: Done) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                connection.ask(record, done)
                return
            self._all.discard(connection)
        task = asyncio.get_running_loop().create_task(self._send_later(record, done))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _send_later(self, record: Record, done: Done) -> None:
        """Over a new connection. The time that it takes is part of the answer's, as for any client."""
        self._all = {one for one in self._all if one.transport is not None and not one.transport.is_closing()}
        try:
            if len(self._all) >= self._limit:
                raise OSError(f"{self._limit} connections are open")
            connection = await self._connect()
        except OSError as error:
            record.sent_s = record.ended_s = self._now()
            record.code, record.detail = "NO_CONNECTION", str(error) or type(error).__name__
            done(record)
        else:
            connection.ask(record, done)

    def cancel(self, record: Record) -> None:
        for connection in self._all:
            if connection.record is record:
                connection.leave()
                return

    async def close(self) -> None:
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in self._all:
            if connection.transport is not None:
                connection.transport.close()
