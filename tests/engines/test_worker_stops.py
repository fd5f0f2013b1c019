"""A worker that is told to stop: it drains, takes nothing more, and its process ends in order."""

import asyncio

from tests.engines.client import EngineLink
from tests.engines.engines import EngineCase
from tests.engines.process import EngineWorker
from weft.worker.v1 import worker_pb2 as pb


async def test_a_drain_refuses_what_comes_and_ends_what_runs(
    link: EngineLink, case: EngineCase, worker: EngineWorker
) -> None:
    running = [await link.ask(question, max_tokens=60) for question in case.questions[:10]]
    await link.tokens(running[0])
    await link.send(drain=pb.Drain())
    await link.busy(lambda load: load.draining)
    failure = await link.refused(case.questions[0])
    assert (failure.code, failure.reason) == (14, "DRAINING")
    worker.terminate()
    for request in running:
        assert len((await link.whole(request)).ids) == 60
    assert (await link.end()).name == "UNAVAILABLE"
    assert await asyncio.to_thread(worker.ended) == 0
    said = [line for line in worker.log.splitlines() if '"level": "error"' in line or "Traceback" in line]
    assert not said
