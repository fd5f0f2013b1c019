"""A router that dies at once: its clients lose their answers, and nothing else may suffer from it for long."""

import asyncio
import signal
import time
from pathlib import Path

import grpc

from tests.chaos.client import Crowd, prompts, same, through, undisturbed
from tests.chaos.mesh import mesh, sim


async def restarted_router(folder: Path) -> dict[str, float]:
    """The engines stop work on answers that nobody takes any more, and the new router knows every worker again."""
    asked, tokens = prompts(16), 60
    async with mesh(folder, sim("w1"), sim("w2")) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            killed_s = time.monotonic()
            found.router.signal(signal.SIGKILL)
            await found.engine_idle("w1", "w2")
            idle_s = time.monotonic()
            for heard in await crowd.over():
                assert heard.broke is not None, "an answer outlived its router"
                assert heard.broke.code() is grpc.StatusCode.UNAVAILABLE, heard.broke
        await found.router.ended()
        await found.router.start()
        await asyncio.wait_for(found.channel.channel_ready(), 30)
        listens_s = time.monotonic()
        await found.serving()
        known_s = time.monotonic()
        same(await undisturbed(found.stub, asked, tokens), expected)
        await found.idle()
    return {"engines_idle_ms": 1e3 * (idle_s - killed_s), "workers_known_ms": 1e3 * (known_s - listens_s)}
