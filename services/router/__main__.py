"""Builds the router and runs it: `python -m services.router`."""

import asyncio
import sys

from services.kit.admin import AdminServer
from services.kit.clock import monotonic_s
from services.kit.process import run_service
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from services.kit.telemetry import new_registry
from services.router.core.table import WorkerTable
from services.router.core.worker import WorkerState
from services.router.dispatch import Dispatch
from services.router.fleet import Fleet
from services.router.metrics import RouterMetrics
from services.router.openai.servicer import OpenAIServicer
from services.router.relay import LinkRelay
from services.router.retrieval import RetrieverLink
from services.router.servicer import RouterServicer

# Envoy sends every reflection request here, so the router describes the whole mesh and not only what it serves.
from weft.embedder.v1 import embedder_pb2
from weft.openai.v1 import openai_pb2, openai_pb2_grpc
from weft.retriever.v1 import retriever_pb2
from weft.router.v1 import router_pb2, router_pb2_grpc
from weft.worker.v1 import worker_pb2

FORGET_EVERY_S = 10.0
_OWN = [module.DESCRIPTOR for module in (router_pb2, openai_pb2)]
_MESH = [module.DESCRIPTOR for module in (worker_pb2, embedder_pb2, retriever_pb2)]


def names(files: list[object]) -> list[str]:
    """Full names of the services in proto files."""
    return [service.full_name for file in files for service in file.services_by_name.values()]  # type: ignore[attr-defined] # protobuf types a file's services loosely


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Runs the router until `stop` is set."""
    own = settings.router
    registry = new_registry()
    table = WorkerTable(own.max_workers)
    fleet = Fleet(table, own, settings.grpc, monotonic_s)
    relay = LinkRelay(fleet, monotonic_s, tick_s=own.progress_every_s / 2, buffer_bytes=own.client_buffer_bytes)
    searcher = RetrieverLink(own.retriever, settings.grpc)
    dispatch = Dispatch(table, relay, searcher, own, RouterMetrics(registry, table), monotonic_s)
    server = GrpcServer(f"{own.host}:{own.port}", names(_OWN), settings.grpc, registry, described=names(_MESH))
    router_pb2_grpc.add_RouterServiceServicer_to_server(
        RouterServicer(dispatch, table, fleet, own, monotonic_s), server.grpc
    )
    openai_pb2_grpc.add_OpenAIServiceServicer_to_server(OpenAIServicer(dispatch, table, own, monotonic_s), server.grpc)

    def not_ready() -> str:
        serving = any(row.state is WorkerState.SERVING for row in list(table))
        return "" if serving else "no worker is serving"

    admin = AdminServer(own.host, own.admin_port, registry, not_ready)
    try:
        await server.start()
        await server.serving(True)
        for address in own.workers:
            fleet.announce(address.replace(":", "_"), address)
        while not stop.is_set():
            fleet.forget()
            try:
                await asyncio.wait_for(stop.wait(), FORGET_EVERY_S)
            except TimeoutError:
                continue
    finally:
        await server.stop(own.drain_limit_s)
        await fleet.close()
        await searcher.close()
        admin.stop()


def main() -> int:
    """The process's exit code."""
    return run_service("router", serve)


if __name__ == "__main__":
    sys.exit(main())
