"""Indexes by name: which collection of the store each one is, its settings and aliases, and who may write to it now.

What an index holds is kept by the store. A name is moved from one collection to another in one step.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import structlog

from services.kit.errors import Exhausted, FailedPrecondition, InvalidArgument, NotFound, Unavailable, WeftError
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.absence import already_there, no_document, no_index
from services.retriever.document import (
    EmbeddingModel,
    Filter,
    Fusion,
    Hit,
    IndexInfo,
    IndexOptions,
    IndexSettings,
    Probe,
    Record,
    Rerank,
    Spec,
    Vectored,
)
from services.retriever.hold import Holds
from services.retriever.ports import Embedder, Store
from services.retriever.shelf import Entry, Shelf, rebuilt

_GONE = "COLLECTION_GONE"
_RETRY_DELAY_S = 1.0
# A search that finds its collection replaced looks again under the name; this often in one search means a fault.
_MAX_LOOKS = 5

Answer = TypeVar("Answer")
Given = TypeVar("Given")


class IndexLibrary:
    """Implements the port Library, and all that is done with indexes. `start` before use."""

    def __init__(
        self, store: Store, embedder: Embedder, settings: RetrieverSettings, new_collection: Callable[[], str]
    ) -> None:
        self.store = store
        self._embedder = embedder
        self._settings = settings
        self._new_collection = new_collection
        self._shelf = Shelf({}, {})
        self._changing = asyncio.Lock()
        self._holds = Holds()
        self._dirty: dict[str, set[str]] = {}
        self._log = structlog.get_logger("library")

    def __repr__(self) -> str:
        return f"IndexLibrary({sorted(self._shelf.entries)})"

    async def start(self) -> None:
        """Reads what is there, and drops collections that a crash left without a name."""
        state = await self.store.load_state()
        if state:
            self._shelf = Shelf.from_json(state)
        named = {entry.collection for entry in self._shelf.entries.values()}
        for collection in await self.store.collections():
            if collection not in named:
                self._log.info("dropping a collection that has no name", collection=collection)
                await self.store.drop(collection)

    async def indexes(self) -> list[IndexInfo]:
        """Every index, by name."""
        counts = await self.store.collections()
        shelf = self._shelf
        return [
            IndexInfo(
                name,
                entry.spec,
                counts[entry.collection],
                self._holding(name, entry.options),
                entry.options,
                shelf.aliases_of(name),
                self._settings.store,
            )
            for name, entry in sorted(shelf.entries.items())
            if entry.collection in counts
        ]

    async def info(self, index: str) -> IndexInfo:
        """One index. Raises NotFound."""
        name = self.entry(index)[0]
        for info in await self.indexes():
            if info.name == name:
                return info
        raise no_index(index)

    def entry(self, index: str) -> tuple[str, Entry]:
        """The index's own name and what is known of it. Raises NotFound."""
        name = self._shelf.real_name(index)
        if (entry := self._shelf.entries.get(name)) is None:
            raise no_index(index)
        return name, entry

    def has(self, index: str) -> bool:
        """Whether there is an index of that name or alias."""
        return self._shelf.real_name(index) in self._shelf.entries

    async def settings_of(self, index: str) -> IndexSettings:
        """What holds for it; the retriever's own settings where it does not exist yet."""
        name = self._shelf.real_name(index)
        entry = self._shelf.entries.get(name)
        return self._holding(name, entry.options if entry else IndexOptions())

    async def record(self, index: str, document_id: str) -> Record | None:
        """A document's record. Raises NotFound where the index does not exist."""
        return await self._reading(index, lambda collection: self.store.record(collection, document_id))

    async def records(self, index: str, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Documents by id. Raises NotFound where the index does not exist."""
        return await self._reading(index, lambda collection: self.store.records(collection, wanted, after, limit))

    async def search(self, index: str, probe: Probe) -> list[Hit]:
        """Chunks, best first. Raises NotFound where the index does not exist."""
        return await self._reading(index, lambda collection: self.store.search(collection, probe))

    async def create(self, index: str, options: IndexOptions) -> None:
        """Makes an empty index. Raises AlreadyExists, InvalidArgument, Exhausted, Unavailable."""
        spec = await self.spec_of(options)
        async with self._changing:
            if index in self._shelf.entries or index in self._shelf.aliases:
                raise already_there(index)
            await self._make(index, spec, options)

    async def update(self, index: str, options: IndexOptions) -> None:
        """Changes how an index is searched; only options may differ that do not change how it is built."""
        async with self._changing:
            name, entry = self.entry(index)
            await self._save(self._shelf.with_entry(name, Entry(entry.collection, entry.spec, options)))

    async def delete_index(self, index: str) -> int:
        """Its documents. Raises NotFound."""
        async with self._changing:
            name, entry = self.entry(index)
            counts = (await self.store.collections()).get(entry.collection)
            await self._save(self._shelf.without_entry(name))
        await self.discard(entry.collection)
        return counts.documents if counts else 0

    async def delete_document(self, index: str, document_id: str) -> int:
        """Its chunks. Raises NotFound."""
        name = self._shelf.real_name(index)
        with self._holds.of(name) as hold:
            async with hold.shared():
                entry = self.entry(name)[1]
                try:
                    chunks = await self.store.delete(entry.collection, document_id)
                except NotFound as error:
                    raise (no_index(index) if error.reason == _GONE else no_document(index, document_id)) from error
                self.note(name, document_id)
                return chunks

    async def set_alias(self, alias: str, index: str) -> str:
        """Points the alias to the index; the index that it stood for before, or an empty text."""
        async with self._changing:
            name = self.entry(index)[0]
            if alias in self._shelf.entries:
                raise already_there(alias)
            before = self._shelf.aliases.get(alias, "")
            if not before:
                self._check_room_for_alias()
            await self._save(self._shelf.with_alias(alias, name))
            return before

    def names_of(self, index: str) -> tuple[str, ...]:
        """Every name it has, its own first; none where there is no such index."""
        name = self._shelf.real_name(index)
        return (name, *self._shelf.aliases_of(name)) if name in self._shelf.entries else ()

    async def delete_alias(self, alias: str) -> None:
        """Forgets it. Raises NotFound."""
        async with self._changing:
            if alias not in self._shelf.aliases:
                raise NotFound(f"there is no alias {alias}", reason="ALIAS_NOT_FOUND", field="alias")
            await self._save(self._shelf.without_alias(alias))

    @contextlib.asynccontextmanager
    async def writing(self, index: str) -> AsyncIterator["HeldIndex"]:
        """Holds the index for writing."""
        # Decided once: an alias that points elsewhere by the time the hold is there must not lead to what is not held.
        name = self._shelf.real_name(index)
        with self._holds.of(name) as hold:
            async with hold.shared():
                yield HeldIndex(self, name)

    @contextlib.asynccontextmanager
    async def alone(self, index: str) -> AsyncIterator[None]:
        """Nobody writes to the index meanwhile; searches go on."""
        with self._holds.of(self._shelf.real_name(index)) as hold:
            async with hold.alone():
                yield

    @contextlib.contextmanager
    def following(self, index: str) -> Iterator[set[str]]:
        """The ids of documents that are written or deleted meanwhile; the caller takes them out. Raises NotFound."""
        name = self.entry(index)[0]
        if name in self._dirty:
            raise FailedPrecondition(
                f"the index {name} is being embedded anew already; wait for that, or cancel it",
                reason="REEMBEDDING",
                field="index",
            )
        self._dirty[name] = set()
        try:
            yield self._dirty[name]
        finally:
            del self._dirty[name]

    async def spec_of(self, options: IndexOptions) -> Spec:
        """How a new index is built. Raises InvalidArgument where the embedding model is not served."""
        try:
            model = await self._embedder.model(options.embedding_model)
        except NotFound as error:
            raise InvalidArgument(
                f"the embedder does not serve {options.embedding_model!r}: {error.message}",
                reason="MODEL_NOT_SERVED",
                field="settings.embedding_model",
            ) from error
        return Spec(model, options.bm25_language or self._settings.bm25_language, options.quantised)

    async def collect(self, spec: Spec) -> str:
        """A new collection that has no name yet."""
        collection = self._new_collection()
        await self.store.create(collection, spec)
        return collection

    async def put(self, index: str, entry: Entry, *, replace: bool) -> None:
        """Gives a collection its name; what had it before is dropped. Raises AlreadyExists, Exhausted, NotFound."""
        async with self._changing:
            name = self._shelf.real_name(index)
            old = self._shelf.entries.get(name)
            if old and not replace:
                raise already_there(index)
            if not old:
                self._check_room()
            await self._save(self._shelf.with_entry(name, entry))
        if old:
            await self.discard(old.collection)

    async def rebuild(self, name: str, old: Entry, collection: str, spec: Spec, changes: IndexOptions) -> None:
        """Puts a collection in the place of the one that it was made of, under the options as they are by now.

        Raises FailedPrecondition where the index was deleted or replaced meanwhile.
        """
        async with self._changing:
            now = self.check_unmoved(name, old)
            await self._save(self._shelf.with_entry(name, Entry(collection, spec, rebuilt(now.options, changes))))
        await self.discard(old.collection)

    def check_unmoved(self, name: str, old: Entry) -> Entry:
        """The index as it is now. Raises FailedPrecondition where it is another than `old`."""
        now = self._shelf.entries.get(name)
        if now is None or now.collection != old.collection:
            raise FailedPrecondition(
                f"the index {name} was deleted or replaced meanwhile, and stays as it is now",
                reason="INDEX_REPLACED",
                field="index",
            )
        return now

    async def discard(self, collection: str) -> None:
        """Drops a collection that got no name; one that cannot be dropped now goes at the next start."""
        try:
            await self.store.drop(collection)
        except WeftError as error:
            self._log.warning("not dropped", collection=collection, reason=error.reason)

    async def model_of(self, name: str) -> EmbeddingModel:
        """The embedding model of an index, which the embedder still serves; the default one where there is no index."""
        entry = self._shelf.entries.get(name)
        if entry is None:
            return await self._embedder.model("")
        await self.check_model(name, entry.spec.model)
        return entry.spec.model

    async def check_model(self, name: str, model: EmbeddingModel) -> None:
        """Raises InvalidArgument where the embedder's model of that name is another by now."""
        try:
            served = await self._embedder.model(model.name)
            fingerprint = served.fingerprint
        except NotFound:
            fingerprint = ""
        if fingerprint != model.fingerprint:
            now = f"another one ({fingerprint[:12]})" if fingerprint else "none of that name"
            raise InvalidArgument(
                f"the index {name} holds vectors of {model.name} ({model.fingerprint[:12]}), and the embedder serves "
                f"{now}; serve that model again, or embed the index anew with `weft indexes reembed {name}`",
                reason="MODEL_CHANGED",
                field="index",
            )

    async def collection_for(self, name: str) -> str:
        """The collection to write to, made if need be."""
        if entry := self._shelf.entries.get(name):
            return entry.collection
        spec = await self.spec_of(IndexOptions())
        async with self._changing:
            if entry := self._shelf.entries.get(name):
                return entry.collection
            return await self._make(name, spec, IndexOptions())

    def note(self, name: str, document_id: str) -> None:
        """A document was written or deleted."""
        if (dirty := self._dirty.get(name)) is not None:
            dirty.add(document_id)

    async def _make(self, name: str, spec: Spec, options: IndexOptions) -> str:
        self._check_room()
        collection = await self.collect(spec)
        await self._save(self._shelf.with_entry(name, Entry(collection, spec, options)))
        return collection

    def _check_room(self) -> None:
        if len(self._shelf.entries) >= self._settings.max_indexes:
            raise Exhausted(
                f"there are {self._settings.max_indexes} indexes already, which is the limit; delete one, or raise "
                "max_indexes",
                reason="TOO_MANY_INDEXES",
                field="index",
            )

    def _check_room_for_alias(self) -> None:
        if len(self._shelf.aliases) >= self._settings.max_aliases:
            raise Exhausted(
                f"there are {self._settings.max_aliases} aliases already, which is the limit; delete one, or raise "
                "max_aliases",
                reason="TOO_MANY_ALIASES",
                field="alias",
            )

    async def _save(self, shelf: Shelf) -> None:
        await self.store.save_state(shelf.to_json())
        self._shelf = shelf

    async def _reading(self, index: str, read: Callable[[str], Awaitable[Answer]]) -> Answer:
        collection = self.entry(index)[1].collection
        for _ in range(_MAX_LOOKS):
            try:
                return await read(collection)
            except NotFound as error:
                now = self.entry(index)[1].collection
                if error.reason != _GONE or now == collection:
                    raise
                collection = now
        raise Unavailable(f"the index {index} is replaced again and again", reason="INDEX_MOVING", retry_delay_s=1.0)

    def _holding(self, name: str, options: IndexOptions) -> IndexSettings:
        own = self._settings

        def given(value: Given | None, default: Given) -> Given:
            return default if value is None else value

        return IndexSettings(
            index=name,
            chunk_tokens=given(options.chunk_tokens, own.chunk_tokens),
            chunk_overlap_tokens=given(options.chunk_overlap_tokens, own.chunk_overlap_tokens),
            fusion=given(options.fusion, Fusion(own.fusion)),
            rerank=given(options.rerank, Rerank(own.rerank)),
            min_score=options.min_score if options.min_score is not None else own.min_score,
            candidates=given(options.candidates, own.candidates),
            skip_near_duplicates=given(options.skip_near_duplicates, own.skip_near_duplicates),
        )


class HeldIndex:
    """Implements the port Target."""

    def __init__(self, library: IndexLibrary, name: str) -> None:
        self._library = library
        self._name = name
        self._collection = ""

    def __repr__(self) -> str:
        return f"HeldIndex({self._name} {self._collection})"

    async def model(self) -> EmbeddingModel:
        """Whose vectors it takes."""
        return await self._library.model_of(self._name)

    async def add(self, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks that no search finds before `commit`."""
        with self._deleted_meanwhile():
            await self._library.store.add(await self._where(), record, chunks)

    async def commit(self, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record."""
        with self._deleted_meanwhile():
            replaced = await self._library.store.commit(await self._where(), record, chunks)
        self._library.note(self._name, record.document_id)
        return replaced

    async def abandon(self, document_id: str) -> None:
        """Drops what was added and not committed."""
        if self._collection:
            with self._deleted_meanwhile():
                await self._library.store.abandon(self._collection, document_id)

    async def _where(self) -> str:
        if not self._collection:
            self._collection = await self._library.collection_for(self._name)
        return self._collection

    @contextlib.contextmanager
    def _deleted_meanwhile(self) -> Iterator[None]:
        try:
            yield
        except NotFound as error:
            raise Unavailable(
                f"the index {self._name} was deleted meanwhile; send the document again",
                reason="INDEX_DELETED",
                retry_delay_s=_RETRY_DELAY_S,
            ) from error
