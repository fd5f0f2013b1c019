"""An embedder on a real socket: vectors of hashed words, so that texts that share words are near to each other."""

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio

from weft.embedder.v1 import embedder_pb2 as pb
from weft.embedder.v1 import embedder_pb2_grpc

DIMENSIONS = 64


def vector_of(text: str) -> list[float]:
    """A vector of length 1, the same for the same words."""
    values = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()) or ["?"]:
        digest = hashlib.sha256(word.encode()).digest()
        values[digest[0] % DIMENSIONS] += 1.0 if digest[1] % 2 else -1.0
    norm = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / norm if norm else 0.0 for value in values]


class FakeEmbedder(embedder_pb2_grpc.EmbedderServiceServicer):
    """Counts what it embeds, and serves a model of any name.

    While `gate` is not set, passages wait; `waiting` tells that one does.
    """

    def __init__(self, fingerprint: str = "fake-1") -> None:
        self.fingerprint = fingerprint
        self.texts: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self.address = ""
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> str:
        """Listens, and returns the address."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        await self._server.start()
        return self.address

    async def stop(self) -> None:
        """Ends at once, and every call with it."""
        if self._server:
            await self._server.stop(None)
            self._server = None

    async def Embed(self, request: pb.EmbedRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.EmbedResponse:
        return pb.EmbedResponse(model="fake", embeddings=self._embed(request.texts))

    async def StreamEmbed(
        self, request_iterator: AsyncIterator[pb.StreamEmbedRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.StreamEmbedResponse]:
        async for request in request_iterator:
            if not self.gate.is_set():
                self.waiting.set()
                await self.gate.wait()
            self.texts.append(request.text)
            (embedding,) = self._embed([request.text])
            yield pb.StreamEmbedResponse(index=request.index, embedding=embedding)

    async def GetModel(
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetModelResponse:
        name = request.model or "fake"
        fingerprint = self.fingerprint if name == "fake" else f"{self.fingerprint} {name}"
        return pb.GetModelResponse(
            model=name, dimensions=DIMENSIONS, max_tokens=256, fingerprint=fingerprint, runtime="hashed words"
        )

    async def WatchLoad(
        self, request: pb.WatchLoadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchLoadResponse]:
        while True:
            yield pb.WatchLoadResponse()
            await asyncio.sleep(0.2)

    def _embed(self, texts: Iterable[str]) -> list[pb.Embedding]:
        return [pb.Embedding(values=vector_of(text), tokens=len(text.split())) for text in texts]
