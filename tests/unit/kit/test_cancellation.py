"""A cancellation goes before whatever error the cancelled call raises in its stead."""

import asyncio

import pytest

from services.kit.cancellation import heed_cancellation


async def test_a_cancelled_task_ends_though_its_call_raises_something_else() -> None:
    waits = asyncio.Event()

    async def reads() -> None:
        try:
            waits.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the call failed") from None

    async def run() -> None:
        while True:
            try:
                await reads()
            except ConnectionError as error:
                heed_cancellation(error)

    task = asyncio.create_task(run())
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_without_a_cancellation_is_left_alone() -> None:
    heed_cancellation(ConnectionError())
