"""A batcher around a fake model, and MiniLM built once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.embedder.batcher import Batcher
from services.embedder.metrics import EmbedderMetrics
from services.embedder.models.minilm.load import load_minilm
from services.embedder.models.minilm.model import MiniLM
from services.embedder.ports import Tokens
from services.embedder.waiting import Job, WaitingTexts
from services.kit.clock import monotonic_s
from tests.fakes.embedding_model import FakeModel


class WatchedTexts(WaitingTexts):
    """Tells a test when texts have arrived."""

    def __init__(self, max_passages: int, max_queries: int) -> None:
        super().__init__(max_passages, max_queries)
        self._arrived = asyncio.Event()

    def put(self, tokens: Tokens, query: bool) -> Job:
        job = super().put(tokens, query)
        self._arrived.set()
        return job

    async def reaches(self, texts: int) -> None:
        """Returns once that many tokenised texts wait."""
        while len(self.passages.jobs) + len(self.queries.jobs) < texts:
            self._arrived.clear()
            await self._arrived.wait()


@dataclass
class Bench:
    """One worker, a queue of ten passages and five queries, batches of 100 words."""

    model: FakeModel
    waiting: WatchedTexts
    batcher: Batcher
    registry: CollectorRegistry

    async def busy(self) -> None:
        """Returns once a batch stands at the gate."""
        assert await asyncio.to_thread(self.model.entered.acquire, timeout=10)

    def reading(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    model, waiting, registry = FakeModel(), WatchedTexts(10, 5), CollectorRegistry()
    batcher = Batcher(model, waiting, 100, 1, EmbedderMetrics(registry), monotonic_s)
    async with batcher:
        try:
            yield Bench(model, waiting, batcher, registry)
        finally:
            model.gate.set()


@pytest.fixture(scope="session")
def minilm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the model's file in it."""
    folder = tmp_path_factory.mktemp("minilm")
    asyncio.run(load_minilm(folder))
    return folder


@pytest.fixture(scope="session")
def minilm(minilm_dir: Path) -> MiniLM:
    return asyncio.run(load_minilm(minilm_dir))
