"""Workers that crash on what they are asked: nothing is tried for ever, and others go on."""

import signal
from dataclasses import replace
from pathlib import Path

from tests.chaos.client import Crowd, Heard, listen, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import Plan, mesh, sim
from tests.chaos.poisoned_worker import POISON
from weft.router.v1 import router_pb2

ATTEMPTS = 2
AWAY = router_pb2.Worker.STATE_AWAY
DEATHS = 2


def poisoned(worker_id: str) -> Plan:
    """A worker that dies on a word."""
    return replace(sim(worker_id), module="tests.chaos.poisoned_worker")


async def worker_that_dies_on_every_request(folder: Path) -> dict[str, float]:
    """A worker that dies as soon as it is asked anything, started again each time: the other one answers all."""
    tokens, asked = 20, 0
    async with mesh(folder, poisoned("w1"), sim("w2")) as found:
        longest_ms = 0.0
        for death in range(DEATHS):
            async with Crowd(through(found.stub), _poisoned_prompts(death), tokens) as crowd:
                answers = await crowd.complete()
            assert {heard.workers[-1] for heard in answers} == {"w2"}
            asked += len(answers)
            longest_ms = max(longest_ms, longest_gap_ms(answers), *(1e3 * heard.ttft_s for heard in answers))
            assert await found.workers["w1"].ended() == -signal.SIGKILL
            await found.restart("w1")
        await found.idle()
    return {"answers": asked, "deaths": DEATHS, "longest_wait_ms": longest_ms}


def _poisoned_prompts(number: int) -> list[str]:
    return [f"{prompt} {POISON}" for prompt in prompts(8, number)]


async def request_that_kills(folder: Path) -> dict[str, float]:
    """A request that kills every worker that takes it is given up, clearly, while there are workers left."""
    asked, tokens = prompts(12), 60
    limits = {"failover": {"attempts": ATTEMPTS}}
    plans = [poisoned(f"w{number}") for number in range(ATTEMPTS + 1)]
    async with mesh(folder, *plans, router=limits) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            killer = await listen(found.stub, Heard(f"a spoon of {POISON}"), tokens)
            answers = await crowd.over()
        _given_up(killer)
        table = await found.table(lambda table: sum(row.state == AWAY for row in table) >= ATTEMPTS)
        dead = [row.worker_id for row in table if row.state == AWAY]
        assert len(dead) == ATTEMPTS, dead
        unharmed = [heard for heard in answers if heard.workers[0] not in dead]
        assert unharmed
        assert not any(heard.moved for heard in unharmed)
        whole = [heard for heard in answers if heard.finished]
        assert set(map(id, unharmed)) <= set(map(id, whole))
        same(whole, [wanted for wanted in expected if wanted.prompt in {heard.prompt for heard in whole}])
        await found.idle()
        same(await undisturbed(found.stub, asked, tokens), expected)
    return {"innocent": len(answers), "innocent_lost": len(answers) - len(whole)}


def _given_up(killer: Heard) -> None:
    """Its client was told in words that programs and people understand."""
    if killer.failed is not None:
        assert (killer.failed.code, killer.failed.reason) == (14, "WORKER_LOST"), killer.failed
        return
    assert killer.broke is not None
    assert killer.broke.code().name == "UNAVAILABLE"
    assert "was lost" in (killer.broke.details() or "")
    assert not killer.ids
