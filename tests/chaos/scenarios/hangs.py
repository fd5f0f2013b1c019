"""Workers that hang: SIGSTOP, which leaves their sockets open and says nothing."""

import signal
from pathlib import Path

from tests.chaos.client import Crowd, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import SERVING, mesh, sim

STALL_S = 1.0


async def hung_worker(folder: Path) -> dict[str, float]:
    """One of two workers hangs under 32 answers and wakes up later: all go on elsewhere, and none hears it again."""
    asked, tokens = prompts(32), 100
    limits = {"failover": {"stall_s": STALL_S, "silent_s": STALL_S / 2}}
    async with mesh(folder, sim("w1"), sim("w2"), router=limits) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            found.workers["w1"].signal(signal.SIGSTOP)
            hit = crowd.on("w1")
            assert hit, "the worker that hangs had no answer"
            # All go on elsewhere when the worker wakes up, so that what it still says comes in between.
            await crowd.moved(hit)
            found.workers["w1"].signal(signal.SIGCONT)
            same(await crowd.complete(), expected)
            assert all(heard.moved for heard in hit)
        await found.state("w1", SERVING)
        await found.engine_idle("w1", "w2")
        await found.idle()
        again = await undisturbed(found.stub, asked, 5)
        assert "w1" in {heard.workers[0] for heard in again}
    return {
        "longest_gap_ms": longest_gap_ms(hit),
        "over_stall_s_ms": longest_gap_ms(hit) - 1e3 * STALL_S,
        "others_gap_ms": longest_gap_ms(crowd.on("w2")),
    }
