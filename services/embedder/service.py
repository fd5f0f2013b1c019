"""The service around one model: batcher, both servicers and their server, started and drained together."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from services.embedder.batcher import Batcher
from services.embedder.limits import TextLimits
from services.embedder.metrics import EmbedderMetrics
from services.embedder.openai import SERVICE as OPENAI_SERVICE
from services.embedder.openai import EmbeddingsServicer
from services.embedder.ports import Model
from services.embedder.servicer import EmbedderServicer
from services.embedder.waiting import WaitingTexts
from services.kit.clock import monotonic_s
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from weft.embedder.v1 import embedder_pb2_grpc

SERVICE = "weft.embedder.v1.EmbedderService"


@asynccontextmanager
async def running(model: Model, settings: Settings, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Serves inside the block, with health SERVING; gives the port.

    On leaving it no new call is taken, streams answer what they have taken in, and calls under way have
    `grpc.stop_grace_s` to finish.
    """
    mine = settings.embedder
    waiting = WaitingTexts(mine.max_queued_texts, mine.max_queued_queries)
    workers = mine.threads or len(os.sched_getaffinity(0))
    batcher = Batcher(model, waiting, mine.batch_tokens, workers, EmbedderMetrics(registry), monotonic_s)
    limits = TextLimits(mine.max_texts, mine.max_text_bytes)
    servicer = EmbedderServicer(batcher, model.info, limits)
    embeddings = EmbeddingsServicer(batcher, model.info, limits)
    server = GrpcServer(f"{mine.host}:{mine.port}", [SERVICE, OPENAI_SERVICE], settings.grpc, registry)
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(servicer, server.grpc)
    server.grpc.add_generic_rpc_handlers((embeddings.handler(),))
    async with batcher:
        try:
            port = await server.start()
            await server.serving(True)
            yield port
        finally:
            servicer.stop_streams()
            await server.stop(settings.grpc.stop_grace_s)
