"""What was answered as indexed stays: over restarts, a killed store, and a killed service."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2

from services.kit.channels import dial
from services.kit.errors import Unavailable, from_rpc
from services.kit.settings import Settings, load_settings, to_environment
from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.conftest import Retriever, Start, document, free_port, one_by_one, retry_delay_s
from tests.rpc.retriever.real_process import running
from weft.retriever.v1 import retriever_pb2 as pb

ServingStatus = health_pb2.HealthCheckResponse.ServingStatus
INDEXED = pb.IngestDocumentsResponse.STATUS_INDEXED
DOCUMENTS = [document(f"{n}.md", f"Heron number {n} fishes.\n\n# Second\n\nIt waits.") for n in range(60)]


async def ingest_until_broken(
    retriever: Retriever, kill: asyncio.Event, after: int
) -> tuple[set[str], grpc.aio.AioRpcError]:
    """Sends DOCUMENTS; sets `kill` after some answers. Returns the sources that were answered, and the stream's end."""
    answered: set[str] = set()

    async def read() -> None:
        async for response in retriever.stub.IngestDocuments(one_by_one(DOCUMENTS)):
            assert response.status == INDEXED
            answered.add(response.source)
            if len(answered) == after:
                kill.set()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    return answered, caught.value


async def available(retriever: Retriever) -> None:
    """Waits until the store answers, as long as RetryInfo says each time."""
    while True:
        try:
            await retriever.stub.ListIndexes(pb.ListIndexesRequest(), timeout=20)
        except grpc.aio.AioRpcError as error:
            await asyncio.sleep(retry_delay_s(error))
        else:
            return


async def check_nothing_lost_or_twice(retriever: Retriever, answered: set[str]) -> None:
    statuses = dict(
        zip((found.document.source for found in DOCUMENTS), await retriever.statuses(*DOCUMENTS), strict=True)
    )
    assert {statuses[source] for source in answered} == {"UNCHANGED"}
    assert await retriever.info() == (60, 120)
    for mode in (pb.SEARCH_MODE_BM25, pb.SEARCH_MODE_DENSE):
        found = await retriever.search("heron number fishes waits second", top_k=100, mode=mode)
        keys = [(passage.document_id, passage.chunk_id) for passage in found]
        assert len(keys) == len(set(keys)) == 100


async def test_a_restart_keeps_everything(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(*DOCUMENTS)
        await retriever.ingest(document("0.md", "Only swans now."))
        await retriever.stub.DeleteDocument(pb.DeleteDocumentRequest(document_id=(await ids(retriever))["1.md"]))
        before = await found(retriever)
        record = await retriever.stub.GetDocument(pb.GetDocumentRequest(document_id=(await ids(retriever))["2.md"]))
        info = await retriever.info()
    async with start() as retriever:
        assert await retriever.info() == info == (59, 58 * 2 + 1)
        assert await found(retriever) == before
        document_id = record.document.document_id
        assert await retriever.stub.GetDocument(pb.GetDocumentRequest(document_id=document_id)) == record
        embedded = len(embedder.texts)
        assert await retriever.statuses(*DOCUMENTS[2:]) == ["UNCHANGED"] * 58
        assert len(embedder.texts) == embedded


async def found(retriever: Retriever) -> list[tuple[str, str, str, float]]:
    passages = await retriever.search("swans", top_k=100, mode=pb.SEARCH_MODE_DENSE)
    assert len(passages) == 100
    return [(passage.document_id, passage.chunk_id, passage.text, passage.score) for passage in passages]


async def ids(retriever: Retriever) -> dict[str, str]:
    found = await retriever.search("heron swans", top_k=100, mode=pb.SEARCH_MODE_DENSE)
    return {passage.source: passage.document_id for passage in found}


@pytest.mark.parametrize("after", [1, 20, 45])
async def test_a_killed_store_loses_no_answered_document(start: Start, after: int) -> None:
    async with start() as retriever:
        kill = asyncio.Event()
        ingesting = asyncio.create_task(ingest_until_broken(retriever, kill, after))
        await kill.wait()
        retriever.store().kill()
        answered, end = await ingesting
        assert isinstance(from_rpc(end), Unavailable)
        assert after <= len(answered) < 60
        await available(retriever)
        await check_nothing_lost_or_twice(retriever, answered)


async def test_a_store_killed_amid_a_long_document_keeps_the_old_one(start: Start, embedder: FakeEmbedder) -> None:
    long = document("0.md", "\n\n".join(f"# Part {n}\n\nSwans." for n in range(600)))
    async with start(chunk_tokens=16, chunk_overlap_tokens=0) as retriever:
        await retriever.ingest(document("0.md", "Old heron."))
        ingesting = asyncio.create_task(retriever.ingest(long))
        while len(embedder.texts) < 400:
            await retriever.search("heron", mode=pb.SEARCH_MODE_BM25)
        retriever.store().kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ingesting
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        await available(retriever)
        assert [passage.text for passage in await retriever.search("swans heron", top_k=100)] == ["Old heron."]
        assert await retriever.info() == (1, 1)
        assert await retriever.statuses(long) == ["REPLACED"]
        assert await retriever.info() == (1, 600)


async def test_a_store_that_dies_while_idle_comes_back(start: Start) -> None:
    async with start() as retriever:
        await retriever.ingest(document("a.md", "Heron."))
        first = retriever.store()
        watch = retriever.health.Watch(health_pb2.HealthCheckRequest())
        states = [(await watch.read()).status]
        first.kill()
        states += [(await watch.read()).status, (await watch.read()).status]
        watch.cancel()
        assert [ServingStatus.Name(state) for state in states] == ["SERVING", "NOT_SERVING", "SERVING"]
        await available(retriever)
        assert await retriever.sources("heron") == ["a.md"]
        assert retriever.store().pid != first.pid


def environment(folder: Path, embedder: FakeEmbedder, **fields: Any) -> Settings:
    own = {"port": free_port(), "admin_port": free_port(), "embedder": embedder.address, "parse_workers": 1}
    return load_settings(data_dir=folder, retriever=own | fields)


@asynccontextmanager
async def real_service(
    folder: Path, embedder: FakeEmbedder, **fields: Any
) -> AsyncIterator[tuple[psutil.Process, Retriever]]:
    """`python -m services.retriever`, and a channel to it."""
    settings = environment(folder, embedder, **fields)
    address = f"127.0.0.1:{settings.retriever.port}"
    async with (
        running("services.retriever", to_environment(settings)) as process,
        dial(address, settings.grpc) as channel,
    ):
        retriever = Retriever(channel, settings.retriever.admin_port, address)
        await retriever.serving()
        yield process, retriever


@pytest.fixture(params=["qdrant-edge", "postgres"])
def kept_in(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of each store that runs here as it does elsewhere."""
    if request.param == "postgres":
        schema = f"test_{uuid.uuid4().hex[:12]}"
        url = request.getfixturevalue("postgres_url")
        return {"store": "postgres", "postgres_url": url, "postgres_schema": schema}
    return {"store": "qdrant-edge"}


async def test_a_killed_service_loses_no_answered_document(
    tmp_path: Path, embedder: FakeEmbedder, kept_in: dict[str, str]
) -> None:
    async with real_service(tmp_path, embedder, **kept_in) as (process, retriever):
        kill = asyncio.Event()
        ingesting = asyncio.create_task(ingest_until_broken(retriever, kill, 20))
        # A machine full of queries, as well.
        searching = [asyncio.create_task(search_until_broken(retriever)) for _ in range(16)]
        await kill.wait()
        children = process.children(recursive=True)
        process.kill()
        answered, end = await ingesting
        await asyncio.gather(*searching)
        assert end.code() == grpc.StatusCode.UNAVAILABLE
        assert len(answered) >= 20
        gone, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=10)
        assert (len(gone), alive) == (len(children), [])
    async with real_service(tmp_path, embedder, **kept_in) as (_, retriever):
        await check_nothing_lost_or_twice(retriever, answered)


async def search_until_broken(retriever: Retriever) -> None:
    """One search after the other until the service is gone; the index may not be there yet."""
    while True:
        try:
            await retriever.search("heron number", top_k=10)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                return


async def test_sigterm_ends_the_service_and_its_processes(tmp_path: Path, embedder: FakeEmbedder) -> None:
    async with real_service(tmp_path, embedder) as (process, retriever):
        await retriever.ingest(document("a.md", "Heron."))
        children = process.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert [child for child in children if child.is_running()] == []
    async with real_service(tmp_path, embedder) as (_, retriever):
        assert await retriever.sources("heron") == ["a.md"]
