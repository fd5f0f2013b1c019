"""One answer at a time, over each way into the mesh, with what a client notices: first token, gaps, lost tokens."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio

from loadtest.loadgen import MARKER
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub
from weft.worker.v1 import worker_pb2
from weft.worker.v1.worker_pb2_grpc import WorkerServiceStub


@dataclass(slots=True)
class Seen:
    """One answer as its client saw it; times in seconds. `wrong` counts indexes that were not the next.

    `gaps_s` has one entry for each token but the first: 0 for those that came together with the one before.
    """

    ttft_s: float = 0.0
    tokens: int = 0
    chunks: int = 0
    wrong: int = 0
    failed: str = ""
    gaps_s: list[float] = field(default_factory=list)


Ask = Callable[[str, int], Awaitable[Seen]]
"""Asks for so many tokens and reads them all."""


class _Watch:
    """Turns the moments at which tokens came into a `Seen`."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._started_s = self._last_s = time.perf_counter()

    def tokens(self, index: int, count: int) -> None:
        """`count` tokens came, the first of them at `index`; an index of -1 is not checked."""
        now_s = time.perf_counter()
        seen = self.seen
        if seen.chunks:
            seen.gaps_s.append(now_s - self._last_s)
            seen.gaps_s.extend([0.0] * (count - 1))
        else:
            seen.ttft_s = now_s - self._started_s
        self._last_s = now_s
        seen.wrong += index not in (-1, seen.tokens)
        seen.chunks += 1
        seen.tokens += count


@asynccontextmanager
async def worker_grpc(address: str) -> AsyncIterator[Ask]:
    """Straight to one worker's Generate."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = WorkerServiceStub(channel)

        async def ask(text: str, tokens: int) -> Seen:
            watch = _Watch()
            request = worker_pb2.GenerateRequest(
                prompt=worker_pb2.Prompt(
                    conversation=worker_pb2.Conversation(messages=[chat_pb2.Message(content=text)])
                ),
                sampling=chat_pb2.Sampling(max_tokens=tokens),
            )
            async for event in stub.Generate(request):
                if event.HasField("delta"):
                    watch.tokens(event.delta.index, len(event.delta.token_ids))
            return watch.seen

        yield ask


@asynccontextmanager
async def router_grpc(address: str) -> AsyncIterator[Ask]:
    """StreamChat, at the router or through Envoy."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = RouterServiceStub(channel)

        async def ask(text: str, tokens: int) -> Seen:
            watch = _Watch()
            request = router_pb2.StreamChatRequest(
                messages=[chat_pb2.Message(content=text)], sampling=chat_pb2.Sampling(max_tokens=tokens)
            )
            try:
                async for event in stub.StreamChat(request):
                    if event.HasField("tokens"):
                        watch.tokens(event.tokens.index, len(event.tokens.token_ids))
                    elif event.HasField("failed"):
                        watch.seen.failed = event.failed.reason
            except grpc.aio.AioRpcError as error:
                watch.seen.failed = error.code().name
            return watch.seen

        yield ask


@asynccontextmanager
async def openai_sse(address: str) -> AsyncIterator[Ask]:
    """POST /v1/chat/completions, streamed, a connection for each answer.

    A bare reader of chunked lines: a whole HTTP client would cost more than what it measures. A chunk counts as one
    token, or as many as it has MARKERs.
    """
    host, port = address.rsplit(":", 1)

    async def ask(text: str, tokens: int) -> Seen:
        watch = _Watch()
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": True}
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(data)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(head.encode() + data)
            status = await reader.readline()
            if b" 200 " not in status:
                watch.seen.failed = status.decode().strip()
                return watch.seen
            while line := await reader.readline():
                if line.startswith(b'data: {"id"') and b'"delta":{"content":' in line:
                    watch.tokens(-1, max(1, line.count(MARKER.encode())))
                elif line.startswith(b'data: {"error"'):
                    watch.seen.failed = line.decode().strip()
                elif line.startswith(b"data: [DONE]"):
                    break
            return watch.seen
        finally:
            writer.close()

    yield ask
