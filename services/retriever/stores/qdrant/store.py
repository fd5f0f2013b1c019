"""Implements the port Store on a Qdrant server: one Qdrant collection for each, and one for the library's state."""

import asyncio
from collections.abc import Mapping, Sequence

from qdrant_client import AsyncQdrantClient, models

from services.kit.errors import NotFound
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.absence import no_collection
from services.retriever.document import Counts, Filter, Hit, Probe, Record, Spec, Vectored
from services.retriever.stores.qdrant.collection import Collection
from services.retriever.stores.qdrant.server import QdrantServer, client_of
from services.retriever.stores.words import Words, bm25_of

_STATE_ID = 1


class QdrantStore:
    """`start` before use, `close` after. Several services may search one server; one of them should write."""

    def __init__(self, client: AsyncQdrantClient, settings: RetrieverSettings) -> None:
        self._settings = settings
        self._prefix = settings.qdrant_prefix
        self._state = f"{self._prefix}library"
        self._server = QdrantServer(client)
        self._open: dict[str, Collection] = {}
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"QdrantStore({self._server!r})"

    @classmethod
    def at(cls, settings: RetrieverSettings) -> "QdrantStore":
        """The store on the server that the settings name."""
        return cls(client_of(settings), settings)

    @property
    def ready(self) -> bool:
        """Whether it answered last."""
        return self._server.reach.ready

    async def until(self, *, ready: bool) -> None:
        """Waits until it answers, or until it does not."""
        await self._server.reach.until(ready=ready)

    async def start(self) -> None:
        """Makes the collection of the library's state, and tidies up what a crash left. Raises Unavailable."""
        client = self._server.client

        async def make() -> None:
            if not await client.collection_exists(self._state):
                await client.create_collection(self._state, vectors_config={})

        await self._server.call(make)
        for name in await self._names():
            try:
                await (await self._collection(name)).tidy_up()
            except NotFound:
                # It was not made to its end, has no name, and is dropped by the library.
                continue
        self._server.reach.found()

    async def close(self) -> None:
        """Ends every connection."""
        await self._server.close()

    async def load_state(self) -> bytes:
        """What `save_state` kept last."""
        client = self._server.client
        found = await self._server.call(lambda: client.retrieve(self._state, [_STATE_ID], with_payload=True))
        return str(found[0].payload["state"]).encode() if found and found[0].payload else b""

    async def save_state(self, state: bytes) -> None:
        """Keeps the library's state."""
        client = self._server.client
        point = models.PointStruct(id=_STATE_ID, vector={}, payload={"state": state.decode()})
        await self._server.call(lambda: client.upsert(self._state, [point], wait=True))

    async def collections(self) -> Mapping[str, Counts]:
        """Every collection's numbers."""
        found = {}
        for name in await self._names():
            try:
                found[name] = await (await self._collection(name)).counts()
            except NotFound:
                found[name] = Counts(0, 0, False)
        return found

    async def create(self, collection: str, spec: Spec) -> None:
        """Makes an empty one."""
        await Collection.create(self._server, f"{self._prefix}{collection}", spec, self._settings.hnsw_min_chunks)

    async def drop(self, collection: str) -> None:
        """Deletes it."""
        client = self._server.client
        self._open.pop(collection, None)
        try:
            await self._server.call(lambda: client.delete_collection(f"{self._prefix}{collection}"))
        except NotFound:
            return

    async def record(self, collection: str, document_id: str) -> Record | None:
        """A document's record."""
        return await (await self._collection(collection)).record(document_id)

    async def records(self, collection: str, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Documents by id."""
        return await (await self._collection(collection)).records(wanted, after, limit)

    async def chunks(self, collection: str, document_id: str, after: str, limit: int) -> list[Vectored]:
        """A document's chunks by id."""
        return await (await self._collection(collection)).chunks(document_id, after, limit)

    async def add(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks unseen until `commit`."""
        await (await self._collection(collection)).add(record, chunks)

    async def commit(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record. Returns whether it replaced a document."""
        return await (await self._collection(collection)).commit(record, chunks)

    async def abandon(self, collection: str, document_id: str) -> None:
        """Drops what was added and not committed."""
        await (await self._collection(collection)).abandon(document_id)

    async def delete(self, collection: str, document_id: str) -> int:
        """Deletes it; returns its chunks. Raises NotFound."""
        return await (await self._collection(collection)).delete(document_id)

    async def search(self, collection: str, probe: Probe) -> list[Hit]:
        """What was found, best first."""
        return await (await self._collection(collection)).search(probe)

    async def _names(self) -> list[str]:
        client = self._server.client
        found = await self._server.call(client.get_collections)
        names = [one.name for one in found.collections if one.name.startswith(self._prefix)]
        return [name.removeprefix(self._prefix) for name in names if name != self._state]

    async def _collection(self, name: str) -> Collection:
        if (known := self._open.get(name)) is not None:
            return known
        async with self._opening:
            if (known := self._open.get(name)) is None:
                whole = f"{self._prefix}{name}"
                spec = await Collection.spec_of(self._server, whole)
                if spec is None:
                    raise no_collection(name)
                known = self._open[name] = Collection(self._server, whole, spec, Words(bm25_of(self._settings, spec)))
            return known
