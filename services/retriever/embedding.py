"""Asks the embedder service for vectors. Batching across callers is the embedder's work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np

from services.kit.clock import Now
from services.kit.errors import Unavailable, WeftError, from_rpc
from services.retriever.document import EmbeddingModel
from services.retriever.failure import FailureCode, IngestFailure
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc

_RETRY_DELAY_S = 1.0
# How long an answer to GetModel is believed while no call fails; an embedder that restarts breaks its calls.
_MODEL_TTL_S = 5.0
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)


class EmbedderClient:
    """Implements the port Embedder over `channel`, whose owner closes it. `timeout_s` of silence counts as away."""

    def __init__(self, channel: grpc.aio.Channel, address: str, timeout_s: float, now: Now) -> None:
        self._stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        self._address = address
        self._timeout_s = timeout_s
        self._now = now
        self._models: dict[str, tuple[float, EmbeddingModel]] = {}

    def __repr__(self) -> str:
        return f"EmbedderClient({self._address})"

    async def model(self, name: str = "") -> EmbeddingModel:
        """What the embedder serves under that name, asked anew every few seconds."""
        known = self._models.get(name)
        if known and self._now() - known[0] < _MODEL_TTL_S:
            return known[1]
        with self._errors():
            found = await self._stub.GetModel(embedder_pb2.GetModelRequest(model=name), timeout=self._timeout_s)
        model = EmbeddingModel(found.model, found.fingerprint, found.dimensions)
        self._models[name] = (self._now(), model)
        return model

    async def embed_query(self, text: str, model: str = "") -> bytes:
        """The vector of a text to search with."""
        request = embedder_pb2.EmbedRequest(model=model, texts=[text], purpose=embedder_pb2.PURPOSE_QUERY)
        with self._errors():
            response = await self._stub.Embed(request, timeout=self._timeout_s)
        return _vector(response.embeddings[0])

    async def embed_passages(self, texts: Sequence[str], model: str = "") -> list[bytes]:
        """The vectors of texts to be found, in order."""
        vectors: dict[int, bytes] = {}
        with self._errors():
            call: Any = self._stub.StreamEmbed(_passages(texts, model))
            try:
                while len(vectors) < len(texts):
                    async with asyncio.timeout(self._timeout_s):
                        response = await call.read()
                    if response is grpc.aio.EOF:
                        raise await self._ended_early(call)
                    if response.WhichOneof("result") == "error":
                        raise IngestFailure(FailureCode.INTERNAL, "EMBEDDING_FAILED", response.error)
                    vectors[response.index] = _vector(response.embedding)
            except TimeoutError:
                raise self._away(f"it has been silent for {self._timeout_s:g} s") from None
            finally:
                call.cancel()
        return [vectors[index] for index in range(len(texts))]

    async def _ended_early(self, call: Any) -> WeftError:
        code, details = await call.code(), await call.details()
        return self._away(f"its stream ended early with {code.name}: {details}")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns a call's status into this service's own error."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            self._models.clear()
            raise self._away(error.details() or "") if error.code() in _AWAY else from_rpc(error) from error

    def _away(self, why: str) -> Unavailable:
        self._models.clear()
        return Unavailable(
            f"the embedder at {self._address} is away ({why}); try again when it is back",
            reason="EMBEDDER_AWAY",
            retry_delay_s=_RETRY_DELAY_S,
        )


async def _passages(texts: Sequence[str], model: str) -> AsyncIterator[embedder_pb2.StreamEmbedRequest]:
    for index, text in enumerate(texts):
        yield embedder_pb2.StreamEmbedRequest(index=index, text=text, purpose=embedder_pb2.PURPOSE_PASSAGE, model=model)


def _vector(embedding: embedder_pb2.Embedding) -> bytes:
    return np.asarray(embedding.values, "<f4").tobytes()
