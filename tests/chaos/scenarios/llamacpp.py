"""A real model under failure: greedy text goes on word for word where the KV cache is exact."""

import asyncio
import signal
from pathlib import Path

from tests.chaos.client import Crowd, longest_gap_ms, prompts, same, through, undisturbed
from tests.chaos.mesh import Plan, mesh
from tests.fakes.tiny_gguf import write_tiny_gguf

STREAMS = 8


async def killed_llamacpp_worker(folder: Path) -> dict[str, float]:
    """One of two workers with a model dies under 8 answers."""
    asked, tokens = prompts(STREAMS), 400
    model = await asyncio.to_thread(write_tiny_gguf, folder / "tiny.gguf")
    settings = {
        "engine": "llamacpp",
        "model": model,
        "max_running": STREAMS,
        "context_tokens": 1024,
        "llamacpp": {"exact": True, "threads": 1},
    }
    async with mesh(folder, Plan("w1", settings), Plan("w2", settings)) as found:
        expected = await undisturbed(found.stub, asked, tokens)
        async with Crowd(through(found.stub), asked, tokens) as crowd:
            await crowd.begun()
            found.workers["w1"].signal(signal.SIGKILL)
            hit = [heard for heard in crowd.on("w1") if heard.finished is None]
            same(await crowd.complete(), expected)
            assert hit, "the worker that died had no answer"
            assert all(heard.workers == ["w1", "w2"] for heard in hit)
        await found.idle()
    return {"longest_gap_ms": longest_gap_ms(hit)}
