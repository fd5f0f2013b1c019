"""Builds the router and runs it: `python -m services.router`."""

import asyncio
import random
import sys
from collections.abc import Callable
from typing import Any

from services.kit.admin import AdminServer
from services.kit.clock import monotonic_s
from services.kit.lane.call import Call
from services.kit.lane.server import LaneServer
from services.kit.process import run_service
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from services.kit.telemetry import new_registry
from services.router.core.admit import QueueLimits
from services.router.core.breaker import BreakerLimits
from services.router.core.budget import RetryBudget
from services.router.core.health import PulseLimits
from services.router.core.placer import Placer
from services.router.core.policies import Weights
from services.router.core.table import WorkerTable
from services.router.core.worker import WorkerState
from services.router.dispatch import Dispatch
from services.router.drains import Drains
from services.router.fleet import Fleet
from services.router.metrics import RouterMetrics
from services.router.monitor import Monitor
from services.router.openai.servicer import OpenAIServicer
from services.router.outlet import AioOutlet, Outlet
from services.router.placing import Placing
from services.router.relay import LinkRelay
from services.router.retrieval import RetrieverLink
from services.router.seating import Seating
from services.router.servicer import RouterServicer
from services.router.sourcing import Sourcing
from services.router.waiting import WaitingRoom
from services.router.watchers import Watchers

# Envoy sends every reflection request here, so the router describes the whole mesh and not only what it serves.
from weft.embedder.v1 import embedder_pb2
from weft.openai.v1 import openai_pb2, openai_pb2_grpc
from weft.retriever.v1 import retriever_pb2
from weft.router.v1 import router_pb2, router_pb2_grpc
from weft.worker.v1 import worker_pb2

FORGET_EVERY_S = 10.0
_OWN = [module.DESCRIPTOR for module in (router_pb2, openai_pb2)]
_ANSWERS = (
    "/weft.router.v1.RouterService/StreamChat",
    "/weft.openai.v1.OpenAIService/CreateChatCompletion",
    "/weft.openai.v1.OpenAIService/CreateCompletion",
)
"""What the lane serves; Envoy's configuration names the same paths."""
_MESH = [module.DESCRIPTOR for module in (worker_pb2, embedder_pb2, retriever_pb2)]


def names(files: list[object]) -> list[str]:
    """Full names of the services in proto files."""
    return [service.full_name for file in files for service in file.services_by_name.values()]  # type: ignore[attr-defined] # protobuf types a file's services loosely


def as_it_is(call: Call) -> Outlet:
    """A call on the lane is an outlet itself."""
    return call


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Runs the router until `stop` is set."""
    own, failover = settings.router, settings.router.failover
    registry = new_registry()
    table = WorkerTable(own.max_workers, own.placing.prefix_blocks_per_worker, own.queue.in_worker)
    metrics = RouterMetrics(registry, table)
    monitor = Monitor(
        table,
        PulseLimits(failover.silent_s, failover.stall_s, failover.probe_s),
        BreakerLimits(failover.breaker_failures, failover.breaker_open_s, failover.breaker_longest_s),
        monotonic_s,
    )
    room = WaitingRoom(QueueLimits(own.queue.requests, own.queue.tokens, own.queue.wait_s), monotonic_s)
    watchers = Watchers(table, monitor, room)
    fleet = Fleet(table, own, settings.grpc, watchers, monotonic_s)
    drains = Drains(table, fleet, failover.worker_drain_limit_s)
    # Placing is no secret: whoever could foretell it would learn nothing of use.
    placer = Placer(table, own.policy, Weights(**own.placing.model_dump()), random.Random())  # noqa: S311
    placing = Placing(table, placer, monitor, room, own, metrics, monotonic_s)
    searcher = RetrieverLink(own.retriever, settings.grpc)
    dispatch = Dispatch(
        table,
        placing,
        Seating(placing, room, own, monotonic_s),
        LinkRelay(fleet, monotonic_s, tick_s=own.progress_every_s / 2, buffer_bytes=own.client_buffer_bytes),
        Sourcing(searcher, placing, own, monotonic_s),
        room,
        RetryBudget(failover.retry_share, failover.retry_per_s, failover.retry_window_s),
        RetryBudget(failover.hedge_share, failover.hedge_per_s, failover.retry_window_s),
        own,
        metrics,
        monotonic_s,
    )
    server = GrpcServer(f"{own.host}:{own.port}", names(_OWN), settings.grpc, registry, described=names(_MESH))
    lane = LaneServer(own.host, own.lane_port, _ANSWERS, settings.grpc, server.edge)

    def serve_on(registrar: Any, outlet: Callable[[Any], Outlet]) -> RouterServicer:
        router = RouterServicer(dispatch, table, fleet, drains, room, own, monotonic_s, outlet)
        router_pb2_grpc.add_RouterServiceServicer_to_server(router, registrar)
        openai = OpenAIServicer(dispatch, table, own, monotonic_s, outlet)
        openai_pb2_grpc.add_OpenAIServiceServicer_to_server(openai, registrar)
        return router

    servicer = serve_on(server.grpc, AioOutlet)
    serve_on(lane.grpc, as_it_is)

    def not_ready() -> str:
        serving = any(row.state is WorkerState.SERVING for row in table.snapshot())
        return "" if serving else "no worker is serving"

    admin = AdminServer(own.host, own.admin_port, registry, not_ready)
    watching = asyncio.create_task(watchers.run(failover.check_every_s), name="watchers")
    try:
        await server.start()
        if own.lane:
            await lane.start()
        await server.serving(True)
        while not stop.is_set():
            for address in own.workers:
                fleet.listed(address)
            fleet.forget()
            try:
                async with asyncio.timeout(FORGET_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue
    finally:
        servicer.stop()
        await asyncio.gather(server.stop(own.drain_limit_s), lane.stop(own.drain_limit_s))
        watching.cancel()
        drains.close()
        await fleet.close()
        await searcher.close()
        admin.stop()


def main() -> int:
    """The process's exit code."""
    return run_service("router", serve)


if __name__ == "__main__":
    sys.exit(main())
