"""Starts the retriever: builds every object once, serves until it is told to stop, and closes what it opened."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from services.kit.admin import AdminServer
from services.kit.clock import monotonic_s
from services.kit.process import run_service
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from services.kit.settings.retriever import RetrieverSettings
from services.kit.telemetry import new_registry
from services.retriever.cross_encoder import CrossEncoder
from services.retriever.embedding import Embedders
from services.retriever.index_calls import IndexCalls
from services.retriever.ingest_start import ingesting
from services.retriever.library import IndexLibrary
from services.retriever.metrics import RetrieverMetrics
from services.retriever.parsing.pool import ParserPool
from services.retriever.ports import Store
from services.retriever.search import Search
from services.retriever.servicer import RetrieverServicer
from services.retriever.snapshots import Snapshots
from services.retriever.stores.choice import store_of
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then drains for `grpc.stop_grace_s`."""
    own = settings.retriever
    registry = new_registry()
    metrics = RetrieverMetrics(registry)
    store = store_of(settings.data_dir, own, monotonic_s, metrics.store_restarts.inc)
    parsers = ParserPool(own)
    admin = AdminServer(own.host, own.admin_port, registry, lambda: "" if store.ready else "the store is starting")
    try:
        # Processes come before gRPC, which has something to say about each one that is started beside its threads.
        if await _started(store, parsers, stop):
            await _serve_calls(settings, registry, metrics, store, parsers, admin.port, stop)
    finally:
        await parsers.close()
        await store.close()
        admin.stop()


async def _started(store: Store, parsers: ParserPool, stop: asyncio.Event) -> bool:
    """Whether everything has come up before `stop`: opening large indexes can take minutes."""
    starting: asyncio.Future[Any] = asyncio.gather(store.start(), parsers.warm())
    stopped: asyncio.Future[Any] = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return False
        await starting
        return True
    finally:
        starting.cancel()
        stopped.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)


async def _serve_calls(
    settings: Settings,
    registry: CollectorRegistry,
    metrics: RetrieverMetrics,
    store: Store,
    parsers: ParserPool,
    admin_port: int,
    stop: asyncio.Event,
) -> None:
    own = settings.retriever
    service = retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"].full_name
    async with AsyncExitStack() as stack:
        addresses = own.embedders or [own.embedder]
        embedder = await stack.enter_async_context(Embedders(addresses, settings.grpc, own.embed_timeout_s))
        reranker = await stack.enter_async_context(_reranker(own))
        library = IndexLibrary(store, embedder, own, lambda: uuid.uuid4().hex[:16])
        await library.start()
        folder = settings.data_dir / "snapshots"
        snapshots = Snapshots(folder, library, own.max_snapshots, time.time, lambda: uuid.uuid4().hex)
        await snapshots.start()
        calls = await stack.enter_async_context(
            ingesting(settings, parsers, embedder, library, metrics, monotonic_s, time.time)
        )
        search = Search(embedder, library, reranker, own, metrics, monotonic_s)
        indexes = IndexCalls(own, library, snapshots, embedder)
        server = GrpcServer(f"{own.host}:{own.port}", [service], settings.grpc, registry)
        servicer = RetrieverServicer(own, calls, indexes, search, library, monotonic_s)
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(servicer, server.grpc)
        try:
            port = await server.start()
            following = asyncio.create_task(_follow(store, server))
            structlog.get_logger("retriever").info("serving", port=port, admin_port=admin_port, store=own.store)
            await stop.wait()
            following.cancel()
        finally:
            await server.stop(settings.grpc.stop_grace_s)


@asynccontextmanager
async def _reranker(settings: RetrieverSettings) -> AsyncIterator[CrossEncoder | None]:
    if settings.reranker is None:
        yield None
        return
    found = await asyncio.to_thread(
        CrossEncoder, settings.reranker, settings.rerank_max_tokens, settings.rerank_threads
    )
    try:
        yield found
    finally:
        found.close()


async def _follow(store: Store, server: GrpcServer) -> None:
    """Health says SERVING while the store answers. An embedder that is away leaves the searches by words."""
    while True:
        await store.until(ready=True)
        await server.serving(True)
        await store.until(ready=False)
        await server.serving(False)


def main() -> int:
    """The process's exit code."""
    return run_service("retriever", serve)


if __name__ == "__main__":
    sys.exit(main())
