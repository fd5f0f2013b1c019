"""A Triton that is late or away, with a model that died meanwhile: its word that it is ready is not enough."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.worker.engines.triton.client import StreamError
from services.worker.engines.triton.engine import TritonEngine
from services.worker.engines.triton.prompts import Prompts
from tests.unit.worker.collector import Collector
from tests.unit.worker.triton.test_full import ABOUT, CONTRACT


class LateClient:
    """As much of the client as asking needs; `said` is each stream's error, or none for one that answers."""

    url = "triton:8001"

    def __init__(self) -> None:
        self.late = False
        self.said = ""

    async def unready(self, model: str, version: str) -> str:
        if self.late:
            raise TimeoutError(f"Triton at {self.url} does not answer")
        return ""

    @asynccontextmanager
    async def stream(self, *_: object) -> AsyncIterator[AsyncIterator[object]]:
        async def answers() -> AsyncIterator[object]:
            if self.said:
                raise StreamError(self.said)
            yield object()

        yield answers()


async def test_a_model_that_died_during_an_outage_stays_broken() -> None:
    client, sink = LateClient(), Collector()
    engine = TritonEngine(ABOUT, CONTRACT, client, Prompts(None, None), "", sink)  # type: ignore[arg-type] # as above
    client.late = True
    await engine.ask()
    assert engine.load().broken == "Triton at triton:8001 does not answer"
    client.late, client.said = False, "Stub process 'm_0_0' is not healthy."
    await engine.ask()
    assert "has died" in engine.load().broken
    client.said = ""
    await engine.ask()
    assert not engine.load().broken
    await engine.close()
