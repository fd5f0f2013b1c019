"""Engines that fail while their workers live: one that stands still, and one that breaks off answers."""

from pathlib import Path

from tests.chaos.client import Crowd, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import Plan, mesh, sim
from weft.router.v1 import router_pb2

STALL_S = 1.0
SUSPECT = router_pb2.Worker.STATE_SUSPECT


def faulty(worker_id: str, **faults: float) -> Plan:
    """A sim worker with faults on demand."""
    return Plan(worker_id, {"engine": "sim", "sim": {"ttft_ms": 20, "itl_ms": 20, **faults}})


async def hung_engine(folder: Path) -> dict[str, float]:
    """An engine stands still for ever, and its worker goes on reporting: its answers go on elsewhere."""
    asked, tokens = prompts(16), 60
    # Each of its eight answers has begun by then, and none is near its end.
    plans = [faulty("w1", hang_after_tokens=100), sim("w2")]
    async with mesh(folder, *plans, router={"failover": {"stall_s": STALL_S}}) as found:
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            answers = await crowd.complete()
        hit = [heard for heard in answers if heard.moved]
        assert hit, "the engine that hangs had no answer"
        await found.state("w1", SUSPECT)
        expected = await undisturbed(found.stub, asked, tokens)
        assert {heard.workers[0] for heard in expected} == {"w2"}
        same(answers, expected)
    return {"longest_gap_ms": longest_gap_ms(hit), "over_stall_s_ms": longest_gap_ms(hit) - 1e3 * STALL_S}


async def failing_engine(folder: Path) -> dict[str, float]:
    """An engine breaks off a third of its answers, somewhere: they go on elsewhere, and no client notices."""
    asked, tokens = prompts(32), 40
    async with mesh(folder, faulty("w1", fail_share=0.33), sim("w2")) as found:
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            answers = await crowd.complete()
        await found.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id="w1"))
        same(answers, await undisturbed(found.stub, asked, tokens))
        await found.idle()
    moved = [heard for heard in answers if heard.moved]
    assert moved, "the engine broke no answer off"
    return {"moved": len(moved), "longest_gap_ms": longest_gap_ms(moved)}
