"""The worker table as operators and workers see it: registration, restarts, drain, explanations."""

import asyncio

import grpc
import grpc.aio
import pytest

from tests.fakes import worker as fake_worker
from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import Start, free_port
from weft.router.v1 import router_pb2


async def register(router: object, worker_id: str, address: str) -> router_pb2.RegisterWorkerResponse:
    request = router_pb2.RegisterWorkerRequest(worker_id=worker_id, address=address)
    return await router.stub.RegisterWorker(request)  # type: ignore[attr-defined,no-any-return] # a fixture's object


async def test_worker_that_announces_itself_is_dialled_back(start: Start) -> None:
    async with fake_worker.listening(FakeWorker("late")) as worker, start(register_every_s=1.5) as router:
        answer = await register(router, "late", worker.address)
        await router.serving("late")
    assert answer.repeat_after.ToTimedelta().total_seconds() == 1.5
    assert answer.router_id == "router"


async def test_restarted_worker_is_found_again_and_counted(start: Start) -> None:
    port = free_port()
    async with start() as router:
        async with fake_worker.listening(FakeWorker("w1"), port) as worker:
            await register(router, "w1", worker.address)
            await router.serving("w1")
        away = await router.serving("w1", state=router_pb2.Worker.STATE_AWAY)
        async with fake_worker.listening(FakeWorker("w1", incarnation="second"), port):
            back = await router.serving("w1")
    assert away[0].state_reason
    assert (back[0].restarts, back[0].incarnation) == (1, "second")


@pytest.mark.parametrize(
    ("worker_id", "address", "code", "word"),
    [
        pytest.param("w 1", "127.0.0.1:1", grpc.StatusCode.INVALID_ARGUMENT, "worker_id", id="id"),
        pytest.param("w1", "127.0.0.1", grpc.StatusCode.INVALID_ARGUMENT, "host:port", id="no port"),
        pytest.param("w1", "127.0.0.1:99999", grpc.StatusCode.INVALID_ARGUMENT, "host:port", id="port too high"),
        pytest.param("w1", "unix:/tmp/x:1", grpc.StatusCode.INVALID_ARGUMENT, "host:port", id="not a host"),
        pytest.param("w1", "192.0.2.1:1", grpc.StatusCode.PERMISSION_DENIED, "allowed_worker_hosts", id="host"),
        pytest.param("w1", "127.0.0.1:2", grpc.StatusCode.INVALID_ARGUMENT, "another worker", id="id is taken"),
    ],
)
async def test_announcement_that_cannot_be_taken(
    start: Start, worker_id: str, address: str, code: grpc.StatusCode, word: str
) -> None:
    async with start(FakeWorker("w1")) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await register(router, worker_id, address)
    assert caught.value.code() is code
    assert word in (caught.value.details() or "")


async def test_table_that_is_full_takes_no_more(start: Start) -> None:
    async with start(FakeWorker("w1"), max_workers=1) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await register(router, "w2", "127.0.0.1:1")
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_networks_may_be_allowed(start: Start) -> None:
    async with start(allowed_worker_hosts=["192.0.2.0/24"]) as router:
        assert (await register(router, "w1", "192.0.2.9:1")).router_id


async def test_drained_worker_gets_no_more_and_finishes_what_it_has(start: Start) -> None:
    one, two = FakeWorker("w1", hold_after=1), FakeWorker("w2")
    async with start(one, two) as router:
        under_way = router.chat()
        await one.started.get()
        drained = await router.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id="w1"))
        for _ in range(3):
            assert [event async for event in router.chat()][-1].finished.worker_id == "w2"
        explained = await router.stub.ExplainPick(router_pb2.ExplainPickRequest())
        one.go.set()
        last = [event async for event in under_way][-1].finished
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await router.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id="nobody"))
    assert drained.in_flight == 1
    assert last.worker_id == "w1"
    assert explained.worker_id == "w2"
    assert {c.worker_id: c.lost_because for c in explained.candidates} == {"w2": "", "w1": "drained by an operator"}
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "w1, w2" in (caught.value.details() or "")


async def test_round_robin_takes_turns(start: Start) -> None:
    async with start(FakeWorker("w1"), FakeWorker("w2"), policy="round_robin") as router:
        served = [[event async for event in router.chat()][-1].finished.worker_id for _ in range(4)]
    assert served == ["w1", "w2", "w1", "w2"]


async def test_models_are_listed_with_their_workers(start: Start) -> None:
    async with start(FakeWorker("w1", model="tale"), FakeWorker("w2", model="poem")) as router:
        await router.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id="w2"))
        found = (await router.stub.ListModels(router_pb2.ListModelsRequest())).models
        one = (await router.stub.ListWorkers(router_pb2.ListWorkersRequest(model="poem"))).workers
    assert [(m.name, m.serving_workers, m.known_workers, m.context_tokens) for m in found] == [
        ("poem", 0, 1, 4096),
        ("tale", 1, 1, 4096),
    ]
    assert [w.worker_id for w in one] == ["w2"]


async def test_watch_shows_a_change_without_being_asked(start: Start) -> None:
    async with start(FakeWorker("w1")) as router:
        watch = router.stub.WatchWorkers(router_pb2.WatchWorkersRequest())
        async with asyncio.timeout(5):
            first = await watch.read()
            await router.stub.DrainWorker(router_pb2.DrainWorkerRequest(worker_id="w1"))
            while (table := await watch.read()).workers[0].state != router_pb2.Worker.STATE_DRAINING:
                continue
        watch.cancel()
    assert first.workers[0].state == router_pb2.Worker.STATE_SERVING
    assert table.workers[0].state_reason == "drained by an operator"
