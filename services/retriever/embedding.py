"""Asks the embedders for vectors, one pool of them for each model. Batching across callers is the embedders' work."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

import grpc
import grpc.aio

from services.kit.cancellation import heed_cancellation
from services.kit.channels import dial
from services.kit.embedding.model import EmbeddingModel as ServedModel
from services.kit.embedding.pool import EmbedderPool, TextRefused
from services.kit.errors import Exhausted, NotFound, from_rpc
from services.kit.settings.shared import GrpcSettings
from services.retriever.document import EmbeddingModel
from services.retriever.failure import FailureCode, IngestFailure
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc

# Models that indexes may be made for, over the life of the process.
_MAX_MODELS = 64
_ASK_TIMEOUT_S = 5.0


class Embedders:
    """Implements the port Embedder. Use it as an async context manager. `silence_s` of silence counts as away."""

    def __init__(self, addresses: Sequence[str], settings: GrpcSettings, silence_s: float) -> None:
        self._addresses = tuple(addresses)
        self._settings = settings
        self._silence_s = silence_s
        self._pools: dict[str, EmbedderPool] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"Embedders({', '.join(self._addresses)} models={list(self._pools)})"

    async def __aenter__(self) -> Self:
        await self._open("")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def model(self, name: str = "") -> EmbeddingModel:
        """What is served under that name. Raises Unavailable, or NotFound where no embedder has it."""
        pool = await self._pool(name)
        found: ServedModel = await pool.model()
        # The default one is asked for by its name too, and needs no second pool.
        self._pools.setdefault(found.name, pool)
        return EmbeddingModel(found.name, found.fingerprint, found.dimensions)

    async def embed_query(self, text: str, model: str = "") -> bytes:
        """The vector of a text to search with."""
        return (await (await self._pool(model)).embed_query(text)).vector

    async def embed_passages(self, texts: Sequence[str], model: str = "") -> list[bytes]:
        """The vectors of texts to be found, in order."""
        try:
            found = await (await self._pool(model)).embed_passages(texts)
        except TextRefused as error:
            raise IngestFailure(FailureCode.INTERNAL, "EMBEDDING_FAILED", error.message) from error
        return [one.vector for one in found]

    async def _pool(self, name: str) -> EmbedderPool:
        if (pool := self._pools.get(name)) is not None:
            return pool
        # A pool takes a model that nobody has for one that is away, so it is asked for by name first.
        await self._find(name)
        async with self._opening:
            return self._pools.get(name) or await self._open(name)

    async def _open(self, name: str) -> EmbedderPool:
        if len(self._pools) >= _MAX_MODELS:
            raise Exhausted(f"{_MAX_MODELS} embedding models are in use, which is the limit", reason="TOO_MANY_MODELS")
        pool = EmbedderPool(self._addresses, self._settings, model=name, silence_s=self._silence_s)
        self._pools[name] = await self._stack.enter_async_context(pool)
        return pool

    async def _find(self, name: str) -> None:
        """Raises NotFound where every embedder says that it does not serve the model."""
        for refused in await asyncio.gather(*(self._refuses(address, name) for address in self._addresses)):
            if refused is None:
                return
        raise NotFound(f"no embedder serves {name}", reason="MODEL_NOT_SERVED", field="embedding_model")

    async def _refuses(self, address: str, name: str) -> NotFound | None:
        async with dial(address, self._settings) as channel:
            stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
            try:
                await stub.GetModel(embedder_pb2.GetModelRequest(model=name), timeout=_ASK_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                heed_cancellation(error)
                told = from_rpc(error)
                return told if isinstance(told, NotFound) else None
        return None
