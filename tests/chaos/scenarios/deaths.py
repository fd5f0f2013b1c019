"""Workers that die at once: SIGKILL, which leaves them no time for a word."""

import signal
from pathlib import Path

from tests.chaos.client import Crowd, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import mesh, sim


async def killed_worker(folder: Path) -> dict[str, float]:
    """One of two workers dies under 32 answers: all go on, word for word."""
    asked, tokens = prompts(32), 60
    async with mesh(folder, sim("w1"), sim("w2")) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            found.workers["w1"].signal(signal.SIGKILL)
            same(await crowd.complete(), expected)
            hit = crowd.on("w1")
            assert hit, "the worker that died had no answer"
            assert all(heard.workers == ["w1", "w2"] for heard in hit)
        await found.idle()
    return {"longest_gap_ms": longest_gap_ms(hit), "undisturbed_gap_ms": longest_gap_ms(expected)}


async def both_killed_one_back(folder: Path) -> dict[str, float]:
    """Every worker dies, and one comes back within recover_wait_s: the answers wait for it and go on."""
    asked, tokens = prompts(16), 40
    async with mesh(folder, sim("w1"), sim("w2")) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            for worker in found.workers.values():
                worker.signal(signal.SIGKILL)
            await found.workers["w1"].ended()
            await found.workers["w1"].start()
            same(await crowd.complete(), expected)
            assert all(heard.moved for heard in crowd.heard)
    return {"longest_gap_ms": longest_gap_ms(crowd.heard)}
