"""What ends an answer early frees the engine: cancels, lost links, deadlines."""

import asyncio

import grpc.aio

from tests.engines.client import EngineLink, linked
from tests.engines.engines import MAX_RUNNING, MAX_WAITING, EngineCase
from tests.engines.process import EngineWorker
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc

FREED_S = 2.0
"""A busy test machine included; a reading comes every 100 ms."""


async def test_cancel_while_it_generates(link: EngineLink, case: EngineCase) -> None:
    request = await link.ask(case.questions[0])
    await link.tokens(request, 2)
    async with asyncio.timeout(FREED_S):
        await link.cancel(request)
        await link.idle()
    ended = link.answers[request].ended
    assert ended is not None
    assert ended.finish.reason == chat_pb2.FINISH_REASON_CANCELLED
    assert ended.finish.usage.completion_tokens >= len(link.answers[request].ids)
    assert len((await link.answer(case.questions[1], max_tokens=5)).ids) == 5


async def test_cancel_at_once_and_again_and_of_nothing(link: EngineLink, case: EngineCase) -> None:
    request = await link.ask(case.questions[0])
    for number in (request, request, 4_000_000):
        await link.send(cancel=pb.Cancel(request=number))
    async with asyncio.timeout(FREED_S):
        assert (await link.ended(request)).finish.reason == chat_pb2.FINISH_REASON_CANCELLED
        await link.send(cancel=pb.Cancel(request=request))
        await link.idle()
    assert len((await link.answer(case.questions[0], max_tokens=3)).ids) == 3


async def test_cancel_of_all_that_run_and_wait(link: EngineLink, case: EngineCase) -> None:
    asked = [await link.ask(case.questions[at % 16]) for at in range(MAX_RUNNING + MAX_WAITING)]
    await link.tokens(asked[0])
    async with asyncio.timeout(FREED_S + 2):
        await link.cancel(*asked)
        await link.idle()
    whole = await link.answer(case.questions[2], max_tokens=5)
    assert len(whole.ids) == 5


async def test_a_lost_link_frees_the_engine(link: EngineLink, case: EngineCase, worker: EngineWorker) -> None:
    async with linked(worker.address, "another") as other:
        requests = [await other.ask(question) for question in case.questions[:4]]
        await other.tokens(requests[0])
        await link.busy(lambda load: load.running + load.waiting > 0)
    async with asyncio.timeout(FREED_S):
        await link.idle()
    assert len((await link.answer(case.questions[3], max_tokens=5)).ids) == 5


async def test_a_left_call_frees_the_engine(link: EngineLink, case: EngineCase, worker: EngineWorker) -> None:
    async with grpc.aio.insecure_channel(worker.address) as channel:
        request = pb.GenerateRequest(prompt=case.questions[0], sampling=chat_pb2.Sampling(temperature=0))
        call = worker_pb2_grpc.WorkerServiceStub(channel).Generate(request)
        while not (await call.read()).HasField("delta"):
            pass
        call.cancel()
    async with asyncio.timeout(FREED_S):
        await link.idle()


async def test_a_deadline_ends_it_with_what_it_has(link: EngineLink, case: EngineCase) -> None:
    """Enough requests that none can be done by then; those that have no token fail, the others finish."""
    asked = [await link.ask(question, timeout_s=0.15) for question in case.questions]
    async with asyncio.timeout(FREED_S):
        ended = [await link.ended(request) for request in asked]
        await link.idle()
    late = 0
    for request, end in zip(asked, ended, strict=True):
        if end.HasField("failure"):
            assert end.failure.code == 4
            assert not link.answers[request].ids
            late += 1
        elif end.finish.reason == chat_pb2.FINISH_REASON_DEADLINE:
            assert end.finish.usage.completion_tokens >= len(link.answers[request].ids) > 0
            late += 1
    assert late, "all were done within the deadline"
    assert len((await link.answer(case.questions[4], max_tokens=5)).ids) == 5
