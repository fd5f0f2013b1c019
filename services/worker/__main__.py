"""The worker's process: builds each object once, announces itself, and drains when it is told to stop."""

import asyncio
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any

import structlog

from services.kit.admin import AdminServer
from services.kit.clock import monotonic_s
from services.kit.errors import WeftError
from services.kit.process import run_service
from services.kit.server import GrpcServer
from services.kit.settings import Settings
from services.kit.settings.worker import WorkerSettings
from services.kit.telemetry import new_registry
from services.worker.board import Board
from services.worker.convert import from_about
from services.worker.desk import Desk, DeskLimits
from services.worker.engines.reader.engine import open_reader
from services.worker.engines.sim.engine import SimEngine, open_sim
from services.worker.engines.sim.servicer import sim_servicer
from services.worker.metrics import WorkerMetrics
from services.worker.ports import Engine, Sink
from services.worker.registration import Registration
from services.worker.servicer import WorkerServicer
from weft.sim.v1 import sim_pb2, sim_pb2_grpc
from weft.worker.v1 import worker_pb2, worker_pb2_grpc

# Time that a closed link's last messages have to reach its router.
CLOSE_LIMIT_S = 1.0


class NoAddress(WeftError):
    """Routers could not dial this worker."""

    reason_default = "NO_ADDRESS"


OpenEngine = Callable[[WorkerSettings, Sink], AbstractAsyncContextManager[Engine]]


def open_engine(settings: WorkerSettings, sink: Sink) -> AbstractAsyncContextManager[Engine]:
    """The engine that the settings name."""
    if settings.engine == "sim":
        return open_sim(settings, sink)
    if settings.engine == "llamacpp":
        # Only here, since a worker without a model needs none of llama.cpp in its memory.
        from services.worker.engines.llamacpp.load import open_llamacpp

        return open_llamacpp(settings, sink)
    if settings.engine == "vllm":
        from services.worker.engines.vllm.load import open_vllm

        return open_vllm(settings, sink)
    if settings.engine == "triton":
        from services.worker.engines.triton.load import open_triton

        return open_triton(settings, sink)
    if settings.engine == "openai":
        from services.worker.engines.openai.load import open_openai

        return open_openai(settings, sink)
    return open_reader(settings, sink)


def advertised(settings: WorkerSettings, port: int) -> str:
    """host:port that routers dial; a port of 0 becomes the one that was given. Raises NoAddress."""
    if settings.advertise:
        host, _, wanted = settings.advertise.rpartition(":")
        if not host or not wanted.isdecimal():
            raise NoAddress(f"worker.advertise is {settings.advertise!r} and has to be host:port")
        return f"{host}:{int(wanted) or port}"
    if settings.host in ("0.0.0.0", "::", "[::]"):  # noqa: S104 - compared with, not bound to
        raise NoAddress(
            f"worker.host is {settings.host}, and no router can dial that: set worker.advertise to host:port"
        )
    host = f"[{settings.host}]" if ":" in settings.host and not settings.host.startswith("[") else settings.host
    return f"{host}:{port}"


async def serve(settings: Settings, stop: asyncio.Event, open_with: OpenEngine = open_engine) -> None:
    """Serves the engine that `open_with` opens until `stop`, then drains; a stop before it is open ends it at once."""
    mine = settings.worker
    advertised(mine, mine.port)
    registry = new_registry()
    metrics = WorkerMetrics(registry)
    board = Board(metrics, monotonic_s)
    async with AsyncExitStack() as stack:
        engine = await _opened(open_with(mine, board.deliver), stack, stop)
        if engine is None:
            return
        limits = DeskLimits(mine.max_waiting, mine.link_queue_limit, mine.load_every_s)
        desk = Desk(engine, board, limits, metrics, monotonic_s)
        hello = from_about(
            engine.about,
            worker_id=mine.worker_id,
            incarnation=secrets.token_hex(8),
            max_waiting=mine.max_waiting,
        )
        services = [worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name]
        if isinstance(engine, SimEngine):
            services.append(sim_pb2.DESCRIPTOR.services_by_name["SimService"].full_name)
        server = GrpcServer(f"{mine.host}:{mine.port}", services, settings.grpc, registry)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(desk, hello), server.grpc)
        if isinstance(engine, SimEngine):
            sim_pb2_grpc.add_SimServiceServicer_to_server(sim_servicer(engine), server.grpc)
        admin = AdminServer(mine.host, mine.admin_port, registry, lambda: desk.not_ready)
        try:
            await _serve(settings, server, desk, admin.port, stop)
        finally:
            admin.stop()


async def _opened(
    opening: AbstractAsyncContextManager[Engine], stack: AsyncExitStack, stop: asyncio.Event
) -> Engine | None:
    """The engine, which `stack` closes; None where `stop` came first: loading takes minutes, and is cut short then."""
    entering = asyncio.create_task(stack.enter_async_context(opening))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([entering, stopped], return_when=asyncio.FIRST_COMPLETED)
        if entering.done():
            return entering.result()
    finally:
        await _cancel([stopped])
        entering.cancel()
        await asyncio.wait([entering])
    if not entering.cancelled() and (error := entering.exception()) is not None:
        structlog.get_logger("worker").warning("stopped while the engine was opened", why=str(error))
    return None


async def _serve(settings: Settings, server: GrpcServer, desk: Desk, admin_port: int, stop: asyncio.Event) -> None:
    mine = settings.worker
    tasks = [asyncio.create_task(desk.run())]
    registrations: list[asyncio.Task[None]] = []
    try:
        port = await server.start()
        await server.serving(not desk.not_ready)
        following = asyncio.create_task(desk.follow(server.serving))
        tasks.append(following)
        address = advertised(mine, port)
        structlog.get_logger("worker").info(
            "serving",
            address=address,
            port=port,
            admin_port=admin_port,
            engine=desk.about.engine,
            model=desk.about.model,
        )
        registrations += [
            asyncio.create_task(Registration(router, mine.worker_id, address, settings.grpc).run())
            for router in mine.routers
        ]
        await _first(stop, [*tasks, *registrations])
        await _cancel([*registrations, following])
        await server.serving(False)
        await desk.finish(mine.drain_limit_s)
    finally:
        await server.stop(CLOSE_LIMIT_S)
        await _cancel([*registrations, *tasks])


async def _first(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Waits for `stop`; a task that fails before it ends the process with its error."""
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _cancel([stopped])


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def main() -> int:
    """The process's exit code."""
    return run_service("worker", serve)


if __name__ == "__main__":
    sys.exit(main())
