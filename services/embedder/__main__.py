"""The embedder's process: loads the model, builds every object once, serves, and drains when it is told to stop."""

import asyncio
import os
import sys

import structlog
from prometheus_client import CollectorRegistry
from weft.embedder.v1 import embedder_pb2_grpc

from services.embedder.batcher import Batcher
from services.embedder.limits import TextLimits
from services.embedder.metrics import EmbedderMetrics
from services.embedder.models.minilm.load import load_minilm
from services.embedder.openai import SERVICE as OPENAI_SERVICE
from services.embedder.openai import EmbeddingsServicer
from services.embedder.ports import Model
from services.embedder.servicer import EmbedderServicer
from services.embedder.waiting import WaitingTexts
from services.kit.admin import AdminServer
from services.kit.clock import monotonic_s
from services.kit.process import run_service
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from services.kit.telemetry import new_registry

_SERVICE = "weft.embedder.v1.EmbedderService"


class Readiness:
    """Why the service is not ready; empty once it is."""

    def __init__(self) -> None:
        self.reason = "the model is being loaded; the first start builds its file"

    def __call__(self) -> str:
        return self.reason


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop`, then lets what was taken in finish."""
    mine = settings.embedder
    registry = new_registry()
    readiness = Readiness()
    admin = AdminServer(mine.host, mine.admin_port, registry, readiness)
    try:
        model = await _load(settings, stop)
        if model is not None:
            await _serve_model(model, settings, registry, readiness, admin.port, stop)
    finally:
        admin.stop()


async def _load(settings: Settings, stop: asyncio.Event) -> Model | None:
    """The model, or None where the process is told to stop first."""
    loading = asyncio.create_task(load_minilm(settings.data_dir))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([loading, stopped], return_when=asyncio.FIRST_COMPLETED)
        return loading.result() if loading.done() else None
    finally:
        loading.cancel()
        stopped.cancel()
        await asyncio.gather(loading, stopped, return_exceptions=True)


async def _serve_model(
    model: Model,
    settings: Settings,
    registry: CollectorRegistry,
    readiness: Readiness,
    admin_port: int,
    stop: asyncio.Event,
) -> None:
    mine = settings.embedder
    waiting = WaitingTexts(mine.max_queued_texts, mine.max_queued_queries)
    workers = mine.threads or len(os.sched_getaffinity(0))
    batcher = Batcher(model, waiting, mine.batch_tokens, workers, EmbedderMetrics(registry), monotonic_s)
    limits = TextLimits(mine.max_texts, mine.max_text_bytes)
    servicer = EmbedderServicer(batcher, model.info, limits)
    server = GrpcServer(f"{mine.host}:{mine.port}", [_SERVICE, OPENAI_SERVICE], settings.grpc, registry)
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(servicer, server.grpc)
    server.grpc.add_generic_rpc_handlers((EmbeddingsServicer(batcher, model.info, limits).handler(),))
    async with batcher:
        try:
            port = await server.start()
            await server.serving(True)
            readiness.reason = ""
            structlog.get_logger("embedder").info(
                "serving", address=f"{mine.host}:{port}", port=port, admin_port=admin_port, workers=workers
            )
            await stop.wait()
            readiness.reason = "this embedder is stopping"
            await server.serving(False)
            servicer.stop_streams()
        finally:
            await server.stop(settings.grpc.stop_grace_s)


def main() -> int:
    """The process's exit code."""
    return run_service("embedder", serve)


if __name__ == "__main__":
    sys.exit(main())
