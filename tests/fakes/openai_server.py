"""An OpenAI-compatible server that misbehaves on demand: what real ones cannot be made to say."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

MODELS = {"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "someone"}]}


def sse(*events: object) -> bytes:
    """Events as they stand on the wire; text is sent as it is."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def text_event(text: str, finish: str | None = None) -> dict[str, Any]:
    """One chunk of /v1/completions."""
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}


@dataclass
class Answer:
    """What to say to one path. `chunked` bodies are streamed; `hold` keeps the stream open after the body.

    `mute` says nothing at all; `raw` is the whole answer, its head too.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    cut: bool = False
    hold: bool = False
    mute: bool = False
    raw: bytes = b""


def json_answer(value: object, status: int = 200, **headers: str) -> Answer:
    return Answer(json.dumps(value).encode(), status, {key.replace("_", "-"): value for key, value in headers.items()})


def stream_answer(*events: object, cut: bool = False, hold: bool = False) -> Answer:
    return Answer(sse(*events), headers={"content-type": "text/event-stream"}, chunked=True, cut=cut, hold=hold)


class FakeUpstream:
    """Answers each path as `answers` says, which tests change as they go; remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {"/v1/models": json_answer(MODELS)}
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.left = asyncio.Event()
        """A client went away from a stream that was held open."""
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def bodies(self, path: str) -> list[Any]:
        """What was posted there."""
        return [body for asked, _, body in self.requests if asked == path]

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """As if the process had ended: every connection breaks."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                await self._answer(line.split()[1].decode(), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = {}
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((path, headers, json.loads(data) if data else None))
        answer = self.answers.get(path) or json_answer({"detail": "Not Found"}, 404)
        if answer.mute:
            await reader.read(1)
            self.left.set()
            raise ConnectionResetError
        if answer.raw:
            writer.write(answer.raw)
            await writer.drain()
            raise ConnectionResetError
        size = {"transfer-encoding": "chunked"} if answer.chunked else {"content-length": str(len(answer.body))}
        head = "".join(f"{key}: {value}\r\n" for key, value in {**answer.headers, **size}.items())
        writer.write(f"HTTP/1.1 {answer.status} X\r\n{head}\r\n".encode())
        if not answer.chunked:
            writer.write(answer.body)
            return
        writer.write(b"%x\r\n%s\r\n" % (len(answer.body), answer.body))
        await writer.drain()
        if answer.hold:
            await reader.read(1)
            self.left.set()
        elif not answer.cut:
            writer.write(b"0\r\n\r\n")
            return
        raise ConnectionResetError


@asynccontextmanager
async def fake_upstream() -> AsyncIterator[FakeUpstream]:
    """One that listens while the block lasts."""
    upstream = FakeUpstream()
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.stop()
