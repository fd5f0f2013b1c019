"""How long to wait before trying again: a worker's word for it reaches the client, within the router's own bounds."""

import math

import grpc
import grpc.aio
import pytest
from google.rpc import code_pb2

from services.kit.errors import from_rpc, seconds_to_duration
from services.kit.settings.engines.openai import OpenAISettings
from tests.fakes.openai_server import fake_upstream, json_answer
from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import BOTH_WAYS, Start
from tests.rpc.router.test_chat import events
from tests.rpc.worker.harness import running_worker
from weft.router.v1 import router_pb2
from weft.worker.v1 import worker_pb2

OWN_S = 3.0
LIMITS = {"no_worker_retry_s": OWN_S, "queue": {"wait_s": 0.2}, "failover": {"recover_wait_s": 0.0}}


@pytest.mark.parametrize(
    ("told_s", "least_s", "most_s"),
    [
        pytest.param(20.0, 15.0, 20.0, id="known"),
        pytest.param(3600.0, 60.0, 60.0, id="longer-than-any-client-should-wait"),
        pytest.param(0.0, 1.0, 1.0, id="at-once"),
        pytest.param(None, OWN_S, OWN_S, id="nothing-said"),
    ],
)
@BOTH_WAYS
async def test_a_workers_delay_is_the_clients(
    start: Start, told_s: float | None, least_s: float, most_s: float
) -> None:
    delay = None if told_s is None else seconds_to_duration(told_s)
    failure = worker_pb2.Failure(code=code_pb2.UNAVAILABLE, reason="UPSTREAM", message="not now", retry_delay=delay)
    async with start(FakeWorker(refuse=failure), **LIMITS) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events(router.chat())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    delay_s = from_rpc(caught.value).retry_delay_s
    assert delay_s is not None
    assert least_s <= delay_s <= most_s
    assert dict(caught.value.trailing_metadata() or ())["retry-after"] == str(math.ceil(delay_s))


async def test_the_worker_that_failed_last_has_the_last_word(start: Start) -> None:
    """What was said of another worker is no reason to stay away from this one."""
    away = worker_pb2.Failure(code=code_pb2.UNAVAILABLE, message="not now", retry_delay=seconds_to_duration(50.0))
    gone = worker_pb2.Failure(code=code_pb2.UNAVAILABLE, message="gone")
    async with start(
        FakeWorker("w1", refuse=away), FakeWorker("w2", refuse=gone), policy="round_robin", **LIMITS
    ) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events(router.chat())
    assert caught.value.details() == "gone"
    assert from_rpc(caught.value).retry_delay_s == OWN_S


@pytest.mark.parametrize(
    ("status", "code"),
    [
        pytest.param(429, grpc.StatusCode.RESOURCE_EXHAUSTED, id="full"),
        pytest.param(503, grpc.StatusCode.UNAVAILABLE, id="away"),
    ],
)
async def test_an_upstreams_retry_after_goes_all_the_way(start: Start, status: int, code: grpc.StatusCode) -> None:
    async with fake_upstream() as upstream:
        upstream.answers["/v1/chat/completions"] = json_answer({"error": "not now"}, status, retry_after="25")
        openai = OpenAISettings(base_url=upstream.url)
        async with (
            running_worker(engine="openai", openai=openai, worker_id="w1", context_tokens=4096) as worker,
            start(**LIMITS) as router,
        ):
            request = router_pb2.RegisterWorkerRequest(worker_id="w1", address=worker.address)
            await router.stub.RegisterWorker(request)
            await router.serving("w1")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await events(router.chat())
    assert caught.value.code() is code
    delay_s = from_rpc(caught.value).retry_delay_s
    assert delay_s is not None
    assert 20.0 <= delay_s <= 25.0
