"""Web callers behind Envoy, who notice no more of a failure than gRPC callers do."""

import asyncio
import signal
import time
from functools import partial
from pathlib import Path

from tests.chaos.client import Crowd, Heard, longest_gap_ms, prompts, same, undisturbed
from tests.chaos.front import envoy, post
from tests.chaos.mesh import mesh, sim


async def killed_worker_behind_envoy(folder: Path) -> dict[str, float]:
    """A worker dies under answers that are read as server-sent events; a caller that hangs up stops its engine."""
    asked, tokens = prompts(16), 60
    async with mesh(folder, sim("w1"), sim("w2")) as found, envoy(found, folder) as port:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(partial(post, port), asked, tokens) as crowd:
            await crowd.begun()
            found.workers["w1"].signal(signal.SIGKILL)
            same(await crowd.complete(), expected)
            hit = crowd.on("w1")
            assert hit, "the worker that died had no answer"
            assert all(heard.workers == ["w1", "w2"] for heard in hit)
        await found.idle()
        heard = Heard("a caller that hangs up")
        answer = asyncio.create_task(post(port, heard, 1000))
        await heard.begun.wait()
        answer.cancel()
        left_s = time.monotonic()
        await found.engine_idle("w2")
        idle_s = time.monotonic()
        await found.idle()
    return {"longest_gap_ms": longest_gap_ms(hit), "hang_up_to_idle_ms": 1e3 * (idle_s - left_s)}
