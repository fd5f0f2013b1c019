"""One embedder of a pool: one watch each, which ends when it is closed, whatever its call raises then."""

import asyncio

import grpc
import grpc.aio
import pytest

from services.kit.embedding.replica import Replica
from services.kit.settings.shared import GrpcSettings


class LateStub:
    """Calls that fail with their own error when they are cancelled."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()

    async def GetModel(self, *_: object, **__: object) -> None:
        self.calls += 1
        self.called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            empty = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, "connection lost") from None


@pytest.fixture
async def replica() -> Replica:
    return Replica("127.0.0.1:1", "", GrpcSettings(), asyncio.get_running_loop().time, lambda *_: True, lambda: None)


async def test_it_is_watched_once(replica: Replica) -> None:
    watches = [task for task in asyncio.all_tasks() if task.get_name() == "embedder-127.0.0.1:1"]
    assert len(watches) == 1
    await replica.close()
    assert all(task.done() for task in watches)


async def test_it_closes_though_its_call_raises_something_else(replica: Replica) -> None:
    replica.stub = late = LateStub()  # type: ignore[assignment] # as much of the stub as is called
    await late.called.wait()
    async with asyncio.timeout(5.0):
        await replica.close()
    assert late.calls == 1
