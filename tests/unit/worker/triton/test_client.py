"""Calls to Triton that are cancelled: the cancellation goes on up, whatever error stands in its place."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc.aio
import pytest
from tritonclient.utils import InferenceServerException

from services.kit.settings.engines.triton import TritonSettings
from services.worker.engines.triton.client import TritonClient, connect


class LateCalls:
    """A Triton client whose calls fail with their own error when they are cancelled, as those of grpc may."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, None]]:
        async def call(*_: object, **__: object) -> None:
            try:
                self.called.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise InferenceServerException("connection lost", status="StatusCode.UNAVAILABLE") from None

        return call


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda client: client.unready("m", ""), id="ready"),
        pytest.param(lambda client: client.models(), id="models"),
        pytest.param(lambda client: client.describe("m", ""), id="describe"),
    ],
)
async def test_a_cancelled_call_ends_as_cancelled(ask: Callable[[TritonClient], Coroutine[Any, Any, object]]) -> None:
    late = LateCalls()
    asking = asyncio.create_task(ask(TritonClient(late, TritonSettings())))
    await late.called.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "http_proxy"):
        # Nobody listens there.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connect(TritonSettings(url=f"127.0.0.1:{port}")) as client:
            assert "Method not found" in await client.unready("m", "")
    finally:
        await server.stop(None)
