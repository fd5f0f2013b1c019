"""What happens at the seams: hedges whose clients leave, workers with two names or addresses, queues with nobody."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2

from tests.fakes import worker as fake_worker
from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import Router, Start, free_port
from tests.rpc.router.test_chat import events, kinds, text_of
from tests.rpc.router.test_failover import queued
from weft.router.v1 import router_pb2
from weft.worker.v1 import worker_pb2


async def first_token(call: Any) -> None:
    """Returns at the first tokens."""
    async with asyncio.timeout(10):
        while not (await call.read()).HasField("tokens"):
            continue


async def announce(router: Router, worker: FakeWorker) -> None:
    """The worker says where it is."""
    request = router_pb2.RegisterWorkerRequest(worker_id=worker.worker_id, address=worker.address)
    await router.stub.RegisterWorker(request)


async def test_hedge_that_won_is_stopped_when_its_client_leaves(start: Start) -> None:
    silent, quick = FakeWorker("w1", silent=True), FakeWorker("w2", hold_after=2)
    async with start(silent, quick, failover={"hedge_after_s": 0.1}) as router:
        call = router.chat()
        await first_token(call)
        call.cancel()
        async with asyncio.timeout(5):
            await silent.cancelled.get()
            await quick.cancelled.get()
        await router.in_flight(0)


async def test_probe_that_a_hedge_beat_is_not_the_last(start: Start) -> None:
    broken = worker_pb2.Failure(code=code_pb2.INTERNAL, reason="ENGINE_BROKE", message="the engine broke")
    bad, good = FakeWorker("w1", refuse=broken), FakeWorker("w2")
    limits = {"breaker_failures": 1, "breaker_open_s": 0.1, "hedge_after_s": 0.05, "hedge_per_s": 100.0}
    async with start(bad, good, failover=limits | {"check_every_s": 0.02}, policy="round_robin") as router:
        while not bad.starts:
            await events(router.chat())
        # Well again, but too slow for the probe that comes next.
        bad.refuse, bad.silent = None, True
        probes = len(bad.starts) + 2
        async with asyncio.timeout(20):
            while len(bad.starts) < probes:
                assert text_of(await events(router.chat())) == "once upon a time"


async def test_away_stays_away_for_newcomers_though_somebody_waits(start: Start) -> None:
    dying = FakeWorker("w1", die_after=2)
    async with start(dying, failover={"recover_wait_s": 3.0}) as router:
        call = router.chat()
        await first_token(call)
        # It comes back as somebody else, so that the begun answer waits for a worker that never comes.
        dying.worker_id, dying.model = "other", "other"
        await queued(router, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events(router.chat(model="tale"))
        call.cancel()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_listed_worker_that_also_announces_itself_serves_once(start: Start) -> None:
    port = free_port()
    async with start(workers=[f"127.0.0.1:{port}"]) as router:
        late = FakeWorker("w9", address=f"127.0.0.1:{port}")
        await announce(router, late)
        async with fake_worker.listening(late, port):
            rows = await router.serving("w9")
    assert [row.worker_id for row in rows] == ["w9"]


async def test_old_address_that_answers_again_does_not_take_the_worker_down(start: Start) -> None:
    port = free_port()
    moved, ghost = FakeWorker("w1", incarnation="second"), FakeWorker("w1")
    async with start(workers=[f"127.0.0.1:{port}"], register_every_s=0.2) as router:
        async with fake_worker.listening(FakeWorker("w1"), port):
            await router.serving("w1")
        await router.serving("w1", state=router_pb2.Worker.STATE_AWAY)
        async with fake_worker.listening(moved):
            await announce(router, moved)
            await router.serving("w1")
            async with fake_worker.listening(ghost, port), asyncio.timeout(10):
                await ghost.attached.wait()
            for _ in range(5):
                assert text_of(await events(router.chat())) == "once upon a time"
    assert len(moved.starts) == 5


async def test_those_who_need_a_certain_worker_hold_up_nobody_else(start: Start) -> None:
    old = FakeWorker("w1", fingerprint="x", max_running=40, hold_after=1)
    new = FakeWorker("w2", fingerprint="y", max_running=40)
    async with start(failover={"recover_wait_s": 60.0}) as router, fake_worker.listening(new):
        async with fake_worker.listening(old):
            await announce(router, old)
            await router.serving("w1")
            calls = [router.chat() for _ in range(20)]
            for call in calls:
                await first_token(call)
            await announce(router, new)
            await router.serving("w1", "w2")
        await router.serving("w2")
        await queued(router, 20)
        async with asyncio.timeout(10):
            assert text_of(await events(router.chat())) == "once upon a time"
        for call in calls:
            call.cancel()


async def test_deadline_while_an_answer_waits_to_go_on_is_an_end(start: Start) -> None:
    dying = FakeWorker("w1", die_after=2)
    async with start(dying, failover={"recover_wait_s": 30.0}) as router:
        call = router.chat(within_s=1.0)
        await first_token(call)
        dying.model = "other"
        found = []
        while (event := await call.read()) is not grpc.aio.EOF:
            found.append(event)
    assert kinds(found)[-1] == "finished"


async def test_models_that_callers_make_up_are_no_labels(start: Start) -> None:
    async with start(FakeWorker()) as router:
        for number in range(5):
            with pytest.raises(grpc.aio.AioRpcError):
                await events(router.chat(model=f"nobody-{number}"))
        page = await router.metrics()
    assert "nobody" not in page
    assert 'weft_answers_total{model="",outcome="not_found"} 5.0' in page


async def test_body_over_the_limit_is_refused_unread(start: Start) -> None:
    from google.api.httpbody_pb2 import HttpBody

    async with start(FakeWorker(), max_prompt_bytes=1000) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.openai.CreateChatCompletion(HttpBody(data=b"[" * 200_000)).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "bytes" in (caught.value.details() or "")
