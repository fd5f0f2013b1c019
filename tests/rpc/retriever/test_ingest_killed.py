"""An ingest whose processes are killed, all real: nothing acknowledged is lost, nothing is there twice, it goes on."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import psutil
import pytest

from services.kit.channels import dial
from services.kit.settings import Settings, load_settings, to_environment
from tests.fakes.site import Page, Site
from tests.rpc.retriever.conftest import Retriever, document, free_port, one_by_one
from tests.rpc.retriever.real_process import running
from weft.retriever.v1 import retriever_pb2 as pb

COUNT = 40


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[tuple[psutil.Process, Retriever]]:
    """`python -m services.retriever`, ready."""
    async with (
        running("services.retriever", to_environment(settings)) as process,
        dial(f"127.0.0.1:{settings.retriever.port}", settings.grpc) as channel,
    ):
        retriever = Retriever(channel, settings.retriever.admin_port)
        await retriever.serving()
        yield process, retriever


@asynccontextmanager
async def embedding(settings: Settings) -> AsyncIterator[psutil.Process]:
    """`python -m services.embedder`, ready; the first of all builds the model."""
    async with (
        running("services.embedder", to_environment(settings)) as process,
        dial(settings.retriever.embedder, settings.grpc) as channel,
    ):
        async with asyncio.timeout(90):
            await channel.channel_ready()
        await Retriever(channel, 0).serving()
        yield process


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps the model that the first embedder builds, which takes long."""
    return tmp_path_factory.mktemp("data") / "models"


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Settings:
    models.mkdir(exist_ok=True)
    (tmp_path / "models").symlink_to(models)
    embedder = {"port": free_port(), "admin_port": free_port(), "threads": 1}
    http = {"allowed_networks": ["127.0.0.0/8"], "delay_s": 0.0, "per_host": 4}
    own = {
        "port": free_port(),
        "admin_port": free_port(),
        "embedder": f"127.0.0.1:{embedder['port']}",
        "parse_workers": 1,
        "ingest": {"http": http, "retry_delay_s": 0.05, "max_retry_delay_s": 0.2},
    }
    return load_settings(data_dir=tmp_path, retriever=own, embedder=embedder)


async def until(retriever: Retriever, job_id: str, done: int) -> pb.IngestJob:
    """Waits until the job has indexed so many."""
    watch = retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id=job_id), timeout=90)
    async for answer in watch:
        if answer.job.indexed + answer.job.unchanged >= done:
            break
    watch.cancel()
    return answer.job


async def check(retriever: Retriever, count: int) -> None:
    """Every document is there, each once."""
    assert (await retriever.info())[0] == count
    found = await retriever.search("heron fishes", top_k=100, mode=pb.SEARCH_MODE_BM25)
    keys = [(passage.document_id, passage.chunk_id) for passage in found]
    assert len(keys) == len(set(keys)) == count


async def test_a_job_goes_on_when_embedder_store_and_service_are_killed(settings: Settings) -> None:
    with Site() as site:
        gates = [threading.Event() for _ in range(4)]
        for n in range(COUNT):
            site.pages[f"/{n}.md"] = Page(f"# {n}\n\nHeron number {n} fishes.".encode(), gate=gates[n * 4 // COUNT])
        uris = [site.url(f"/{n}.md") for n in range(COUNT)]
        gates[0].set()
        async with embedding(settings) as embedder, service(settings) as (process, retriever):
            job_id = (await retriever.stub.StartIngest(pb.StartIngestRequest(uris=uris))).job.job_id
            await until(retriever, job_id, COUNT // 4)
            (store,) = (child for child in process.children() if "stores" in " ".join(child.cmdline()))
            store.kill()
            gates[1].set()
            await until(retriever, job_id, COUNT // 2)
            embedder.kill()
            gates[2].set()
            before = (await retriever.stub.ListIngests(pb.ListIngestsRequest())).jobs[0]
            process.kill()
        gates[3].set()
        async with embedding(settings), service(settings) as (_, retriever):
            job = await until(retriever, job_id, COUNT)
            assert job.indexed >= before.indexed >= COUNT // 2
            assert (job.found, job.indexed + job.unchanged, job.failed) == (COUNT, COUNT, 0)
            await check(retriever, COUNT)


async def test_a_stream_is_sent_again_after_all_are_killed(settings: Settings) -> None:
    documents = [document(f"{n}.md", f"Heron number {n} fishes.") for n in range(COUNT)]
    answered: set[str] = set()

    async def ingest(retriever: Retriever, embedder: psutil.Process, process: psutil.Process) -> None:
        async for answer in retriever.stub.IngestDocuments(one_by_one(documents), timeout=90):
            assert answer.status == pb.IngestDocumentsResponse.STATUS_INDEXED
            answered.add(answer.source)
            if len(answered) == 10:
                for victim in (embedder, *process.children(), process):
                    victim.kill()

    async with embedding(settings) as embedder, service(settings) as (process, retriever):
        with pytest.raises(grpc.aio.AioRpcError):
            await ingest(retriever, embedder, process)
    assert 10 <= len(answered) < COUNT
    async with embedding(settings), service(settings) as (_, retriever):
        statuses = await asyncio.wait_for(retriever.statuses(*documents), 90)
        found = dict(zip((request.document.source for request in documents), statuses, strict=True))
        assert {found[source] for source in answered} == {"UNCHANGED"}
        await check(retriever, COUNT)
