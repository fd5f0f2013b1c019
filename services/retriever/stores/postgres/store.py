# ruff: noqa: S608 - names of tables are checked, and every value is a parameter
"""Implements the port Store on Postgres with pgvector; every change of a document is one transaction."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import TextClause, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.errors import NotFound, Unavailable
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.absence import lost_beginning, no_collection, no_document_in_store
from services.retriever.core.fusion import FUSIONS, fused
from services.retriever.document import Counts, Filter, Hit, Probe, Record, Spec, Vectored
from services.retriever.shelf import spec_from
from services.retriever.stores.postgres.conditions import Conditions
from services.retriever.stores.postgres.database import Database, why
from services.retriever.stores.postgres.graphs import Graphs
from services.retriever.stores.postgres.migrate import migrate
from services.retriever.stores.postgres.rows import (
    chunk_rows,
    record_row,
    to_chunk,
    to_record,
    vector_bytes,
    vector_text,
)
from services.retriever.stores.postgres.statements import Statements
from services.retriever.stores.words import Words, bm25_of, idf

_MAX_EF = 1000
# What was added and never committed is dropped at a start, once it is so old that nobody is still adding.
_DRAFT_LIFE = "1 hour"


@dataclass(frozen=True, slots=True)
class _Collection:
    """What is known of one."""

    spec: Spec
    words: Words
    sql: Statements


class PostgresStore:
    """`start` before use, `close` after. Several services may search one database; one of them should write."""

    def __init__(self, settings: RetrieverSettings) -> None:
        self._settings = settings
        self._url = make_url(settings.postgres_url.get_secret_value()).set(drivername="postgresql+psycopg")
        self._database = Database(self._url, settings.postgres_schema, settings.postgres_connections)
        self._graphs = Graphs(self._database)
        self._collections: dict[str, _Collection] = {}

    def __repr__(self) -> str:
        return f"PostgresStore({self._database!r})"

    @property
    def ready(self) -> bool:
        """Whether it answered last."""
        return self._database.reach.ready

    async def until(self, *, ready: bool) -> None:
        """Waits until it answers, or until it does not."""
        await self._database.reach.until(ready=ready)

    async def start(self) -> None:
        """Brings the tables up to date and tidies up what a crash left. Raises Unavailable or FailedPrecondition."""
        try:
            await asyncio.to_thread(migrate, self._url, self._settings.postgres_schema)
        except SQLAlchemyError as error:
            raise Unavailable(f"Postgres does not answer: {why(error)}", reason="STORE_AWAY") from error
        tidy = f"DELETE FROM chunks WHERE NOT visible AND added_at < now() - interval '{_DRAFT_LIFE}'"
        await self._database.change(lambda connection: connection.execute(text(tidy)))
        self._database.reach.found()
        for collection, counts in (await self.collections()).items():
            await self._look(collection, counts)

    async def close(self) -> None:
        """Ends what is under way and every connection."""
        await self._graphs.close()
        await self._database.close()

    async def load_state(self) -> bytes:
        """What `save_state` kept last."""
        rows = await self._rows("SELECT content FROM state", {})
        return bytes(rows[0].content) if rows else b""

    async def save_state(self, state: bytes) -> None:
        """Keeps the library's state."""
        statement = "INSERT INTO state (content) VALUES (:content) ON CONFLICT (one) DO UPDATE SET content = :content"
        await self._database.change(lambda connection: connection.execute(text(statement), {"content": state}))

    async def collections(self) -> Mapping[str, Counts]:
        """Every collection's numbers."""
        rows = await self._rows("SELECT collection, documents, chunks, has_graph FROM collections", {})
        return {row.collection: Counts(row.documents, row.chunks, row.has_graph) for row in rows}

    async def create(self, collection: str, spec: Spec) -> None:
        """Makes an empty one."""
        made = self._collection(collection, spec)
        insert = (
            "INSERT INTO collections (collection, spec) VALUES (:collection, CAST(:spec AS jsonb)) "
            "ON CONFLICT DO NOTHING"
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text(insert), {"collection": collection, "spec": json.dumps(asdict(spec))})
            for statement in made.sql.create:
                await connection.execute(text(statement))

        await self._database.change(work)

    async def drop(self, collection: str) -> None:
        """Deletes it."""
        await self._graphs.forget(collection)
        try:
            known = await self._known(collection)
        except NotFound:
            return

        async def work(connection: AsyncConnection) -> None:
            for statement in known.sql.drop:
                await connection.execute(text(statement))
            await connection.execute(text("DELETE FROM collections WHERE collection = :name"), {"name": collection})

        await self._database.change(work)
        self._collections.pop(collection, None)

    async def record(self, collection: str, document_id: str) -> Record | None:
        """A document's record."""
        # The collection itself is asked for too: one that is gone is not one without the document.
        statement = (
            "SELECT record FROM collections LEFT JOIN documents "
            "ON documents.collection = collections.collection AND document_id = :document_id "
            "WHERE collections.collection = :collection"
        )
        rows = await self._rows(statement, {"collection": collection, "document_id": document_id})
        if not rows:
            raise no_collection(collection)
        return to_record(rows[0].record) if rows[0].record else None

    async def records(self, collection: str, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Documents by id."""
        await self._known(collection)
        conditions = Conditions(wanted)
        statement = (
            "SELECT record FROM documents WHERE collection = :collection AND document_id > :after "
            f"AND {conditions.sql} ORDER BY document_id LIMIT :limit"
        )
        values = {"collection": collection, "after": after, "limit": limit, **conditions.parameters}
        return [to_record(row.record) for row in await self._rows(statement, values)]

    async def chunks(self, collection: str, document_id: str, after: str, limit: int) -> list[Vectored]:
        """A document's chunks by id."""
        statement = (
            f"SELECT content, embedding::text AS embedding FROM {(await self._known(collection)).sql.chunks} "
            "WHERE visible AND document_id = :document_id "
            'AND (length(chunk_id), chunk_id) > (length(:after), :after COLLATE "C") '
            "ORDER BY length(chunk_id), chunk_id LIMIT :limit"
        )
        rows = await self._rows(statement, {"document_id": document_id, "after": after, "limit": limit})
        return [Vectored(to_chunk(row.content), vector_bytes(row.embedding)) for row in rows]

    async def add(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks unseen until `commit`."""
        known = await self._known(collection)
        rows = await asyncio.to_thread(chunk_rows, collection, record, chunks, known.words, visible=False)
        # Drafts of another version go, and a try of these very chunks that was not heard of.
        others = known.sql.delete("NOT visible AND (version <> :version OR chunk_id = ANY(:ids))")
        values = {**_key(record), "ids": [item.chunk.chunk_id for item in chunks]}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text(others), values)
            await connection.execute(text(known.sql.insert), rows)

        await self._database.change(work)

    async def commit(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record, on disk when it returns. Returns whether it replaced a document."""
        known = await self._known(collection)
        rows = await asyncio.to_thread(chunk_rows, collection, record, chunks, known.words, visible=True)
        values = {**_key(record), "ids": [item.chunk.chunk_id for item in chunks]}
        sql = known.sql

        async def work(connection: AsyncConnection) -> tuple[bool, Counts]:
            old = await _old(connection, collection, record.document_id)
            await connection.execute(
                text(sql.delete("(visible OR version <> :version OR chunk_id = ANY(:ids))")), values
            )
            shown = await connection.execute(
                text(f"UPDATE {sql.chunks} SET visible = true WHERE document_id = :document_id"), values
            )
            if shown.rowcount + len(rows) != record.chunks:
                raise lost_beginning(record.document_id)
            await connection.execute(text(sql.insert), rows)
            await connection.execute(text(sql.insert_postings), values)
            await connection.execute(_UPSERT, {"collection": collection, **record_row(record)})
            delta = record.chunks - (old or 0)
            return old is not None, await _count(connection, collection, 0 if old is not None else 1, delta)

        replaced, counts = await self._database.change(work)
        await self._look(collection, counts)
        return replaced

    async def abandon(self, collection: str, document_id: str) -> None:
        """Drops what was added and not committed."""
        statement = (await self._known(collection)).sql.delete("NOT visible")
        values = {"document_id": document_id}
        await self._database.change(lambda connection: connection.execute(text(statement), values))

    async def delete(self, collection: str, document_id: str) -> int:
        """Deletes it; returns its chunks. Raises NotFound."""
        statement = (await self._known(collection)).sql.delete("visible")
        values = {"collection": collection, "document_id": document_id}

        async def work(connection: AsyncConnection) -> int:
            old = await _old(connection, collection, document_id)
            if old is None:
                raise no_document_in_store(document_id)
            await connection.execute(text(statement), values)
            await connection.execute(_FORGET, values)
            await _count(connection, collection, -1, -old)
            return old

        return await self._database.change(work)

    async def search(self, collection: str, probe: Probe) -> list[Hit]:
        """What was found, best first."""
        known = await self._known(collection)
        return await self._database.look(lambda connection: self._search(connection, collection, known, probe))

    async def _search(
        self, connection: AsyncConnection, collection: str, known: _Collection, probe: Probe
    ) -> list[Hit]:
        dense = await self._nearest(connection, known, probe) if probe.vector else None
        words = await self._words(connection, collection, known, probe) if probe.text else None
        best = fused(dense, words, FUSIONS[probe.fusion.value], probe.keep)
        vector = "embedding::text" if probe.with_vectors else "NULL"
        statement = (
            f"SELECT id, content, {vector} AS embedding, record FROM {known.sql.chunks} AS chunk "
            "JOIN documents ON documents.collection = :collection AND documents.document_id = chunk.document_id "
            "WHERE id = ANY(:ids)"
        )
        values = {"collection": collection, "ids": [int(key) for key, _ in best]}
        rows = {str(row.id): row for row in await connection.execute(text(statement), values)}
        return [
            Hit(
                to_record(rows[key].record),
                to_chunk(rows[key].content),
                score,
                (dense or {}).get(key, 0.0),
                (words or {}).get(key, 0.0),
                vector_bytes(rows[key].embedding) if probe.with_vectors else b"",
            )
            for key, score in best
        ]

    async def _nearest(self, connection: AsyncConnection, known: _Collection, probe: Probe) -> dict[str, float]:
        conditions = Conditions(probe.filter)
        reach = probe.limit * 2 if known.spec.quantised else probe.limit
        await connection.execute(text("SET LOCAL hnsw.iterative_scan = relaxed_order"))
        await connection.execute(text(f"SET LOCAL hnsw.ef_search = {min(max(reach, 100), _MAX_EF)}"))
        values = {"vector": vector_text(probe.vector), "limit": probe.limit, "reach": reach, **conditions.parameters}
        rows = await connection.execute(text(known.sql.nearest(conditions.sql)), values)
        return {str(row.id): float(row.score) for row in rows}

    async def _words(
        self, connection: AsyncConnection, collection: str, known: _Collection, probe: Probe
    ) -> dict[str, float]:
        terms, _ = known.words.of_query(probe.text)
        conditions = Conditions(probe.filter)
        total = await connection.scalar(
            text("SELECT chunks FROM collections WHERE collection = :collection"), {"collection": collection}
        )
        # Counted by itself, from an index alone. Both see one state, and together take half the time of one for both.
        counted = await connection.execute(text(known.sql.frequencies), {"terms": terms})
        idfs = {row.term: idf(total or 0, row.chunks) for row in counted}
        values = {"terms": list(idfs), "idfs": list(idfs.values()), "limit": probe.limit, **conditions.parameters}
        rows = await connection.execute(text(known.sql.words(conditions.sql)), values)
        return {str(row.chunk): float(row.score) for row in rows}

    async def _look(self, collection: str, counts: Counts) -> None:
        """Begins a graph where the collection has grown so large that it wants one."""
        if counts.chunks >= self._settings.hnsw_min_chunks and not counts.has_graph:
            self._graphs.build(collection, (await self._known(collection)).sql)

    async def _known(self, collection: str) -> _Collection:
        if (known := self._collections.get(collection)) is not None:
            return known
        rows = await self._rows("SELECT spec FROM collections WHERE collection = :name", {"name": collection})
        if not rows:
            raise no_collection(collection)
        return self._collection(collection, spec_from(rows[0].spec))

    def _collection(self, collection: str, spec: Spec) -> _Collection:
        statements = Statements(collection, spec.model.dimensions, spec.quantised)
        words = Words(bm25_of(self._settings, spec))
        return self._collections.setdefault(collection, _Collection(spec, words, statements))

    async def _rows(self, statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
        async def work(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(text(statement), values)).all()

        return await self._database.look(work)


_UPSERT: TextClause = text(
    "INSERT INTO documents (collection, document_id, version, chunks, tags, numbers, record) VALUES "
    "(:collection, :document_id, :version, :chunks, :tags, CAST(:numbers AS jsonb), CAST(:record AS jsonb)) "
    "ON CONFLICT (collection, document_id) DO UPDATE SET version = excluded.version, chunks = excluded.chunks, "
    "tags = excluded.tags, numbers = excluded.numbers, record = excluded.record"
)
_FORGET: TextClause = text("DELETE FROM documents WHERE collection = :collection AND document_id = :document_id")
_COUNT: TextClause = text(
    "UPDATE collections SET documents = documents + :documents, chunks = chunks + :chunks "
    "WHERE collection = :collection RETURNING documents, chunks, has_graph"
)
_OLD: TextClause = text(
    "SELECT chunks FROM documents WHERE collection = :collection AND document_id = :document_id FOR UPDATE"
)


async def _old(connection: AsyncConnection, collection: str, document_id: str) -> int | None:
    """Chunks of the document that is there, which nobody else changes until the transaction ends."""
    found = await connection.execute(_OLD, {"collection": collection, "document_id": document_id})
    return found.scalar_one_or_none()


async def _count(connection: AsyncConnection, collection: str, documents: int, chunks: int) -> Counts:
    """The collection's numbers after the change."""
    values = {"collection": collection, "documents": documents, "chunks": chunks}
    row = (await connection.execute(_COUNT, values)).one_or_none()
    if row is None:
        raise no_collection(collection)
    return Counts(row.documents, row.chunks, row.has_graph)


def _key(record: Record) -> dict[str, Any]:
    return {"document_id": record.document_id, "version": record.version}
