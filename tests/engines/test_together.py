"""Many at once: each gets its own answer, the readings are true, and a full worker says that it is full."""

import asyncio

from tests.engines.client import EngineLink, linked
from tests.engines.engines import MAX_RUNNING, MAX_WAITING, EngineCase
from tests.engines.process import EngineWorker
from weft.worker.v1 import worker_pb2 as pb

TOKENS = 40


async def test_each_of_16_gets_the_answer_that_it_gets_alone(link: EngineLink, case: EngineCase) -> None:
    alone = [await link.answer(question, max_tokens=TOKENS) for question in case.questions]
    requests = [await link.ask(question, max_tokens=TOKENS) for question in case.questions]
    together = [await link.whole(request) for request in requests]
    for one, other in zip(alone, together, strict=True):
        assert other.reason == one.reason
        assert len(other.ids) == len(one.ids) == TOKENS
        if link.hello.capabilities.exact_resume:
            assert (other.ids, other.text) == (one.ids, one.text)
        if case.spell is not None:
            assert other.text == case.spell(other.ids).decode(errors="replace")


async def test_two_links_share_the_engine(link: EngineLink, case: EngineCase, worker: EngineWorker) -> None:
    async with linked(worker.address, "another") as other:
        ours = [await link.ask(question, max_tokens=TOKENS) for question in case.questions[:4]]
        theirs = [await other.ask(question, max_tokens=TOKENS) for question in case.questions[:4]]
        assert ours == [1, 2, 3, 4] == theirs
        for one, two in zip(ours, theirs, strict=True):
            mine, yours = await link.whole(one), await other.whole(two)
            assert len(mine.ids) == len(yours.ids) == TOKENS
            if link.hello.capabilities.exact_resume:
                assert mine.text == yours.text


async def test_readings_are_true(link: EngineLink, case: EngineCase) -> None:
    before = link.load.step_count
    requests = [await link.ask(question, max_tokens=200) for question in case.questions]
    for request in requests:
        await link.ended(request)
    idle = await link.idle()
    loads = [message.load for message in link.messages if message.HasField("load")]
    assert max(load.running for load in loads) == MAX_RUNNING
    assert max(load.waiting for load in loads) > 0
    assert max(load.running + load.waiting for load in loads) <= len(requests)
    assert all(0.0 <= load.kv_usage <= 1.0 for load in loads)
    counts = [load.step_count for load in loads]
    assert counts == sorted(counts)
    assert counts[-1] >= before + 5
    assert any(load.step_time.ToNanoseconds() > 0 for load in loads)
    assert (idle.running, idle.waiting, idle.queued_tokens, idle.broken) == (0, 0, 0, "")


async def test_readings_come_though_nothing_happens(link: EngineLink) -> None:
    seen = len(link.messages)
    async with asyncio.timeout(2.0):
        await link.until(lambda link: len(link.messages) >= seen + 3)
    assert link.load.running == link.load.waiting == 0


async def test_a_full_worker_refuses_and_takes_more_later(link: EngineLink, case: EngineCase) -> None:
    room = link.hello.limits.max_running + link.hello.limits.max_waiting
    assert room == MAX_RUNNING + MAX_WAITING
    asked = [await link.ask(case.questions[at % len(case.questions)]) for at in range(room + 3)]
    for request in asked[room:]:
        failure = (await link.ended(request)).failure
        assert failure.code == 8
        assert failure.reason == "FULL"
        assert failure.message
        assert not link.answers[request].started
    await link.cancel(*asked[:room])
    await link.idle()
    assert len((await link.answer(case.questions[0], max_tokens=5)).ids) == 5


async def test_all_that_waited_are_answered(link: EngineLink, case: EngineCase) -> None:
    requests = [await link.ask(case.questions[at % 16], max_tokens=6) for at in range(MAX_RUNNING + MAX_WAITING)]
    for request in requests:
        assert len((await link.whole(request)).ids) == 6


async def test_one_request_id_twice_is_two_requests(link: EngineLink, case: EngineCase) -> None:
    """The id names a request in logs; what tells two apart is their number."""
    requests = [await link.ask(case.questions[0], max_tokens=20, request_id="the-same") for _ in range(2)]
    one, two = [await link.whole(request) for request in requests]
    assert len(one.ids) == len(two.ids) == 20


async def test_one_number_twice_ends_the_link_and_nothing_else(
    link: EngineLink, case: EngineCase, worker: EngineWorker
) -> None:
    async with linked(worker.address, "confused") as other:
        request = await other.ask(case.questions[0])
        await other.send(start=pb.Start(request=request, prompt=case.questions[1]))
        assert (await other.end()).name == "INVALID_ARGUMENT"
        assert f"request {request} is under way" in str(await other.call.details())
    async with asyncio.timeout(2.0):
        await link.idle()
    assert len((await link.answer(case.questions[0], max_tokens=5)).ids) == 5
