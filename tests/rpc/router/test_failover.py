"""Queue, hung workers, drain and breaker as clients see them."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2

from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import Router, Start
from tests.rpc.router.test_chat import events, kinds, text_of
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2
from weft.worker.v1 import worker_pb2


async def queued(router: Router, count: int) -> None:
    """Waits until so many requests wait in the router."""
    async with asyncio.timeout(5):
        while True:
            models = (await router.stub.ListModels(router_pb2.ListModelsRequest())).models
            if sum(model.queued_requests for model in models) == count:
                return
            await asyncio.sleep(0)


async def test_request_waits_its_turn_and_hears_of_it(start: Start) -> None:
    worker = FakeWorker(max_running=1, max_waiting=0, hold_after=1)
    async with start(worker, progress_every_s=0.1) as router:
        first = asyncio.ensure_future(events(router.chat("first")))
        await worker.started.get()
        call = router.chat("second")
        told = await call.read()
        progress = await call.read()
        worker.go.set()
        rest = []
        while (event := await call.read()) is not grpc.aio.EOF:
            rest.append(event)
        assert text_of(await first) == "once upon a time"
    assert (told.accepted.worker_id, told.accepted.queue_position) == ("", 1)
    assert (progress.progress.stage, progress.progress.queue_position) == (router_pb2.Progress.STAGE_QUEUED, 1)
    assert text_of(rest) == "once upon a time"


async def test_person_goes_before_batch_work_and_tenants_take_turns(start: Start) -> None:
    worker = FakeWorker(max_running=1, max_waiting=0, hold_after=0)
    async with start(worker) as router:
        calls = [asyncio.ensure_future(events(router.chat("running")))]
        await worker.started.get()
        asked = [
            ("b1", {"priority": router_pb2.PRIORITY_BATCH}),
            ("a1", {"tenant": "a"}),
            ("a2", {"tenant": "a"}),
            ("c1", {"tenant": "c"}),
            ("p1", {"priority": router_pb2.PRIORITY_INTERACTIVE}),
        ]
        for waiting, (name, fields) in enumerate(asked, 1):
            calls.append(asyncio.ensure_future(events(router.chat(name, **fields))))
            await queued(router, waiting)
        worker.go.set()
        await asyncio.gather(*calls)
    order = [s.prompt.conversation.messages[0].content for s in worker.starts]
    assert order == ["running", "p1", "a1", "c1", "a2", "b1"]


async def test_wait_that_is_too_long_ends_with_a_delay(start: Start) -> None:
    worker = FakeWorker(max_running=1, max_waiting=0, silent=True)
    async with start(worker, queue={"wait_s": 0.2}) as router:
        first = router.chat()
        await worker.started.get()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events(router.chat())
        first.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "had room" in (caught.value.details() or "")


async def test_client_that_leaves_the_queue_leaves_nothing_behind(start: Start) -> None:
    worker = FakeWorker(max_running=1, max_waiting=0, hold_after=1)
    async with start(worker) as router:
        first = asyncio.ensure_future(events(router.chat("first")))
        await worker.started.get()
        second = router.chat("second")
        await queued(router, 1)
        second.cancel()
        await queued(router, 0)
        worker.go.set()
        await first
        await router.in_flight(0)
    assert len(worker.starts) == 1


async def test_hung_worker_loses_its_answers_and_gets_no_new_ones(start: Start) -> None:
    hung, living = FakeWorker("w1", hold_after=2, steps=False), FakeWorker("w2")
    limits = {"stall_s": 0.4, "silent_s": 10.0, "check_every_s": 0.05}
    async with start(hung, living, failover=limits) as router:
        found = await events(router.chat())
        await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        again = await events(router.chat())
        async with asyncio.timeout(5):
            await hung.cancelled.get()
    assert kinds(found) == ["accepted", "tokens", "moved", "tokens", "finished"]
    assert text_of(found) == "once upon a time"
    assert "hangs" in next(event.moved.reason for event in found if event.HasField("moved"))
    assert again[0].accepted.worker_id == "w2"


async def test_worker_that_steps_is_busy_and_not_hung(start: Start) -> None:
    busy = FakeWorker("w1", hold_after=2, steps=True)
    limits = {"stall_s": 0.3, "silent_s": 10.0, "check_every_s": 0.05}
    async with start(busy, FakeWorker("w2"), failover=limits) as router:
        call = router.chat()
        while not (await call.read()).HasField("tokens"):
            continue
        seen: set[Any] = set()
        watch = router.stub.WatchWorkers(router_pb2.WatchWorkersRequest())
        for _ in range(6):
            seen |= {w.state for w in (await watch.read()).workers}
        watch.cancel()
        busy.go.set()
        rest = []
        while (event := await call.read()) is not grpc.aio.EOF:
            rest.append(event)
    assert seen == {router_pb2.Worker.STATE_SERVING}
    assert "moved" not in kinds(rest)


async def test_what_a_drained_worker_still_has_moves_at_the_limit(start: Start) -> None:
    leaving, staying = FakeWorker("w1", hold_after=2), FakeWorker("w2")
    async with start(leaving, staying, failover={"worker_drain_limit_s": 0.1}) as router:
        call = asyncio.ensure_future(events(router.chat()))
        await leaving.started.get()
        await router.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id="w1"))
        found = await call
    assert kinds(found) == ["accepted", "tokens", "moved", "tokens", "finished"]
    assert text_of(found) == "once upon a time"


async def test_only_worker_may_come_back_and_go_on(start: Start) -> None:
    once = FakeWorker("w1", die_once_after=2)
    async with start(once) as router:
        found = await events(router.chat())
    assert text_of(found) == "once upon a time"
    assert kinds(found) == ["accepted", "tokens", "moved", "tokens", "finished"]


async def test_worker_that_keeps_failing_is_left_alone_for_a_while(start: Start) -> None:
    broken = worker_pb2.Failure(code=code_pb2.INTERNAL, reason="ENGINE_BROKE", message="the engine broke")
    bad, good = FakeWorker("w1", refuse=broken), FakeWorker("w2", hold_after=0)
    async with start(bad, good, failover={"breaker_failures": 2, "breaker_open_s": 60.0}) as router:
        # The good worker is the busier one, so that the bad one is asked first each time.
        calls = [asyncio.ensure_future(events(router.chat(f"{n}"))) for n in range(6)]
        await router.serving("w1", state=router_pb2.Worker.STATE_SUSPECT)
        good.go.set()
        answers = await asyncio.gather(*calls)
        before = len(bad.starts)
        await events(router.chat())
    assert {text_of(found) for found in answers} == {"once upon a time"}
    assert len(bad.starts) == before


async def test_retries_over_the_budget_fail_rather_than_multiply_the_load(start: Start) -> None:
    broken = worker_pb2.Failure(code=code_pb2.INTERNAL, reason="ENGINE_BROKE", message="the engine broke")
    workers = [FakeWorker(f"w{n}", refuse=broken) for n in range(3)]
    limits = {"retry_share": 0.0, "retry_per_s": 0.2, "retry_window_s": 10.0, "breaker_failures": 1000}
    async with start(*workers, failover=limits) as router:
        for _ in range(10):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await events(router.chat())
            assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert sum(len(worker.starts) for worker in workers) == 10 + 2


async def test_penalties_are_not_resumed_where_they_would_be_counted_wrongly(start: Start) -> None:
    dying, living = FakeWorker("w1", die_after=2), FakeWorker("w2")
    limits = {"recover_wait_s": 0.0}
    async with start(dying, living, failover=limits) as router:
        found = await events(router.chat(sampling=chat_pb2.Sampling(presence_penalty=0.5)))
    assert kinds(found) == ["accepted", "tokens", "failed"]
    assert not living.starts


async def test_silent_worker_is_hedged_and_the_loser_is_cancelled(start: Start) -> None:
    silent, quick = FakeWorker("w1", silent=True), FakeWorker("w2")
    async with start(silent, quick, failover={"hedge_after_s": 0.1}) as router:
        found = await events(router.chat())
        async with asyncio.timeout(5):
            await silent.cancelled.get()
        await router.in_flight(0)
    assert kinds(found) == ["accepted", "tokens", "finished"]
    assert text_of(found) == "once upon a time"
    assert (found[-1].finished.worker_id, found[-1].finished.attempts) == ("w2", 2)


async def test_hedge_that_comes_second_is_cancelled(start: Start) -> None:
    slow, slower = FakeWorker("w1", hold_after=0), FakeWorker("w2", silent=True)
    async with start(slow, slower, failover={"hedge_after_s": 0.1}) as router:
        call = asyncio.ensure_future(events(router.chat()))
        async with asyncio.timeout(5):
            await slower.started.get()
            slow.go.set()
            await slower.cancelled.get()
        found = await call
        await router.in_flight(0)
    assert text_of(found) == "once upon a time"
    assert found[-1].finished.worker_id == "w1"


async def test_hedge_takes_over_where_the_first_worker_dies(start: Start) -> None:
    dying, living = FakeWorker("w1", hold_after=0, die_after=0), FakeWorker("w2", hold_after=0)
    async with start(dying, living, failover={"hedge_after_s": 0.1}) as router:
        call = asyncio.ensure_future(events(router.chat()))
        async with asyncio.timeout(5):
            await living.started.get()
        dying.go.set()
        living.go.set()
        found = await call
        await router.in_flight(0)
    assert text_of(found) == "once upon a time"
    assert len(living.starts) == 1


async def test_hedges_over_their_budget_are_not_made(start: Start) -> None:
    silent, quick = FakeWorker("w1", hold_after=0), FakeWorker("w2")
    limits = {"hedge_after_s": 0.05, "hedge_share": 0.0, "hedge_per_s": 0.0}
    async with start(silent, quick, failover=limits, progress_every_s=0.2) as router:
        call = router.chat()
        seen = []
        while len(kinds(seen)) < 2:
            seen.append(await call.read())
        silent.go.set()
        while (event := await call.read()) is not grpc.aio.EOF:
            seen.append(event)
    assert kinds(seen) == ["accepted", "progress", "tokens", "finished"]
    assert not quick.starts
