"""EmbedderService: checks each call, hands its texts to the batcher, and answers. Decides nothing about batches."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from services.embedder.batcher import Batcher, stopping
from services.embedder.convert import is_query, to_embedding, to_load, to_model
from services.embedder.limits import TextLimits, check_model
from services.embedder.ports import ModelInfo
from services.embedder.stream import EmbedStream
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """One object for the whole process."""

    def __init__(self, batcher: Batcher, info: ModelInfo, limits: TextLimits) -> None:
        self._batcher = batcher
        self._info = info
        self._limits = limits
        self._streams: set[EmbedStream] = set()

    async def Embed(self, request: embedder_pb2.EmbedRequest, context: Context) -> embedder_pb2.EmbedResponse:
        """See embedder.proto."""
        check_model(request.model, self._info)
        query = is_query(request.purpose)
        texts = list(request.texts)
        self._limits.check_all(texts, "texts")
        found = await self._batcher.embed(texts, query=query)
        return embedder_pb2.EmbedResponse(model=self._info.name, embeddings=map(to_embedding, found))

    async def StreamEmbed(  # type: ignore[override] # it writes to the context, so that its cleanup runs when it ends
        self, request_iterator: AsyncIterator[embedder_pb2.StreamEmbedRequest], context: Context
    ) -> None:
        """See embedder.proto."""
        stream = EmbedStream(self._batcher, self._info, self._limits)
        self._streams.add(stream)
        try:
            await stream.run(request_iterator, context.write)
        finally:
            self._streams.discard(stream)

    async def GetModel(self, request: embedder_pb2.GetModelRequest, context: Context) -> embedder_pb2.GetModelResponse:
        """See embedder.proto."""
        check_model(request.model, self._info)
        return to_model(self._info)

    async def ListModels(
        self, request: embedder_pb2.ListModelsRequest, context: Context
    ) -> embedder_pb2.ListModelsResponse:
        """See embedder.proto."""
        return embedder_pb2.ListModelsResponse(models=[to_model(self._info)])

    async def WatchLoad(
        self, request: embedder_pb2.WatchLoadRequest, context: Context
    ) -> AsyncIterator[embedder_pb2.WatchLoadResponse]:
        """See embedder.proto."""
        async with aclosing(self._batcher.load.watch()) as readings:
            async for reading in readings:
                yield to_load(reading)

    def stop_streams(self) -> None:
        """Lets every stream answer what it has taken in and end with UNAVAILABLE."""
        for stream in self._streams:
            stream.stop(stopping())
