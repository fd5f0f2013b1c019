"""Readiness follows models in other processes, and one of several that is away costs the others nothing."""

import asyncio
from dataclasses import replace

import pytest

from services.embedder.models.threads import ThreadedModel
from services.embedder.ports import BatchLimits
from services.embedder.vigil import Vigil
from tests.fakes.embedding_model import FakeModel


class Elsewhere(ThreadedModel):
    """A model that is away while `why` says so."""

    def __init__(self, name: str = "one") -> None:
        network = FakeModel()
        network.info = replace(network.info, name=name)
        super().__init__(network, BatchLimits(512, 256, 1))
        self.why = ""

    async def why_away(self) -> str:
        return self.why


async def test_one_away_is_told_and_told_again_when_it_is_back() -> None:
    model = Elsewhere()
    vigil = Vigil([model], check_s=0.01)
    told: asyncio.Queue[bool] = asyncio.Queue()
    task = asyncio.create_task(vigil.keep(told.put))
    try:
        async with asyncio.timeout(10):
            model.why = "its server is away"
            assert await told.get() is False
            assert vigil.reason == "its server is away"
            model.why = ""
            assert await told.get() is True
            assert vigil.reason == ""
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await model.close()
    assert told.empty()


async def test_while_one_of_two_works_the_embedder_is_ready() -> None:
    here, away = Elsewhere("one"), Elsewhere("two")
    away.why = "its server is away"
    vigil = Vigil([here, away], check_s=0.01)
    await vigil.check()
    assert vigil.reason == ""
    here.why = "this one too"
    await vigil.check()
    assert vigil.reason == "this one too; its server is away"
    for model in (here, away):
        await model.close()
