"""Looks at the mesh during a run: its workers and queues over gRPC, and the CPU of processes on this machine."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc.aio

from loadtest.load.runner import Clock
from loadtest.machine import Used, between, tree_used
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub

if TYPE_CHECKING:
    from weft.router.v1.router_pb2_grpc import RouterServiceAsyncStub

EVERY_S = 0.5
CALL_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """The mesh at one moment. Each worker has (state, running, waiting, KV cache in use)."""

    at_s: float
    queued: int
    workers: Mapping[str, tuple[str, int, int, float]]


@dataclass(slots=True)
class Seen:
    """All that was seen during a run; CPU seconds by process name."""

    looks: list[Look] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)


class Watch:
    """Runs beside a load; `stop` ends it. A target that has no such calls shows nothing, and that is no error."""

    def __init__(
        self, address: str, clock: Clock, pids: Mapping[str, int], metadata: Sequence[tuple[str, str]]
    ) -> None:
        self._address = address
        self._clock = clock
        self._pids = pids
        self._metadata = tuple((name.lower(), value) for name, value in metadata)
        self._before: dict[str, Mapping[int, Used]] = {}
        self._task: asyncio.Task[None] | None = None
        self.seen = Seen()

    def start(self) -> None:
        """Begins to look."""
        self._before = {name: tree_used([pid]) for name, pid in self._pids.items()}
        if self._address:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> Seen:
        """What was seen."""
        self.seen.cpu_s = {
            name: between(before, tree_used([self._pids[name]])) for name, before in self._before.items()
        }
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        return self.seen

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub = RouterServiceStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    self.seen.looks.append(await self._look(stub))
                await asyncio.sleep(EVERY_S)

    async def _look(self, stub: "RouterServiceAsyncStub") -> Look:
        at_s = self._clock()
        models = await stub.ListModels(router_pb2.ListModelsRequest(), timeout=CALL_LIMIT_S, metadata=self._metadata)
        table = await stub.ListWorkers(router_pb2.ListWorkersRequest(), timeout=CALL_LIMIT_S, metadata=self._metadata)
        workers = {
            row.worker_id: (
                router_pb2.Worker.State.Name(row.state).removeprefix("STATE_").lower(),
                row.running,
                row.waiting,
                round(row.kv_usage, 4),
            )
            for row in table.workers
        }
        return Look(at_s, sum(model.queued_requests for model in models.models), workers)
