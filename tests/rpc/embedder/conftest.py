"""An embedder on a real socket around a fake model, and one as a process with MiniLM."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from services.embedder.metrics import EmbedderMetrics
from services.embedder.models.load import load_models
from services.embedder.models.threads import ThreadedModel
from services.embedder.ports import BatchLimits, Model
from services.embedder.service import running
from services.embedder.vigil import Vigil
from services.kit.channels import dial
from services.kit.settings import load_settings
from tests.fakes.embedding_model import INFO, FakeModel
from tests.rpc.embedder.loading import Load
from weft.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub
from weft.openai.v1.openai_pb2_grpc import OpenAIServiceStub


class Embedder:
    """A running embedder and a channel to it."""

    def __init__(self, address: str, channel: grpc.aio.Channel, model: FakeModel, registry: CollectorRegistry) -> None:
        self.address = address
        self.channel = channel
        self.stub = EmbedderServiceStub(channel)
        self.openai = OpenAIServiceStub(channel)
        self.model = model
        self.registry = registry

    async def busy(self) -> None:
        """Returns once a batch stands at the model's gate."""
        assert await asyncio.to_thread(self.model.entered.acquire, timeout=10)

    @property
    def waiting(self) -> float | None:
        """Texts in the queue, as Prometheus would read it."""
        return self.registry.get_sample_value("weft_embedder_queue_texts", {"model": INFO.name})

    async def waits(self, texts: int) -> None:
        """Returns once that many texts are in the queue."""
        async with asyncio.timeout(10):
            while self.waiting != texts:
                await asyncio.sleep(0.005)


Start = Callable[..., AbstractAsyncContextManager[Embedder]]


@pytest.fixture
def start() -> Start:
    """Starts an embedder with these settings of its section; one worker, and the gate open at the end."""

    @asynccontextmanager
    async def started(**fields: Any) -> AsyncIterator[Embedder]:
        mine = {"port": 0, "cache_bytes": 0, **fields}
        settings = load_settings(embedder=mine, grpc={"stop_grace_s": 5.0})
        model, registry = FakeModel(), CollectorRegistry()
        # The channel outlives the server, so that a test sees how a stop looks from outside.
        metrics = EmbedderMetrics(registry)
        threaded = ThreadedModel(model, BatchLimits(512, 256, 1))
        async with (
            AsyncExitStack() as channels,
            running([threaded], settings, registry, metrics, Vigil([threaded])) as port,
        ):
            channels.push_async_callback(threaded.close)
            address = f"127.0.0.1:{port}"
            channel = dial(address, settings.grpc, own_connection=True)
            channels.push_async_callback(channel.close)
            try:
                yield Embedder(address, channel, model, registry)
            finally:
                model.gate.set()

    return started


@pytest.fixture
async def embedder(start: Start) -> AsyncIterator[Embedder]:
    async with start() as found:
        yield found


@pytest.fixture
async def load(tmp_path: Path) -> AsyncIterator[Load]:
    """Loads one model, `mine`, of these settings."""
    async with AsyncExitStack() as owner:

        async def loaded(**fields: Any) -> Model:
            settings = load_settings(embedder={"models": {"mine": fields}}, data_dir=tmp_path)
            (model,) = await load_models(settings, EmbedderMetrics(CollectorRegistry()), owner)
            return model

        yield loaded
