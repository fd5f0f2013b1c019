"""What is logged while a router is away: each change once, however many tries there are."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog

from services.kit.settings.shared import GrpcSettings
from services.worker.registration import Registration
from tests.fakes.router import FakeRouter, serve_router
from weft.router.v1 import router_pb2_grpc

METADATA = grpc.aio.Metadata()


class HeardLog(structlog.testing.LogCapture):
    """Collects log lines and wakes whoever waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def __call__(self, *line: Any) -> Any:
        self._changed.set()
        return super().__call__(*line)

    async def heard(self, event: str) -> None:
        while not any(entry["event"] == event for entry in self.entries):
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
def log() -> Iterator[HeardLog]:
    heard = HeardLog()
    structlog.configure(processors=[heard])
    yield heard
    structlog.reset_defaults()


async def test_a_change_is_logged_once(log: HeardLog) -> None:
    first, back = FakeRouter(repeat_after_s=0.01), FakeRouter(repeat_after_s=0.01)
    async with serve_router(first) as port:
        registration = Registration(f"127.0.0.1:{port}", "w-1", "127.0.0.1:5", GrpcSettings())
        task = asyncio.create_task(registration.run())
        await first.heard(3)
    await log.heard("router away")
    async with serve_router(back, port):
        await back.heard(3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [entry["event"] for entry in log.entries] == ["registered", "router away", "registered"]


async def test_a_cancellation_that_meets_a_failure_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    class Failing:
        """Its call fails at the moment at which it is cancelled, as grpc.aio's may."""

        def __init__(self, channel: object) -> None:
            """Takes a channel as the real one does."""

        async def RegisterWorker(self, request: object, timeout: float) -> None:
            try:
                asked.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, METADATA, METADATA) from None

    monkeypatch.setattr(router_pb2_grpc, "RouterServiceStub", Failing)
    task = asyncio.create_task(Registration("127.0.0.1:1", "w-1", "127.0.0.1:5", GrpcSettings()).run())
    await asked.wait()
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
