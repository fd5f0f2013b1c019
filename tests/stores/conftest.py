"""Each store behind the same port: Qdrant embedded, Qdrant's client in its local mode, and a real Postgres."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from services.kit.clock import monotonic_s
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.ports import Store
from services.retriever.stores.edge.store import EdgeStore
from services.retriever.stores.qdrant.store import QdrantStore
from tests import postgres_server

KINDS = ("edge", "qdrant", "postgres")


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open one kind of store again and again on the same data."""

    kind: str
    open: Callable[[], Awaitable[Store]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running Postgres."""
    with postgres_server.running() as url:
        yield url


@pytest.fixture(params=KINDS)
async def opening(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opening]:
    """One kind of store, with nothing in it; every store that is opened is closed at the end."""
    kind = request.param
    limits = {"hnsw_min_chunks": 1_000_000}
    opened: list[Store] = []
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
        schema = f"test_{uuid.uuid4().hex[:12]}"
        settings = RetrieverSettings(store="postgres", postgres_url=url, postgres_schema=schema, **limits)
    else:
        settings = RetrieverSettings(**limits)

    def make() -> Store:
        if kind == "postgres":
            # Only here: the other stores' tests run where its driver is not installed.
            from services.retriever.stores.postgres.store import PostgresStore

            return PostgresStore(settings)
        if kind == "qdrant":
            return QdrantStore(AsyncQdrantClient(path=str(tmp_path / "qdrant")), settings)
        return EdgeStore(tmp_path, settings, monotonic_s, lambda: None)

    async def open_one() -> Store:
        for store in opened:
            await store.close()
        opened.clear()
        store = make()
        opened.append(store)
        await store.start()
        return store

    yield Opening(kind, open_one)
    for store in opened:
        await store.close()


@pytest.fixture
async def store(opening: Opening) -> Store:
    """An open store with nothing in it."""
    return await opening.open()
