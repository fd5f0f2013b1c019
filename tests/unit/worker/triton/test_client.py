"""Calls to Triton that are cancelled: the cancellation goes on up, whatever error stands in its place."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from services.kit.settings.engines.triton import TritonSettings
from services.worker.engines.triton.client import TritonClient


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
