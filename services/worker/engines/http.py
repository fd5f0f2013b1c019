"""HTTP/1.1 for engines behind a server: JSON in, JSON or server-sent events out. It knows no engine and no proxy.

A general client costs four times as much CPU for each event; here an event is a chunk read off the socket, cut into
lines. Closing the connection early is how such servers are told to stop.
"""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from services.kit.errors import Unavailable, WeftError

# The longest line of an answer: a whole answer that came without chunks may be one.
LINE_LIMIT_BYTES = 16 * 1024 * 1024
# A whole body: the ids of the longest prompts, with their texts, take less.
BODY_LIMIT_BYTES = 64 * 1024 * 1024
# Connections that are kept open for the next request.
IDLE_LIMIT = 64
_HEADERS_LIMIT = 128
_HEADER_LIMIT_BYTES = 64 * 1024
# How long the end of an answer may follow its last event.
_END_LIMIT_S = 0.05

Refuse = Callable[[int, Mapping[str, str], bytes], WeftError]
"""The error that a status other than 200 stands for, from status, headers (lower case) and body."""


class Response:
    """One answer whose status was 200. `heard_s` is the loop's time of its latest bytes."""

    def __init__(self, reader: asyncio.StreamReader, headers: dict[str, str], broken: Unavailable) -> None:
        self._reader = reader
        self._broken = broken
        self.headers = headers
        self.complete = False
        self.heard_s = asyncio.get_running_loop().time()

    def __repr__(self) -> str:
        return f"Response(complete={self.complete})"

    async def body(self) -> bytes:
        """All of it. Raises Unavailable where it breaks off, or has more than BODY_LIMIT_BYTES."""
        parts, size_bytes = [], 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size_bytes += len(chunk)
            if size_bytes > BODY_LIMIT_BYTES:
                raise self._broken from ValueError(f"a body of more than {BODY_LIMIT_BYTES} bytes")
        return b"".join(parts)

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Server-sent events that are JSON objects, until `[DONE]` or the end. Raises Unavailable where one is none."""
        rest, chunks = b"", self.chunks()
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_LIMIT_BYTES:
                raise self._broken from ValueError(f"a line of more than {LINE_LIMIT_BYTES} bytes")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    await _drain(chunks)
                    return
                try:
                    # Bytes would first be looked at for their encoding.
                    event = json.loads(data.decode())
                except (ValueError, RecursionError) as error:
                    raise self._broken from error
                if isinstance(event, dict):
                    yield event

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises Unavailable where it breaks off, or a part of it is beyond all measure."""
        reader, now = self._reader, asyncio.get_running_loop().time
        try:
            if self.headers.get("transfer-encoding") == "chunked":
                while size := int((await reader.readline()).split(b";")[0], 16):
                    _check_size(size, LINE_LIMIT_BYTES)
                    chunk = await reader.readexactly(size + 2)
                    self.heard_s = now()
                    yield chunk[:-2]
                await reader.readline()
                self.complete = True
            elif (length := self.headers.get("content-length")) is not None:
                _check_size(int(length), BODY_LIMIT_BYTES)
                yield await reader.readexactly(int(length))
                self.complete = True
            else:
                while chunk := await reader.read(65_536):
                    self.heard_s = now()
                    yield chunk
        except (OSError, EOFError, ValueError) as error:
            raise self._broken from error


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if not 0 <= size_bytes <= limit_bytes:
        raise ValueError(f"{size_bytes} bytes at once")


_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpClient:
    """Connections to one server, `name` in what it says when they break. Whoever opens it closes it.

    `keep` is False for servers that spend a thread on each open connection.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        refuse: Refuse,
        *,
        name: str,
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = 5.0,
        keep: bool = True,
    ) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._refuse = refuse
        self._name = name
        self._idle_limit = IDLE_LIMIT if keep else 0
        fixed = {
            "Host": parts.netloc.rpartition("@")[2],
            "Connection": "keep-alive" if keep else "close",
            "Content-Type": "application/json",
            **{key.title(): value for key, value in headers.items()},
        }
        self._fixed = "".join(f"{key}: {value}\r\n" for key, value in fixed.items())
        self._idle: deque[_Connection] = deque()

    def __repr__(self) -> str:
        return f"HttpClient({self._host}:{self._port} idle={len(self._idle)})"

    async def get_json(self, path: str) -> Any:
        """The answer's JSON."""
        return self._parse(await self._whole("GET", path, None))

    async def get_text(self, path: str) -> str:
        """The answer's text."""
        return (await self._whole("GET", path, None)).decode(errors="replace")

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer's JSON, which has to be an object."""
        answer = self._parse(await self._whole("POST", path, body))
        if not isinstance(answer, dict):
            raise self._broken()
        return answer

    def _parse(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._broken() from error

    async def _whole(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        async with self.request(method, path, body) as response:
            return await response.body()

    @asynccontextmanager
    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Response]:
        """The answer to a POST as it comes; leaving the block early closes the connection."""
        async with self.request("POST", path, body) as response:
            yield response

    @asynccontextmanager
    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> AsyncIterator[Response]:
        """Raises Unavailable, ENGINE_BROKEN, where the server is away or breaks off, and else what `refuse` says."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._fixed}Content-Length: {len(data)}\r\n\r\n"
        connection, status, headers = await self._send(head.encode() + data)
        reader, writer = connection
        response = Response(reader, headers, self._broken())
        try:
            if status != 200:
                raise self._refuse(status, headers, await response.body())
            yield response
        finally:
            keep = response.complete and headers.get("connection") != "close" and len(self._idle) < self._idle_limit
            if keep and not writer.is_closing():
                self._idle.append(connection)
            else:
                # Without the hard end a server that still writes would be heard out first.
                writer.transport.abort()

    async def _send(self, data: bytes) -> tuple[_Connection, int, dict[str, str]]:
        """Sends a request and reads the answer's head. A kept connection that the server has closed is no failure."""
        while True:
            kept = bool(self._idle)
            reader, writer = self._idle.pop() if kept else await self._connect()
            try:
                writer.write(data)
                status, headers = await _head(reader)
            except (OSError, EOFError, ValueError, IndexError) as error:
                writer.transport.abort()
                if not kept:
                    raise self._broken() from error
            except BaseException:
                writer.transport.abort()
                raise
            else:
                return (reader, writer), status, headers

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await asyncio.open_connection(self._host, self._port, limit=LINE_LIMIT_BYTES, ssl=self._tls)
        except ssl.SSLError as error:
            message = f"{self._name} cannot be trusted: {error.reason or error}"
            raise Unavailable(message, reason="ENGINE_BROKEN") from error
        except (OSError, TimeoutError, UnicodeError) as error:
            # A host's name that cannot be one is a UnicodeError.
            message = f"{self._name} cannot be reached: {error or 'it did not answer in time'}"
            raise Unavailable(message, reason="ENGINE_BROKEN") from error

    def _broken(self) -> Unavailable:
        return Unavailable(f"{self._name} broke off; ask another worker", reason="ENGINE_BROKEN")

    def close(self) -> None:
        """Drops the kept connections; requests under way are closed by those who made them."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.transport.abort()


async def _drain(chunks: AsyncGenerator[bytes, None]) -> None:
    """Reads what follows the last event, so that the connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_LIMIT_S):
            async for _ in chunks:
                pass


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers, names and values in lower case."""
    line = await reader.readline()
    if not line:
        raise EOFError("the connection was closed")
    status, headers = int(line.split()[1]), dict[str, str]()
    for _ in range(_HEADERS_LIMIT):
        if not (line := (await reader.readline()).strip()):
            return status, headers
        _check_size(len(line), _HEADER_LIMIT_BYTES)
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()
    raise ValueError("too many headers")
