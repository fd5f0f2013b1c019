"""A client for llama.cpp's own HTTP interface on this machine's loopback; it knows nothing else of HTTP.

The interface gives real token ids and prompt progress, which the in-process call does not, and closing a connection
is how llama.cpp is told to stop.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.kit.errors import InvalidArgument, Unavailable

LINE_LIMIT = 16 * 1024 * 1024
_BROKEN = "llama.cpp broke off; ask another worker"


class LoopbackClient:
    """One connection for each request. Refusals become InvalidArgument, a broken server Unavailable."""

    def __init__(self, address: str, key: str) -> None:
        self._host, _, port = address.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._key = key

    def __repr__(self) -> str:
        return f"LoopbackClient({self._host}:{self._port})"

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The whole answer."""
        async with self._request(path, body) as chunks:
            answer: dict[str, Any] = json.loads(b"".join([chunk async for chunk in chunks]))
        return answer

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The answer's events as they come; leaving the block early stops llama.cpp's work on it."""
        async with self._request(path, body) as chunks:
            yield _events(chunks)

    @asynccontextmanager
    async def _request(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        )
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=LINE_LIMIT)
        except OSError as error:
            raise Unavailable(_BROKEN, reason="ENGINE_BROKEN") from error
        try:
            writer.write(head.encode() + data)
            chunks = await _answer(reader)
            yield chunks
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            raise Unavailable(_BROKEN, reason="ENGINE_BROKEN") from error
        finally:
            # Without the hard end a peer that still writes would be heard out first.
            writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    status = int((await reader.readline()).split()[1])
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip().lower()
    chunks = _chunked(reader) if headers.get("transfer-encoding") == "chunked" else _sized(reader, headers)
    if status != 200:
        raise _refusal(b"".join([chunk async for chunk in chunks]), status)
    return chunks


async def _sized(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    yield await reader.readexactly(int(headers.get("content-length", "0")))


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        chunk = await reader.readexactly(size + 2)
        yield chunk[:-2]


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Server-sent events: `data: {json}`, a blank line after each."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                event: dict[str, Any] = json.loads(line[6:])
                if "error" in event:
                    raise _refusal(line[6:], int(event["error"].get("code", 500)))
                yield event


def _refusal(body: bytes, status: int) -> InvalidArgument | Unavailable:
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {status}"
    if 400 <= status < 500:
        return InvalidArgument(f"llama.cpp refuses the request: {message}", reason="ENGINE_REFUSED", field="prompt")
    return Unavailable(f"llama.cpp failed: {message}", reason="ENGINE_FAILED")
