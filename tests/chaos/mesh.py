"""A router and its workers as real processes on free ports of this machine."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from services.kit.channels import dial
from services.kit.settings.shared import GrpcSettings
from tests.chaos.process import Process
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub

LIVE_LIMIT_S = 30.0
"""No wait of a scenario is longer: a bound on being alive, far from what is measured."""
LOOK_EVERY_S = 0.005
LOG_TAIL = 3000
SERVING = router_pb2.Worker.STATE_SERVING

Table = Sequence[router_pb2.Worker]


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True)
class Plan:
    """One worker: its id, its settings, where routers are told to dial it (empty: its own port), and its module."""

    worker_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    advertise: str = ""
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    module: str = "services.worker"
    python: str = sys.executable


def sim(worker_id: str, *, ttft_ms: float = 20, itl_ms: float = 20, **settings: Any) -> Plan:
    """A worker with the sim engine."""
    return Plan(worker_id, {"engine": "sim", "sim": {"ttft_ms": ttft_ms, "itl_ms": itl_ms}, **settings})


class Mesh:
    """The processes, and a stub for the router. Use `mesh` below, which starts and ends them."""

    def __init__(self, folder: Path, plans: Sequence[Plan], router: Mapping[str, Any]) -> None:
        self.port, self.lane_port, self.admin_port = free_port(), free_port(), free_port()
        ports = {"port": self.port, "lane_port": self.lane_port, "admin_port": self.admin_port}
        own = {**ports, "retriever": "", **router}
        self.router = Process("router", "services.router", {"router": own}, folder / "router.log")
        self.plans = {plan.worker_id: plan for plan in plans}
        self.workers = {plan.worker_id: self._worker(plan, folder) for plan in plans}
        # One connection alone: what another test does with its own is not shared.
        self.channel = dial(f"127.0.0.1:{self.port}", GrpcSettings(), own_connection=True)
        self.stub = RouterServiceStub(self.channel)

    def _worker(self, plan: Plan, folder: Path) -> Process:
        own = {
            "worker_id": plan.worker_id,
            "port": plan.port,
            "admin_port": plan.admin_port,
            "advertise": plan.advertise,
            "routers": [f"127.0.0.1:{self.port}"],
            **plan.settings,
        }
        log = folder / f"{plan.worker_id}.log"
        return Process(plan.worker_id, plan.module, {"worker": own}, log, plan.python)

    async def table(self, suits: Callable[[Table], bool], limit_s: float = LIVE_LIMIT_S) -> Table:
        """Waits for a worker table that suits, over restarts of the router."""
        seen: Table = ()
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    watch: Any = self.stub.WatchWorkers(router_pb2.WatchWorkersRequest(), wait_for_ready=True)
                    try:
                        while (message := await watch.read()) is not grpc.aio.EOF:
                            seen = list(message.workers)
                            if suits(seen):
                                return seen
                    except grpc.aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.UNAVAILABLE:
                            raise
                    finally:
                        watch.cancel()
        except TimeoutError:
            raise AssertionError(f"the table never became so; the last one:\n{seen}") from None

    async def state(self, worker_id: str, *states: int) -> router_pb2.Worker:
        """Waits until the worker is in one of these states."""

        def found(table: Table) -> list[router_pb2.Worker]:
            return [row for row in table if row.worker_id == worker_id and row.state in states]

        return found(await self.table(lambda table: bool(found(table))))[0]

    async def serving(self, *worker_ids: str, limit_s: float = LIVE_LIMIT_S) -> None:
        """Waits until these workers, all by default, take requests."""
        wanted = set(worker_ids or self.workers)
        await self.table(lambda table: wanted <= {row.worker_id for row in table if row.state == SERVING}, limit_s)

    async def idle(self) -> None:
        """Waits until no worker runs, holds or is held for any answer, and nobody waits in the router."""
        await self.table(lambda table: not any(row.in_flight + row.running + row.waiting for row in table))
        models = await self.stub.ListModels(router_pb2.ListModelsRequest())
        assert not any(model.queued_requests + model.queued_tokens for model in models.models), models

    async def engine_idle(self, *worker_ids: str) -> None:
        """Waits until these engines themselves say that they have nothing to do."""
        async with asyncio.timeout(LIVE_LIMIT_S):
            for worker_id in worker_ids:
                while await self._busy(worker_id):
                    await asyncio.sleep(LOOK_EVERY_S)

    async def _busy(self, worker_id: str) -> bool:
        found = await scrape(self.plans[worker_id].admin_port)
        return bool(found["weft_worker_running"] + found["weft_worker_waiting"])

    async def no_calls(self) -> None:
        """Waits until the router's metrics say that no answer is under way."""
        name = 'weft_rpc_open{method="/weft.router.v1.RouterService/StreamChat"}'
        async with asyncio.timeout(LIVE_LIMIT_S):
            while (await scrape(self.admin_port)).get(name, 0.0):
                await asyncio.sleep(LOOK_EVERY_S)

    async def restart(self, worker_id: str) -> None:
        """Starts a worker that has ended, and waits until it serves as a new process."""
        before = {row.incarnation for row in await self.table(bool)}
        await self.workers[worker_id].start()
        await self.table(
            lambda table: any(
                row.worker_id == worker_id and row.state == SERVING and row.incarnation not in before for row in table
            )
        )


async def scrape(admin_port: int) -> dict[str, float]:
    """A service's metrics now, by name and labels."""
    reader, writer = await asyncio.open_connection("127.0.0.1", admin_port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2].decode()
    finally:
        writer.close()
        await writer.wait_closed()
    lines = [line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@asynccontextmanager
async def mesh(
    folder: Path,
    *plans: Plan,
    router: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    ready_limit_s: float = LIVE_LIMIT_S,
) -> AsyncIterator[Mesh]:
    """A mesh whose workers all serve; every process has ended when the block is left.

    An error in the block gets what the processes said, and `notes`, such as a seed.
    """
    found = Mesh(folder, plans, router or {})
    processes = [found.router, *found.workers.values()]
    try:
        for process in processes:
            await process.start()
        await found.serving(limit_s=ready_limit_s)
        yield found
    except BaseException as error:
        error.add_note("; ".join(notes))
        for process in processes:
            error.add_note(f"--- {process.name}\n{process.log[-LOG_TAIL:]}")
        raise
    finally:
        await found.channel.close()
        for process in processes:
            await process.close()
