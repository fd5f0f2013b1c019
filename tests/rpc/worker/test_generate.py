"""One request on a stream of its own."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from services.kit.errors import from_rpc
from services.kit.settings.engines.sim import SimSettings
from tests.rpc.worker.harness import ENDLESS, attached, running_worker
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with running_worker(max_running=1, max_waiting=0, sim=SimSettings(ttft_ms=3.0, itl_ms=2.0)) as worker:
        yield worker.address


def ask(text: str = "hello", **sampling: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        prompt=pb.Prompt(text=text),
        sampling=chat_pb2.Sampling(**sampling),  # type: ignore[arg-type]
    )


async def events_of(address: str, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    async with grpc.aio.insecure_channel(address) as channel:
        return [event async for event in worker_pb2_grpc.WorkerServiceStub(channel).Generate(request)]


async def test_started_then_deltas_then_ended(address: str) -> None:
    events = await events_of(address, ask(max_tokens=5))
    assert [event.WhichOneof("event") for event in events] == ["started", *["delta"] * 5, "ended"]
    assert [event.delta.index for event in events[1:-1]] == [0, 1, 2, 3, 4]
    assert events[-1].ended.finish.usage.completion_tokens == 5
    ids = [event.delta.token_ids[0] for event in events[1:-1]]

    resumed = ask(max_tokens=5)
    resumed.resume_token_ids.extend(ids[:3])
    rest = await events_of(address, resumed)
    assert [event.delta.token_ids[0] for event in rest[1:-1]] == ids[3:]


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        pytest.param(pb.GenerateRequest(), grpc.StatusCode.INVALID_ARGUMENT, "prompt", id="no-prompt"),
        pytest.param(ask(top_p=0.0), grpc.StatusCode.INVALID_ARGUMENT, "sampling.top_p", id="out-of-range"),
        pytest.param(
            pb.GenerateRequest(model="gpt", prompt=pb.Prompt(text="a")), grpc.StatusCode.NOT_FOUND, "model", id="model"
        ),
    ],
)
async def test_errors_are_the_calls_status(
    address: str, request_: pb.GenerateRequest, code: grpc.StatusCode, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await events_of(address, request_)
    assert caught.value.code() is code
    assert from_rpc(caught.value).field == field


async def test_a_full_worker_refuses(address: str) -> None:
    async with attached(address) as link:
        await link.start(1, max_tokens=ENDLESS)
        await link.tokens(1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events_of(address, ask())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("timeout_s", [None, 0.4], ids=["cancelled", "deadline"])
async def test_leaving_the_call_stops_the_engine(address: str, timeout_s: float | None) -> None:
    async with attached(address) as link, grpc.aio.insecure_channel(address) as channel:
        call = worker_pb2_grpc.WorkerServiceStub(channel).Generate(ask(max_tokens=ENDLESS), timeout=timeout_s)
        await call.read()
        await link.until(lambda link: link.load.running == 1)
        begun_s = asyncio.get_running_loop().time()
        if timeout_s is None:
            call.cancel()
            timeout_s = 0.0
        await link.until(lambda link: link.load.running == 0)
        # The link hears of it with the next reading of the load, at most 100 ms later.
        assert asyncio.get_running_loop().time() - begun_s < timeout_s + 0.3
