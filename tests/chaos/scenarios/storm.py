"""Everything at once: workers are killed, stopped, hung, cut off and drained by a seed, under answers at all times."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from loadtest.load.proxy import Proxy
from tests.chaos.client import Heard, listen, longest_gap_ms, prompts, same, undisturbed
from tests.chaos.mesh import SERVING, Mesh, mesh, sim
from weft.router.v1 import router_pb2

SEED = 7
EVENTS = 3
CLIENTS = 16
TOKENS = 40
QUESTIONS = 3
"""That each client asks in turn."""
STALL_S = 0.6
LONGEST_FAULT_S = 1.2
"""For which a worker stays broken after the router has noticed."""
LANES = (("w1", "w2"), ("w3",))
"""Each lane breaks one of its workers at a time, so that one at least lives."""
BROKEN = (
    router_pb2.Worker.STATE_SUSPECT,
    router_pb2.Worker.STATE_DRAINING,
    router_pb2.Worker.STATE_AWAY,
    router_pb2.Worker.STATE_CONNECTING,
)


@dataclass(frozen=True)
class Storm:
    """The mesh, and the proxy before each worker."""

    mesh: Mesh
    proxies: dict[str, Proxy]
    chance: random.Random

    async def kill(self, worker_id: str) -> None:
        """Dies, and is started again."""
        self.mesh.workers[worker_id].signal(signal.SIGKILL)
        await self.mesh.workers[worker_id].ended()
        await self.mesh.restart(worker_id)

    async def stop(self, worker_id: str) -> None:
        """Leaves politely, and is started again."""
        self.mesh.workers[worker_id].signal(signal.SIGTERM)
        await self.mesh.workers[worker_id].ended()
        await self.mesh.restart(worker_id)

    async def drain(self, worker_id: str) -> None:
        """Is drained at the router, and started anew."""
        await self.mesh.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id=worker_id))
        await self.stop(worker_id)

    async def hang(self, worker_id: str) -> None:
        """Hangs until the router has noticed."""
        self.mesh.workers[worker_id].signal(signal.SIGSTOP)
        await self._noticed(worker_id)
        self.mesh.workers[worker_id].signal(signal.SIGCONT)

    async def cut(self, worker_id: str) -> None:
        """Loses its link."""
        self.proxies[worker_id].cut()
        await self._noticed(worker_id)
        self.proxies[worker_id].heal()

    async def mute(self, worker_id: str) -> None:
        """Is not heard of until the router has noticed."""
        self.proxies[worker_id].mute()
        await self._noticed(worker_id)
        self.proxies[worker_id].heal()

    async def _noticed(self, worker_id: str) -> None:
        """The router knows, and the fault lasts for a while longer."""
        await self.mesh.state(worker_id, *BROKEN)
        await asyncio.sleep(self.chance.uniform(0, LONGEST_FAULT_S))

    @property
    def events(self) -> Sequence[Callable[[str], Awaitable[None]]]:
        """All that can happen to a worker."""
        return (self.kill, self.stop, self.drain, self.hang, self.cut, self.mute)


async def storm(folder: Path, seed: int = SEED, events: int = EVENTS) -> dict[str, float]:
    """No answer fails, and each has every token that it should have, whatever happened to its workers."""
    happened = [f"seed {seed}"]
    plans = [sim(worker_id, drain_limit_s=0.3) for lane in LANES for worker_id in lane]
    # A worker that hung with nothing begun has no step to show when it wakes up idle: it proves itself soon here.
    # One answer may lose many workers in a storm, and the bound on that has a scenario of its own.
    failover = {"stall_s": STALL_S, "silent_s": STALL_S / 2, "probe_s": STALL_S, "attempts": 16}
    async with AsyncExitStack() as stack:
        proxies = {plan.worker_id: await stack.enter_async_context(Proxy(plan.port)) for plan in plans}
        behind = [replace(plan, advertise=proxies[plan.worker_id].address) for plan in plans]
        found = await stack.enter_async_context(mesh(folder, *behind, router={"failover": failover}, notes=happened))
        asked = prompts(CLIENTS * QUESTIONS)
        expected = {heard.prompt: heard for heard in await undisturbed(found.stub, asked, TOKENS)}
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(_steadily(found, asked[n::CLIENTS], enough)) for n in range(CLIENTS)]
            async with asyncio.TaskGroup() as lanes:
                for number, lane in enumerate(LANES):
                    broken = Storm(found, proxies, random.Random(f"{seed} {number}"))
                    lanes.create_task(_blow(broken, lane, events, happened))
            enough.set()
        answers = [heard for client in clients for heard in client.result()]
        same(answers, [expected[heard.prompt] for heard in answers])
        await found.idle()
        await found.engine_idle(*found.workers)
        await found.no_calls()
    return {
        "answers": len(answers),
        "moved": sum(heard.moved for heard in answers),
        "events": len(happened) - 1,
        "longest_gap_ms": longest_gap_ms(answers),
    }


async def _blow(broken: Storm, lane: Sequence[str], events: int, happened: list[str]) -> None:
    """Breaks one worker of the lane after another, each once the one before serves again."""
    for _ in range(events):
        worker_id, event = broken.chance.choice(lane), broken.chance.choice(broken.events)
        happened.append(f"{event.__name__} {worker_id}")
        await event(worker_id)
        await broken.mesh.state(worker_id, SERVING)


async def _steadily(found: Mesh, asked: Sequence[str], enough: asyncio.Event) -> list[Heard]:
    """One client that asks its questions again and again."""
    answers: list[Heard] = []
    while not enough.is_set():
        heard = Heard(asked[len(answers) % len(asked)])
        answers.append((await listen(found.stub, heard, TOKENS)).complete(TOKENS))
    return answers
