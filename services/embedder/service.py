"""The service around its models: batchers, both servicers and their server, started and drained together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from prometheus_client import CollectorRegistry

from services.embedder.batcher import Batcher
from services.embedder.cache import VectorCache
from services.embedder.catalogue import Catalogue
from services.embedder.limits import TextLimits
from services.embedder.metrics import EmbedderMetrics
from services.embedder.openai import SERVICE as OPENAI_SERVICE
from services.embedder.openai import EmbeddingsServicer
from services.embedder.ports import Model
from services.embedder.servicer import EmbedderServicer
from services.embedder.vigil import Vigil
from services.embedder.waiting import WaitingTexts
from services.kit.clock import monotonic_s
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from weft.embedder.v1 import embedder_pb2_grpc

SERVICE = "weft.embedder.v1.EmbedderService"


@asynccontextmanager
async def running(
    models: Sequence[Model],
    settings: Settings,
    registry: CollectorRegistry,
    metrics: EmbedderMetrics,
    vigil: Vigil,
) -> AsyncIterator[int]:
    """Serves inside the block; gives the port. The first model is the default. Health is SERVING while one can work.

    On leaving it no new call is taken, streams answer what they have taken in, and calls under way have
    `grpc.stop_grace_s` to finish. The models are their owner's to close.
    """
    mine = settings.embedder
    cache = VectorCache(mine.cache_bytes, metrics)
    catalogue = Catalogue()
    limits = TextLimits(mine.max_texts, mine.max_text_bytes)
    servicer = EmbedderServicer(catalogue, limits, monotonic_s)
    embeddings = EmbeddingsServicer(catalogue, limits, monotonic_s)
    server = GrpcServer(f"{mine.host}:{mine.port}", [SERVICE, OPENAI_SERVICE], settings.grpc, registry)
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(servicer, server.grpc)
    server.grpc.add_generic_rpc_handlers((embeddings.handler(),))
    async with AsyncExitStack() as batchers:
        for model in models:
            waiting = WaitingTexts(mine.max_queued_texts, mine.max_queued_queries)
            batcher = Batcher(model, waiting, cache, metrics, monotonic_s, catalogue.load.changed)
            catalogue.add(await batchers.enter_async_context(batcher))
        try:
            port = await server.start()
            await server.serving(True)
            async with _kept(vigil, server):
                yield port
        finally:
            servicer.stop_streams()
            await server.stop(settings.grpc.stop_grace_s)


@asynccontextmanager
async def _kept(vigil: Vigil, server: GrpcServer) -> AsyncIterator[None]:
    """Health follows the vigil inside the block."""
    task = asyncio.create_task(vigil.keep(server.serving), name="vigil")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
