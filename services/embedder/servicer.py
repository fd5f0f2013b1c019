"""EmbedderService: checks each call, hands its texts to the batcher, and answers. Decides nothing about batches."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from services.embedder.batcher import stopping
from services.embedder.catalogue import Catalogue
from services.embedder.convert import is_query, to_embedding, to_load, to_model
from services.embedder.limits import TextLimits
from services.embedder.stream import EmbedStream
from services.kit.clock import Now
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """One object for the whole process."""

    def __init__(self, catalogue: Catalogue, limits: TextLimits, now: Now) -> None:
        self._catalogue = catalogue
        self._now = now
        self._limits = limits
        self._streams: set[EmbedStream] = set()

    async def Embed(self, request: embedder_pb2.EmbedRequest, context: Context) -> embedder_pb2.EmbedResponse:
        """See embedder.proto."""
        batcher = self._catalogue.find(request.model)
        query = is_query(request.purpose)
        texts = list(request.texts)
        self._limits.check_all(texts, "texts")
        found = await batcher.embed(texts, query=query, deadline_s=deadline_s(context, self._now))
        return embedder_pb2.EmbedResponse(model=batcher.model.info.name, embeddings=map(to_embedding, found))

    async def StreamEmbed(  # type: ignore[override] # it writes to the context, so that its cleanup runs when it ends
        self, request_iterator: AsyncIterator[embedder_pb2.StreamEmbedRequest], context: Context
    ) -> None:
        """See embedder.proto."""
        stream = EmbedStream(self._catalogue, self._limits, deadline_s(context, self._now))
        self._streams.add(stream)
        try:
            await stream.run(request_iterator, context.write)
        finally:
            self._streams.discard(stream)

    async def GetModel(self, request: embedder_pb2.GetModelRequest, context: Context) -> embedder_pb2.GetModelResponse:
        """See embedder.proto."""
        return to_model(self._catalogue.find(request.model).model.info)

    async def ListModels(
        self, request: embedder_pb2.ListModelsRequest, context: Context
    ) -> embedder_pb2.ListModelsResponse:
        """See embedder.proto."""
        return embedder_pb2.ListModelsResponse(models=[to_model(info) for info in self._catalogue.infos])

    async def WatchLoad(
        self, request: embedder_pb2.WatchLoadRequest, context: Context
    ) -> AsyncIterator[embedder_pb2.WatchLoadResponse]:
        """See embedder.proto."""
        async with aclosing(self._catalogue.load.watch()) as readings:
            async for reading in readings:
                yield to_load(reading)

    def stop_streams(self) -> None:
        """Lets every stream answer what it has taken in and end with UNAVAILABLE."""
        self._catalogue.drain()
        for stream in self._streams:
            stream.stop(stopping())


def deadline_s(context: Context, now: Now) -> float | None:
    """When the caller stops waiting, on the clock `now`; None where it set no deadline."""
    left_s = context.time_remaining()
    return None if left_s is None else now() + left_s
