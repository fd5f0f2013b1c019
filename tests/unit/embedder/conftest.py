"""A batcher around a fake model, and MiniLM built once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.embedder.batcher import Batcher
from services.embedder.cache import VectorCache
from services.embedder.catalogue import Catalogue
from services.embedder.metrics import EmbedderMetrics
from services.embedder.models.minilm.load import load_minilm
from services.embedder.models.onnx.network import OnnxNetwork
from services.embedder.models.threads import ThreadedModel
from services.embedder.ports import BatchLimits, Prepared
from services.embedder.waiting import Job, WaitingTexts
from services.kit.clock import monotonic_s
from tests.fakes.embedding_model import FakeModel


class WatchedTexts(WaitingTexts):
    """Tells a test when texts have arrived."""

    def __init__(self, max_passages: int, max_queries: int) -> None:
        super().__init__(max_passages, max_queries)
        self._arrived = asyncio.Event()

    def prepared(self, jobs: Sequence[Job], found: Sequence[Prepared]) -> None:
        super().prepared(jobs, found)
        self._arrived.set()

    async def reaches(self, texts: int) -> None:
        """Returns once that many tokenised texts wait."""
        while len(self.passages.ready) + len(self.queries.ready) < texts:
            self._arrived.clear()
            await self._arrived.wait()


@dataclass
class Bench:
    """One worker, a queue of ten passages and five queries, batches of 100 words."""

    model: FakeModel
    waiting: WatchedTexts
    batcher: Batcher
    registry: CollectorRegistry
    catalogue: Catalogue

    async def busy(self) -> None:
        """Returns once a batch stands at the gate."""
        assert await asyncio.to_thread(self.model.entered.acquire, timeout=10)

    def reading(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, {"model": self.model.info.name, **labels}) or 0.0


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    model, waiting, registry = FakeModel(), WatchedTexts(10, 5), CollectorRegistry()
    metrics = EmbedderMetrics(registry)
    threaded = ThreadedModel(model, BatchLimits(100, 256, 1))
    # Without a cache, so that every text reaches the model; those with one make their own.
    batcher = Batcher(threaded, waiting, VectorCache(0, metrics), metrics, monotonic_s)
    catalogue = Catalogue()
    catalogue.add(batcher)
    async with batcher:
        try:
            yield Bench(model, waiting, batcher, registry, catalogue)
        finally:
            model.gate.set()
    await threaded.close()


@pytest.fixture(scope="session")
def minilm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the model's file in it."""
    folder = tmp_path_factory.mktemp("minilm")
    asyncio.run(load_minilm(folder))
    return folder


@pytest.fixture(scope="session")
def minilm(minilm_dir: Path) -> OnnxNetwork:
    return asyncio.run(load_minilm(minilm_dir))
