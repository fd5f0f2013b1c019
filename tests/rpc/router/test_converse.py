"""Converse: turns in order on one stream, the history that the worker sees, and a turn that is cancelled."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import Start
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

OPEN = router_pb2.ConverseRequest(open=router_pb2.ConversationOpen())
CANCEL = router_pb2.ConverseRequest(cancel=router_pb2.CancelTurn())


def turn(text: str) -> router_pb2.ConverseRequest:
    return router_pb2.ConverseRequest(turn=router_pb2.UserTurn(content=text))


async def _all(call: Any) -> list[Any]:
    return [event async for event in call]


async def until_over(call: Any) -> list[router_pb2.ConverseResponse]:
    """One turn's events, the last included."""
    found = []
    async with asyncio.timeout(10):
        while True:
            found.append(await call.read())
            assert found[-1] is not grpc.aio.EOF
            if found[-1].event.WhichOneof("event") in ("finished", "failed"):
                return found


async def test_each_turn_sees_the_ones_before_it(start: Start) -> None:
    worker = FakeWorker()
    async with start(worker) as router:
        call = router.stub.Converse()
        await call.write(OPEN)
        await call.write(turn("first"))
        one = await until_over(call)
        await call.write(turn("second"))
        two = await until_over(call)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
    assert {event.turn for event in one} == {1}
    assert {event.turn for event in two} == {2}
    seen = [(m.role, m.content) for m in worker.starts[1].prompt.conversation.messages]
    assert seen == [
        (chat_pb2.ROLE_USER, "first"),
        (chat_pb2.ROLE_ASSISTANT, "once upon a time"),
        (chat_pb2.ROLE_USER, "second"),
    ]


async def test_cancelled_turn_finishes_and_the_next_one_follows(start: Start) -> None:
    worker = FakeWorker(hold_after=2)
    async with start(worker) as router:
        call = router.stub.Converse()
        await call.write(OPEN)
        await call.write(turn("first"))
        while not (await call.read()).event.HasField("tokens"):
            continue
        await call.write(CANCEL)
        last = (await until_over(call))[-1].event.finished
        async with asyncio.timeout(5):
            await worker.cancelled.get()
        worker.go.set()
        await call.write(turn("second"))
        after = (await until_over(call))[-1].event.finished
        call.cancel()
    assert last.reason == chat_pb2.FINISH_REASON_CANCELLED
    assert after.reason == chat_pb2.FINISH_REASON_STOP


async def test_turn_that_is_refused_does_not_end_the_conversation(start: Start) -> None:
    async with start(FakeWorker()) as router:
        call = router.stub.Converse()
        await call.write(OPEN)
        await call.write(turn("   "))
        refused = (await until_over(call))[-1].event.failed
        await call.write(turn("and now?"))
        answered = (await until_over(call))[-1].event
        call.cancel()
    assert "empty" in refused.message
    assert answered.HasField("finished")


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        pytest.param([turn("too early")], grpc.StatusCode.INVALID_ARGUMENT, id="turn before open"),
        pytest.param([OPEN, OPEN], grpc.StatusCode.INVALID_ARGUMENT, id="open twice"),
        pytest.param([OPEN, *[turn("again")] * 12], grpc.StatusCode.RESOURCE_EXHAUSTED, id="too many turns wait"),
    ],
)
async def test_broken_order_ends_the_stream(start: Start, messages: list[Any], code: grpc.StatusCode) -> None:
    async with start(FakeWorker(silent=True)) as router:
        call = router.stub.Converse(iter(messages))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _all(call)
        assert caught.value.code() is code
        await router.in_flight(0)


async def test_client_that_leaves_stops_the_engine(start: Start) -> None:
    worker = FakeWorker(hold_after=1)
    async with start(worker) as router:
        call = router.stub.Converse()
        await call.write(OPEN)
        await call.write(turn("first"))
        await worker.started.get()
        call.cancel()
        async with asyncio.timeout(5):
            await worker.cancelled.get()
        await router.in_flight(0)


async def test_idle_conversation_does_not_hold_up_the_routers_stop(start: Start) -> None:
    async with start(FakeWorker(), drain_limit_s=60.0) as router:
        call = router.stub.Converse()
        await call.write(OPEN)
        await call.write(turn("first"))
        await until_over(call)
        router.stop.set()
        async with asyncio.timeout(10):
            assert await call.read() is grpc.aio.EOF
            await router.stopped
