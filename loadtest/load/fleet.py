"""Workers of a chaos run: real processes behind proxies, so that links can be cut, started again when they died."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio

from loadtest.load.faults import Fault, What
from loadtest.load.proxy import Proxy
from loadtest.load.results import Happening
from loadtest.load.runner import Clock
from loadtest.machine import free_port
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub
from weft.sim.v1 import sim_pb2
from weft.sim.v1.sim_pb2_grpc import SimServiceStub

READY_LIMIT_S = 180.0
STOP_LIMIT_S = 10.0
LOOK_S = 0.05
CALL_LIMIT_S = 5.0


class FleetFailed(RuntimeError):
    """The workers did not become ready; the message has what one of them said."""


class Member:
    """One worker: its process, the proxy that routers dial, and its port behind it."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.port = free_port()
        self.proxy = Proxy(self.port)
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts the process; `proxy` has to be open."""
        own = {
            "WEFT_WORKER__WORKER_ID": self.name,
            "WEFT_WORKER__PORT": str(self.port),
            "WEFT_WORKER__ADMIN_PORT": "0",
            "WEFT_WORKER__ADVERTISE": self.proxy.address,
        }
        with self._log.open("ab") as log:
            # It ends with this process, however that ends; Ctrl-C is for the run, which stops its workers last.
            variables = {**os.environ, **self._environment, **own, "WEFT_SUPERVISED": str(os.getpid())}
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.worker",
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id; 0 where it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text()[-2000:] if self._log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, where it runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def ended(self) -> None:
        """Returns once the process is gone."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """Ends it, however it is."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self.ended()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.ended()


class Fleet:
    """Does faults to its members. A worker that was killed or drained comes back after `restart_s`."""

    def __init__(self, members: Sequence[Member], target: str, restart_s: float) -> None:
        self._members = {member.name: member for member in members}
        self._target = target
        self._restart_s = restart_s

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name, of those that run now."""
        return {name: member.pid for name, member in self._members.items() if member.pid}

    async def ready(self) -> None:
        """Returns once the router serves with all of them. Raises FleetFailed."""
        async with grpc.aio.insecure_channel(self._target) as channel:
            stub = RouterServiceStub(channel)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READY_LIMIT_S):
                    while not await self._all_serve(stub):
                        if any(not member.pid for member in self._members.values()):
                            break
                        await asyncio.sleep(LOOK_S)
                    else:
                        return
        said = "\n".join(f"{name}:\n{member.said()}" for name, member in self._members.items())
        raise FleetFailed(f"the workers did not get ready:\n{said}")

    async def _all_serve(self, stub: RouterServiceStub) -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            table: router_pb2.ListWorkersResponse = await stub.ListWorkers(  # type: ignore[misc]  # the stubs' sync face
                router_pb2.ListWorkersRequest(), timeout=CALL_LIMIT_S
            )
            serving = {row.worker_id for row in table.workers if row.state == router_pb2.Worker.STATE_SERVING}
            return serving >= set(self._members)
        return False

    async def play(self, faults: Sequence[Fault], clock: Clock, happenings: list[Happening]) -> None:
        """Does each fault at its time; those that take a while do not hold up the next ones."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for fault in sorted(faults, key=lambda one: one.at_s):
                    await asyncio.sleep(max(0.0, fault.at_s - clock()))
                    happenings.append(Happening(clock(), fault.what.value, fault.worker))
                    tasks.create_task(self._do(fault))
        except* grpc.aio.AioRpcError as group:
            raise FleetFailed(f"a worker could not be made slow: {group.exceptions[0]}") from group

    async def _do(self, fault: Fault) -> None:
        member = self._members[fault.worker]
        match fault.what:
            case What.KILL:
                member.signal(signal.SIGKILL)
                await self._again(member)
            case What.HANG:
                member.signal(signal.SIGSTOP)
                await _later(fault.length_s, lambda: member.signal(signal.SIGCONT))
            case What.PARTITION:
                member.proxy.mute()
                await _later(fault.length_s, member.proxy.heal)
            case What.CUT:
                member.proxy.cut()
                await _later(fault.length_s, member.proxy.heal)
            case What.SLOW:
                await self._slow(member, fault.factor)
                await asyncio.sleep(fault.length_s)
                await self._slow(member, 1.0)
            case What.DRAIN:
                member.signal(signal.SIGTERM)
                await self._again(member)

    async def _again(self, member: Member) -> None:
        await member.ended()
        await asyncio.sleep(self._restart_s)
        await member.start()

    @staticmethod
    async def _slow(member: Member, factor: float) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{member.port}") as channel:
            faults = sim_pb2.Faults(slow_factor=factor)
            await SimServiceStub(channel).SetFaults(sim_pb2.SetFaultsRequest(faults=faults), timeout=CALL_LIMIT_S)


async def _later(length_s: float, undo: Callable[[], None]) -> None:
    """Undoes a fault after its time, and also where the run ends first."""
    try:
        await asyncio.sleep(length_s)
    finally:
        undo()


@asynccontextmanager
async def fleet(
    count: int, environment: Mapping[str, str], target: str, folder: Path, restart_s: float
) -> AsyncIterator[Fleet]:
    """So many workers that announce themselves to the router in `environment`; gone when the context is left."""
    members = [Member(f"worker-{number}", environment, folder / f"worker-{number}.log") for number in range(count)]
    async with contextlib.AsyncExitStack() as stack:
        for member in members:
            await stack.enter_async_context(member.proxy)
        try:
            for member in members:
                await member.start()
            found = Fleet(members, target, restart_s)
            await found.ready()
            yield found
        finally:
            await asyncio.gather(*(member.stop() for member in members))
