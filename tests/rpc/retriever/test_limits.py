"""Searches on the edge: no embedder, no time, no room; and what the service tells of itself."""

import asyncio
import urllib.error
import urllib.request

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from services.kit.errors import Unavailable, from_rpc
from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.birds import BM25, DENSE, HYBRID, bird_documents
from tests.rpc.retriever.conftest import Retriever, Start, document
from weft.retriever.v1 import retriever_pb2 as pb


@pytest.fixture
async def birds(retriever: Retriever) -> Retriever:
    """A retriever of this test's own that knows three birds."""
    await retriever.ingest(*bird_documents())
    return retriever


async def test_top_k(birds: Retriever) -> None:
    assert len(await birds.search("heron swan owl", top_k=2)) == 2
    await birds.ingest(*(document(f"{n}.md", f"Bird number {n}.") for n in range(10)))
    assert len(await birds.search("bird")) == 5
    assert len(await birds.search("bird", top_k=100)) == 13


async def test_without_the_embedder_words_can_still_be_searched(birds: Retriever, embedder: FakeEmbedder) -> None:
    await embedder.stop()
    assert await birds.sources("mice", mode=BM25) == ["owl.md"]
    for mode in (HYBRID, DENSE):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await birds.search("mice", mode=mode)
        error = from_rpc(caught.value)
        assert isinstance(error, Unavailable)
        assert error.reason == "EMBEDDER_AWAY"
        assert error.retry_delay_s
    health = await birds.health.Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_search_ends_with_its_deadline(start: Start, embedder: FakeEmbedder) -> None:
    async with start(search_timeout_s=0.2) as retriever:
        await retriever.ingest(document("a.md", "text"))
        retriever.store().suspend()
        try:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await retriever.stub.Search(pb.SearchRequest(query="text", mode=BM25))
        finally:
            retriever.store().resume()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert await retriever.sources("text", mode=BM25) == ["a.md"]


async def test_metrics_and_readiness(birds: Retriever) -> None:
    await birds.search("heron")

    def read(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{birds.admin_port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    status, text = await asyncio.to_thread(read, "/metrics")
    assert status == 200
    assert 'weft_retriever_documents_total{outcome="indexed"} 3.0' in text
    assert "weft_retriever_chunks_total 3.0" in text
    assert 'weft_retriever_search_seconds_count{mode="hybrid",stage="store"} 1.0' in text
    assert (await asyncio.to_thread(read, "/readyz"))[0] == 200
