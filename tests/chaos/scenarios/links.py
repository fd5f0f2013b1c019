"""Links that break while both of their ends live: connections that are reset, and connections that fall silent."""

from dataclasses import replace
from pathlib import Path

from loadtest.load.proxy import Proxy
from tests.chaos.client import Crowd, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import SERVING, mesh, sim

STALL_S = 1.0


async def cut_link(folder: Path) -> dict[str, float]:
    """A link is reset under its answers: they go on elsewhere, its engine stops, and the link comes back."""
    asked, tokens = prompts(16), 60
    plan = sim("w1")
    async with Proxy(plan.port) as proxy, mesh(folder, replace(plan, advertise=proxy.address), sim("w2")) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            proxy.cut()
            await found.engine_idle("w1")
            same(await crowd.complete(), expected)
            hit = crowd.on("w1")
            assert hit, "the worker behind the link had no answer"
            assert all(heard.moved for heard in hit)
        proxy.heal()
        row = await found.state("w1", SERVING)
        assert row.restarts == 0
        await found.idle()
        again = await undisturbed(found.stub, asked, 5)
        assert "w1" in {heard.workers[0] for heard in again}
    return {"longest_gap_ms": longest_gap_ms(hit)}


async def silent_link(folder: Path) -> dict[str, float]:
    """A link falls silent under its answers and wakes up later: what it held back reaches no client twice."""
    asked, tokens = prompts(16), 100
    limits = {"failover": {"stall_s": STALL_S, "silent_s": STALL_S / 2}}
    plan = sim("w1")
    async with (
        Proxy(plan.port) as proxy,
        mesh(folder, replace(plan, advertise=proxy.address), sim("w2"), router=limits) as found,
    ):
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            proxy.mute()
            hit = crowd.on("w1")
            assert hit, "the worker behind the link had no answer"
            await crowd.moved(hit)
            proxy.heal()
            same(await crowd.complete(), expected)
            assert all(heard.moved for heard in hit)
        await found.state("w1", SERVING)
        await found.engine_idle("w1", "w2")
        await found.idle()
        assert proxy.connections == 1, "the link was dialled anew"
    return {"longest_gap_ms": longest_gap_ms(hit), "over_stall_s_ms": longest_gap_ms(hit) - 1e3 * STALL_S}
