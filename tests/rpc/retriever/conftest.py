"""A real retriever, in this process but on real sockets and with its own child processes, over a fake embedder."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.channels import dial
from services.kit.errors import from_rpc
from services.kit.settings import load_settings
from services.retriever.__main__ import serve
from tests import postgres_server
from tests.fakes.embedder import FakeEmbedder
from weft.retriever.v1 import retriever_pb2 as pb
from weft.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

Status = pb.IngestDocumentsResponse.Status


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def document(source: str, text: str, index: str = "", **fields: Any) -> pb.IngestDocumentsRequest:
    """A Markdown document."""
    return pb.IngestDocumentsRequest(index=index, document=pb.Document(source=source, text=text, **fields))


def retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """How long the service asks its callers to wait before they try again; it must say so."""
    delay_s = from_rpc(error).retry_delay_s
    assert delay_s is not None, error
    return delay_s


async def one_by_one(requests: Iterable[pb.IngestDocumentsRequest]) -> AsyncIterator[pb.IngestDocumentsRequest]:
    """The requests as a stream."""
    for request in requests:
        yield request


class Retriever:
    """A running retriever and a channel to it."""

    def __init__(self, channel: grpc.aio.Channel, admin_port: int, address: str = "") -> None:
        self.channel = channel
        self.stub = RetrieverServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.address = address
        self.admin_port = admin_port

    async def serving(self) -> None:
        """Waits until it is ready."""
        async with asyncio.timeout(30):
            await self.channel.channel_ready()
            watch = self.health.Watch(health_pb2.HealthCheckRequest())
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            watch.cancel()

    async def ingest(self, *requests: pb.IngestDocumentsRequest) -> list[pb.IngestDocumentsResponse]:
        """Every document's status, in the order of the documents."""
        call = self.stub.IngestDocuments(one_by_one(requests), timeout=60)
        return sorted([response async for response in call], key=lambda response: response.position)

    async def statuses(self, *requests: pb.IngestDocumentsRequest) -> list[str]:
        """What became of each document."""
        return [Status.Name(found.status).removeprefix("STATUS_") for found in await self.ingest(*requests)]

    async def search(self, query: str, **fields: Any) -> list[pb.Passage]:
        """The passages, best first."""
        response = await self.stub.Search(pb.SearchRequest(query=query, **fields), timeout=20)
        return list(response.passages)

    async def sources(self, query: str, **fields: Any) -> list[str]:
        """Where the passages come from, best first."""
        return [passage.source for passage in await self.search(query, **fields)]

    async def info(self, index: str = "") -> tuple[int, int]:
        """Documents and chunks of an index."""
        found = (await self.stub.GetIndex(pb.GetIndexRequest(index=index), timeout=20)).index
        return found.documents, found.chunks

    def store(self) -> psutil.Process:
        """The store's process."""
        (found,) = (
            child
            for child in psutil.Process().children()
            if "services.retriever.stores.edge.process" in child.cmdline()
        )
        return found


Start = Callable[..., AbstractAsyncContextManager[Retriever]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running Postgres."""
    with postgres_server.running() as url:
        yield url


@pytest.fixture
async def embedder() -> AsyncIterator[FakeEmbedder]:
    """A running fake embedder."""
    found = FakeEmbedder()
    await found.start()
    yield found
    await found.stop()


@asynccontextmanager
async def running(folder: Path, embedder_address: str, **settings: Any) -> AsyncIterator[Retriever]:
    """A retriever on this folder."""
    port, admin_port = free_port(), free_port()
    own = {"port": port, "admin_port": admin_port, "embedder": embedder_address, "parse_workers": 1} | settings
    tree = load_settings(data_dir=folder, retriever=own, grpc={"stop_grace_s": 2.0})
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(tree, stop))
    try:
        address = f"127.0.0.1:{port}"
        async with dial(address, tree.grpc) as channel:
            retriever = Retriever(channel, admin_port, address)
            await retriever.serving()
            yield retriever
    finally:
        stop.set()
        await serving


@pytest.fixture
def start(embedder: FakeEmbedder, tmp_path: Path) -> Start:
    """Starts a retriever on this test's folder: `async with start(chunk_tokens=50) as retriever`."""
    return lambda **settings: running(tmp_path, embedder.address, **settings)


@pytest.fixture
async def retriever(start: Start) -> AsyncIterator[Retriever]:
    """A running retriever with small chunks."""
    async with start(chunk_tokens=60, chunk_overlap_tokens=10) as found:
        yield found
