"""vLLM's engine process is killed: every answer fails at once, it comes back, and nothing is left behind."""

import asyncio
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.engines.client import EngineLink
from tests.engines.process import EngineWorker
from tests.vllm.test_cache_events import held, ids_of, prompt_of
from weft.worker.v1 import worker_pb2 as pb

pytestmark = pytest.mark.timeout(500)
FAIL_LIMIT_S = 2.0
"""A busy test machine included."""
RESTART_LIMIT_S = 300.0
END_LIMIT_S = 20.0
UNAVAILABLE = 14
PROMPT = pb.Prompt(text="What is kept in the harbour?")


def engine_processes(worker: EngineWorker) -> Iterator[psutil.Process]:
    """vLLM's own processes, the first one the engine's."""
    for process in psutil.Process(worker.pid).children(recursive=True):
        if "VLLM::" in " ".join(process.cmdline()):
            yield process


async def test_answers_fail_at_once_and_the_engine_comes_back(link: EngineLink, worker: EngineWorker) -> None:
    before = await link.answer(PROMPT, max_tokens=20)
    await link.answer(prompt_of(ids_of(3, 300)), max_tokens=2)
    await link.until(lambda link: bool(held(link)))
    requests = [await link.ask(PROMPT) for _ in range(24)]
    await link.tokens(requests[0], 5)
    old = list(engine_processes(worker))
    assert old
    old[0].kill()
    killed_s = time.monotonic()
    for request in requests:
        ended = await link.ended(request)
        assert (ended.failure.code, ended.failure.reason) == (UNAVAILABLE, "ENGINE_BROKEN")
    failed_s = time.monotonic() - killed_s
    assert failed_s < FAIL_LIMIT_S
    assert link.load.broken
    assert not held(link), "the cache died with it"
    refused = await link.refused(PROMPT)
    assert (refused.code, refused.reason) == (UNAVAILABLE, "ENGINE_BROKEN")
    async with asyncio.timeout(RESTART_LIMIT_S):
        await link.busy(lambda load: not load.broken)
    print(f"failed after {failed_s * 1e3:.0f} ms, works again after {time.monotonic() - killed_s:.1f} s")
    again = await link.answer(PROMPT, max_tokens=20)
    assert (again.ids, again.text) == (before.ids, before.text)
    await link.answer(prompt_of(ids_of(3, 300)), max_tokens=2)
    await link.until(lambda link: bool(held(link)))
    assert not [process for process in old if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def test_a_killed_worker_leaves_nothing(worker: EngineWorker) -> None:
    left = list(engine_processes(worker))
    assert left
    psutil.Process(worker.pid).kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, END_LIMIT_S)
    assert not alive
