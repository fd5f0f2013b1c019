"""Embeds an index anew beside itself, follows what is written meanwhile, and puts the new vectors in place."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace

from services.kit.errors import NotFound
from services.retriever.document import Filter, IndexOptions, Record, Vectored
from services.retriever.library import IndexLibrary
from services.retriever.ports import Embedder
from services.retriever.shelf import Entry, rebuilt

_PAGE_DOCUMENTS = 200
_PAGE_CHUNKS = 256
_PROGRESS_S = 1.0


@dataclass(slots=True)
class Progress:
    """How far it is; `documents` may grow while it goes on."""

    done: int
    documents: int


class Reembedding:
    """One run for one index."""

    def __init__(self, library: IndexLibrary, embedder: Embedder, index: str, changes: IndexOptions) -> None:
        """Raises NotFound where there is no such index."""
        self._library = library
        self._embedder = embedder
        self._name, self._source = library.entry(index)
        self._changes = changes
        self._progress = Progress(0, 0)

    def __repr__(self) -> str:
        return f"Reembedding({self._name} {self._progress})"

    async def run(self) -> AsyncGenerator[Progress, None]:
        """Progress at least once a second; the index is the new one when it ends. Closing it early changes nothing."""
        with self._library.following(self._name) as dirty:
            entry = await self._entry()
            work = asyncio.create_task(self._work(entry, dirty), name="reembed")
            try:
                while not (await asyncio.wait([work], timeout=_PROGRESS_S))[0]:
                    yield replace(self._progress)
                await work
                yield replace(self._progress)
            finally:
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([work])

    async def _entry(self) -> Entry:
        """The new index, whose collection is still empty."""
        old, changes = self._source, self._changes
        wanted = replace(
            rebuilt(old.options, changes),
            embedding_model=changes.embedding_model or old.spec.model.name,
            bm25_language=changes.bm25_language or old.spec.bm25_language,
        )
        spec = await self._library.spec_of(wanted)
        return Entry(await self._library.collect(spec), spec, wanted)

    async def _work(self, entry: Entry, dirty: set[str]) -> None:
        try:
            await self._copy_all(entry, dirty)
            async with self._library.alone(self._name):
                await self._copy_dirty(entry, dirty)
                await self._library.rebuild(self._name, self._source, entry.collection, entry.spec, self._changes)
        except BaseException as error:
            await asyncio.shield(self._library.discard(entry.collection))
            if isinstance(error, NotFound):
                # A collection goes with its index, or when another takes its place.
                self._library.check_unmoved(self._name, self._source)
            raise

    async def _copy_all(self, entry: Entry, dirty: set[str]) -> None:
        self._progress.documents = (await self._library.info(self._name)).counts.documents
        after = ""
        while page := await self._library.records(self._name, Filter(), after, _PAGE_DOCUMENTS):
            for record in page:
                await self._copy(entry, record.document_id, dirty)
                self._progress.done += 1
                self._progress.documents = max(self._progress.documents, self._progress.done)
            after = page[-1].document_id
        await self._copy_dirty(entry, dirty)

    async def _copy_dirty(self, entry: Entry, dirty: set[str]) -> None:
        while dirty:
            await self._copy(entry, dirty.pop(), dirty)

    async def _copy(self, entry: Entry, document_id: str, dirty: set[str]) -> None:
        """Makes a document in the new collection what it is in the old one."""
        store = self._library.store
        record = await store.record(self._source.collection, document_id)
        there = await store.record(entry.collection, document_id)
        if record is None:
            if there is not None:
                await store.delete(entry.collection, document_id)
            return
        if there is not None and there.version == record.version:
            return
        try:
            await self._copy_chunks(entry, record)
        except _Changed:
            # It is being replaced at this moment: its writer says so when it is done, and it is looked at again.
            await store.abandon(entry.collection, document_id)
            dirty.add(document_id)
            await asyncio.sleep(0)

    async def _copy_chunks(self, entry: Entry, record: Record) -> None:
        store, after, count = self._library.store, "", 0
        while True:
            page = await store.chunks(self._source.collection, record.document_id, after, _PAGE_CHUNKS)
            count += len(page)
            if page and count < record.chunks:
                await store.add(entry.collection, record, await self._embedded(entry, page))
                after = page[-1].chunk.chunk_id
                continue
            now = await store.record(self._source.collection, record.document_id)
            if count != record.chunks or now is None or now.version != record.version:
                raise _Changed
            await store.commit(entry.collection, record, await self._embedded(entry, page))
            return

    async def _embedded(self, entry: Entry, page: list[Vectored]) -> list[Vectored]:
        model = entry.spec.model
        if model.fingerprint == self._source.spec.model.fingerprint:
            return page
        vectors = await self._embedder.embed_passages([item.chunk.indexed_text for item in page], model.name)
        return [Vectored(item.chunk, vector) for item, vector in zip(page, vectors, strict=True)]


class _Changed(Exception):
    """The document is another by now."""
