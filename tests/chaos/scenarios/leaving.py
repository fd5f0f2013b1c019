"""Workers that are asked to stop: SIGTERM, on which they finish what they can and say goodbye."""

import asyncio
import signal
import time
from pathlib import Path

from tests.chaos.client import Crowd, Heard, listen, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import Mesh, mesh, sim
from weft.router.v1 import router_pb2

LEAVING = (router_pb2.Worker.STATE_DRAINING, router_pb2.Worker.STATE_AWAY)


async def stopped_worker(folder: Path) -> dict[str, float]:
    """A worker that is told to stop finishes its answers itself, and new ones go to the other."""
    asked, tokens = prompts(16), 60
    async with mesh(folder, sim("w1"), sim("w2")) as found:
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            found.workers["w1"].signal(signal.SIGTERM)
            told_s = time.monotonic()
            await found.state("w1", *LEAVING)
            later = await undisturbed(found.stub, asked, 5)
            assert {heard.workers[0] for heard in later} == {"w2"}
            await crowd.complete()
            assert crowd.on("w1"), "the worker that stops had no answer"
            assert not any(heard.moved for heard in crowd.heard)
        assert await found.workers["w1"].ended() == 0
        ended_s = time.monotonic()
        await found.idle()
    return {"answers_gap_ms": longest_gap_ms(crowd.heard), "exit_ms": 1e3 * (ended_s - told_s)}


async def stopped_worker_out_of_time(folder: Path) -> dict[str, float]:
    """What a worker that stops cannot finish within its limit goes on elsewhere."""
    asked, tokens = prompts(16), 80
    plans = [sim("w1", drain_limit_s=0.2), sim("w2")]
    async with mesh(folder, *plans) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            found.workers["w1"].signal(signal.SIGTERM)
            same(await crowd.complete(), expected)
            hit = crowd.on("w1")
            assert hit, "the worker that stops had no answer"
            assert all(heard.workers == ["w1", "w2"] for heard in hit)
        assert await found.workers["w1"].ended() == 0
        await found.idle()
    return {"longest_gap_ms": longest_gap_ms(hit)}


async def rolling_restart(folder: Path) -> dict[str, float]:
    """Every worker is stopped and started again in turn under 16 answers at all times: none fails."""
    tokens, enough = 40, asyncio.Event()
    async with mesh(folder, sim("w1"), sim("w2")) as found:
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(_steadily(found, number, tokens, enough)) for number in range(16)]
            began_s = time.monotonic()
            for worker_id, worker in found.workers.items():
                worker.signal(signal.SIGTERM)
                assert await worker.ended() == 0
                await found.restart(worker_id)
            took_s = time.monotonic() - began_s
            enough.set()
        answers = [heard for stream in streams for heard in stream.result()]
        assert {heard.workers[-1] for heard in answers} == {"w1", "w2"}
        await found.idle()
    return {
        "answers": len(answers),
        "longest_gap_ms": longest_gap_ms(answers),
        "moved": sum(heard.moved for heard in answers),
        "restart_both_ms": 1e3 * took_s,
    }


async def _steadily(found: Mesh, number: int, tokens: int, enough: asyncio.Event) -> list[Heard]:
    """One client that asks again as soon as it has its answer, until it is enough."""
    answers: list[Heard] = []
    while not enough.is_set():
        heard = Heard(f"question {number}, for the {len(answers)}th time")
        answers.append((await listen(found.stub, heard, tokens)).complete(tokens))
    return answers
