"""The contract with the real embedder, as a process of its own: ingest, and search by meaning."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.channels import dial
from services.kit.settings import load_settings, to_environment
from tests.rpc.retriever.conftest import Retriever, document, free_port
from tests.rpc.retriever.real_process import running
from weft.retriever.v1 import retriever_pb2 as pb


@pytest.fixture
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimpleNamespace]:
    """A running MiniLM."""
    port = free_port()
    settings = load_settings(
        data_dir=tmp_path_factory.mktemp("embedder"), embedder={"port": port, "admin_port": free_port()}
    )
    async with running("services.embedder", to_environment(settings)):
        async with dial(f"127.0.0.1:{port}", settings.grpc) as channel, asyncio.timeout(100):
            await channel.channel_ready()
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined] # its stubs know only the blocking kind
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            watch.cancel()
        yield SimpleNamespace(address=f"127.0.0.1:{port}")


@pytest.fixture
def embedder(address: SimpleNamespace) -> SimpleNamespace:
    """Takes the place of the fake one in `start`."""
    return address


async def test_meaning_is_found_without_a_common_word(retriever: Retriever, tmp_path: Path) -> None:
    statuses = await retriever.statuses(
        document("a.md", "The physician prescribed antibiotics to the patient."),
        document("b.md", "The orchestra rehearsed a symphony all afternoon."),
        document("c.md", "Tomatoes grow best in full sunlight."),
    )
    assert statuses == ["INDEXED"] * 3
    query = "Which doctor gave someone medicine?"
    assert await retriever.sources(query, mode=pb.SEARCH_MODE_BM25) == []
    for mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_HYBRID):
        assert (await retriever.sources(query, mode=mode))[0] == "a.md"
    index = (await retriever.stub.GetIndex(pb.GetIndexRequest())).index
    assert index.dimensions == 384
