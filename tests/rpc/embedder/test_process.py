"""The embedder as a process with MiniLM: first start, second start, and how it stops."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.channels import dial
from services.kit.settings import load_settings
from weft.embedder.v1 import embedder_pb2 as pb
from weft.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub


@dataclass
class Running:
    """A process that logs JSON lines to its stderr."""

    process: asyncio.subprocess.Process

    async def event(self, name: str) -> dict[str, Any]:
        """The next log line of that name."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            entry: dict[str, Any] = json.loads(line)
            if entry["event"] == name:
                return entry
        raise AssertionError(f"the process ended without {name!r}")

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Running]:
    environment = {
        **os.environ,
        "WEFT_DATA_DIR": str(folder),
        "WEFT_EMBEDDER__PORT": "0",
        "WEFT_EMBEDDER__ADMIN_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.embedder", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def models_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.onnx"))


@asynccontextmanager
async def dialled(port: int) -> AsyncIterator[grpc.aio.Channel]:
    channel = dial(f"127.0.0.1:{port}", load_settings().grpc, own_connection=True)
    try:
        yield channel
    finally:
        await channel.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedder")


async def test_it_builds_serves_and_stops_and_starts_again_without_building(folder: Path) -> None:
    async with started(folder) as first:
        await first.event("building")
        serving = await first.event("serving")
        async with dialled(serving["port"]) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "weft.embedder.v1.EmbedderService", "weft.openai.v1.OpenAIService"):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            stub = EmbedderServiceStub(channel)
            texts = ["The cat sleeps on the sofa.", "A cat naps on the couch.", "Interest rates rose again."]
            embedded = await stub.Embed(pb.EmbedRequest(texts=texts, model="all-minilm-l6-v2"))
            cat, nap, rates = (np.array(one.values) for one in embedded.embeddings)
            assert cat @ nap > 0.6 > 0.2 > cat @ rates
            assert np.linalg.norm(cat) == pytest.approx(1.0, abs=1e-5)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{serving['admin_port']}") as admin:
            assert (await admin.get("/readyz")).status_code == 200
            metrics = (await admin.get("/metrics")).text
            assert 'weft_embedder_texts_total{model="all-minilm-l6-v2",outcome="ok"} 3.0' in metrics
            assert 'weft_embedder_queue_texts{model="all-minilm-l6-v2"} 0.0' in metrics
        assert await first.stop() == 0
    (model,) = models_in(folder)
    built_ns = model.stat().st_mtime_ns
    async with started(folder) as second:
        await second.event("serving")
        assert await second.stop() == 0
    assert model.stat().st_mtime_ns == built_ns


async def test_it_stops_while_it_builds(tmp_path: Path) -> None:
    async with started(tmp_path) as running:
        await running.event("building")
        assert await running.stop() == 0
    assert models_in(tmp_path) == []
