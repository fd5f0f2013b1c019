"""One collection on a Qdrant server: documents that become visible, change and go as a whole.

A chunk carries its document's version, and counts only while the document's record names that version; so writing the
record is the one step that shows all chunks of a version and hides those of the one before. A marker names the
documents whose other chunks must be tidied up after a crash.
"""

import asyncio
import bisect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from qdrant_client import models

from services.kit.errors import Unavailable
from services.retriever.absence import lost_beginning, no_document_in_store
from services.retriever.core.filters import compiled_for_records
from services.retriever.core.fusion import FUSIONS, fused
from services.retriever.document import Counts, Filter, Hit, Probe, Record, Spec, Vectored
from services.retriever.shelf import spec_from
from services.retriever.stores.payloads import (
    KEYWORDS,
    chunk_payload,
    chunk_point_id,
    marker_payload,
    point_id,
    record_payload,
    to_chunk,
    to_record,
)
from services.retriever.stores.qdrant.conditions import conditions_of, match
from services.retriever.stores.qdrant.server import QdrantServer
from services.retriever.stores.words import Words

_DENSE, _WORDS = "dense", "words"
_SPEC_ID = point_id("spec")
_SCROLL_LIMIT = 1000
# Points of one message: with long texts and vectors it stays far below gRPC's limit.
_BATCH_POINTS = 128
# Looks at documents that are replaced at this moment; each takes longer than replacing one.
_MAX_LOOKS = 8
_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class _Draft:
    """A version that is being added, and its chunks so far."""

    version: str
    chunk_ids: set[str]


class Collection:
    """Made by `create` or found by `open`. One process writes to it."""

    def __init__(self, server: QdrantServer, name: str, spec: Spec, words: Words) -> None:
        self.spec = spec
        self._server = server
        self._client: Any = server.client
        self._name = name
        self._words = words
        self._unseen: dict[str, _Draft] = {}
        self._order: list[str] | None = None

    def __repr__(self) -> str:
        return f"Collection({self._name})"

    @staticmethod
    async def create(server: QdrantServer, name: str, spec: Spec, graph_min_chunks: int) -> None:
        """Makes an empty one."""
        quantised = models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=_QUANTILE, always_ram=True)
        )
        client = server.client

        async def make() -> None:
            if await client.collection_exists(name):
                return
            await client.create_collection(
                name,
                vectors_config={
                    _DENSE: models.VectorParams(size=spec.model.dimensions, distance=models.Distance.COSINE)
                },
                sparse_vectors_config={_WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                quantization_config=quantised if spec.quantised else None,
                optimizers_config=models.OptimizersConfigDiff(
                    indexing_threshold=max(1, graph_min_chunks * spec.model.dimensions * 4 // 1024)
                ),
            )

        await server.call(make)
        for field in KEYWORDS:
            await server.call(partial(client.create_payload_index, name, field, models.PayloadSchemaType.KEYWORD))
        payload = {"kind": "spec", "spec": asdict(spec)}
        point = models.PointStruct(id=_SPEC_ID, vector={}, payload=payload)
        await server.call(lambda: client.upsert(name, [point], wait=True))

    @staticmethod
    async def spec_of(server: QdrantServer, name: str) -> Spec | None:
        """How it is built; None where it was not made to its end. Raises NotFound where there is none."""
        found = await server.call(lambda: server.client.retrieve(name, [_SPEC_ID], with_payload=True))
        return spec_from(found[0].payload["spec"]) if found and found[0].payload else None

    async def tidy_up(self) -> None:
        """Drops what a crash left."""
        for payload in await self._scroll("marker"):
            record = await self.record(payload["document_id"])
            await self._drop_other_versions(payload["document_id"], record)

    async def counts(self) -> Counts:
        """Its numbers."""
        documents = await self._count(models.Filter(must=[match("kind", "record")]))
        chunks = await self._count(models.Filter(must=[match("kind", "chunk")], must_not=self._hidden()))
        info = await self._server.call(lambda: self._client.get_collection(self._name))
        # Sparse vectors count as indexed too, each one; a graph's come on top of these.
        return Counts(documents, chunks, (info.indexed_vectors_count or 0) > chunks)

    async def record(self, document_id: str) -> Record | None:
        """A document's record."""
        return (await self._records([document_id])).get(document_id)

    async def records(self, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Documents by id. The server cannot order by it: the ids are kept here."""
        if self._order is None:
            self._order = sorted(payload["document_id"] for payload in await self._scroll("record", ["document_id"]))
        order, found, passes = self._order, list[Record](), compiled_for_records(wanted)
        at = bisect.bisect_right(order, after)
        while at < len(order) and len(found) < limit:
            ids = order[at : at + _SCROLL_LIMIT]
            records = await self._records(ids)
            found += [record for document_id in ids if (record := records.get(document_id)) and passes(record)]
            at += len(ids)
        return found[:limit]

    async def chunks(self, document_id: str, after: str, limit: int) -> list[Vectored]:
        """A document's chunks by id."""
        record = await self.record(document_id)
        if record is None:
            return []
        # Chunks are numbered from 0 and their ids sort as their numbers do.
        first = int(after) + 1 if after else 0
        numbers = range(first, min(first + limit, record.chunks))
        ids = [point_id("chunk", document_id, record.version, f"{number:05d}") for number in numbers]
        points = await self._retrieve(ids, [_DENSE])
        found = [Vectored(to_chunk(point.payload), _bytes_of(point)) for point in points]
        return sorted(found, key=lambda item: (len(item.chunk.chunk_id), item.chunk.chunk_id))

    async def add(self, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks of a document that is not committed yet."""
        draft = self._unseen.get(record.document_id)
        if draft is None or draft.version != record.version:
            await self._mark(record.document_id)
            if draft is not None:
                await self._delete_chunks(record.document_id, must=[match("version", draft.version)])
            draft = self._unseen[record.document_id] = _Draft(record.version, set())
        draft.chunk_ids.update(item.chunk.chunk_id for item in chunks)
        await self._upsert_chunks(record, chunks)

    async def commit(self, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record. Returns whether it replaced a document."""
        draft = self._unseen.get(record.document_id)
        chunk_ids = {item.chunk.chunk_id for item in chunks}
        if draft is not None and draft.version == record.version:
            chunk_ids |= draft.chunk_ids
        if len(chunk_ids) != record.chunks:
            raise lost_beginning(record.document_id)
        await self.add(record, chunks)
        old = await self.record(record.document_id)
        point = models.PointStruct(id=point_id("record", record.document_id), vector={}, payload=record_payload(record))
        await self._server.call(lambda: self._client.upsert(self._name, [point], wait=True))
        self._unseen.pop(record.document_id, None)
        if old is None and self._order is not None:
            bisect.insort(self._order, record.document_id)
        await self._drop_other_versions(record.document_id, record)
        return old is not None

    async def abandon(self, document_id: str) -> None:
        """Drops what was added of a document and not committed."""
        if self._unseen.pop(document_id, None) is not None:
            await self._drop_other_versions(document_id, await self.record(document_id))

    async def delete(self, document_id: str) -> int:
        """Deletes a document; returns its chunks."""
        record = await self.record(document_id)
        if record is None:
            raise no_document_in_store(document_id)
        await self._mark(document_id)
        await self._delete_points([point_id("record", document_id)])
        if self._order is not None:
            self._order.remove(document_id)
        if document_id in self._unseen:
            # Its next version is being written: the marker stays, and only the version that is deleted goes.
            await self._delete_chunks(document_id, must=[match("version", record.version)])
        else:
            await self._drop_other_versions(document_id, None)
        return record.chunks

    async def search(self, probe: Probe) -> list[Hit]:
        """The best chunks, best first. Looks again where a document was replaced between two of its questions."""
        for look in range(_MAX_LOOKS):
            found = await self._search(probe)
            if found is not None:
                return found
            await asyncio.sleep(0.005 * 2**look)
        raise Unavailable(
            "documents that were found are replaced again and again; try again",
            reason="INDEX_MOVING",
            retry_delay_s=0.5,
        )

    async def _search(self, probe: Probe) -> list[Hit] | None:
        answers = await self._nearest(probe)
        keys = {point.id: point.payload for points in answers.values() for point in points}
        records = await self._records(list({payload["document_id"] for payload in keys.values()}))
        for payload in keys.values():
            record = records.get(payload["document_id"])
            if record is None or record.version != payload["version"]:
                return None
        scores = {name: {point.id: point.score for point in points} for name, points in answers.items()}
        dense = scores.get(_DENSE, {}) if probe.vector else None
        words = scores.get(_WORDS, {}) if probe.text else None
        best = fused(dense, words, FUSIONS[probe.fusion.value], probe.keep)
        points = await self._retrieve([key for key, _ in best], [_DENSE] if probe.with_vectors else False)
        found = {point.id: point for point in points}
        if len(found) < len(best):
            return None
        return [
            Hit(
                records[found[key].payload["document_id"]],
                to_chunk(found[key].payload),
                score,
                (dense or {}).get(key, 0.0),
                (words or {}).get(key, 0.0),
                _bytes_of(found[key]) if probe.with_vectors else b"",
            )
            for key, score in best
        ]

    async def _nearest(self, probe: Probe) -> dict[str, list[Any]]:
        condition = models.Filter(must=[match("kind", "chunk"), *conditions_of(probe.filter)], must_not=self._hidden())
        queries: dict[str, Any] = {}
        if probe.vector:
            queries[_DENSE] = np.frombuffer(probe.vector, "<f4").tolist()
        if probe.text:
            indices, values = self._words.of_query(probe.text)
            if indices:
                queries[_WORDS] = models.SparseVector(indices=indices, values=values)
        if not queries:
            return {}
        requests = [
            models.QueryRequest(
                query=query,
                using=name,
                filter=condition,
                limit=probe.limit,
                with_payload=models.PayloadSelectorInclude(include=["document_id", "version"]),
            )
            for name, query in queries.items()
        ]
        answers = await self._server.call(lambda: self._client.query_batch_points(self._name, requests))
        return {name: answer.points for name, answer in zip(queries, answers, strict=True)}

    def _hidden(self) -> list[Any]:
        return [
            models.Filter(must=[match("document_id", document_id), match("version", draft.version)])
            for document_id, draft in self._unseen.items()
        ]

    async def _records(self, document_ids: list[str]) -> dict[str, Record]:
        points = await self._retrieve([point_id("record", document_id) for document_id in document_ids], False)
        records = [to_record(point.payload) for point in points]
        return {record.document_id: record for record in records}

    async def _retrieve(self, ids: list[str], vectors: Any) -> list[Any]:
        if not ids:
            return []
        found: list[Any] = await self._server.call(
            lambda: self._client.retrieve(self._name, ids, with_payload=True, with_vectors=vectors)
        )
        return found

    async def _upsert_chunks(self, record: Record, chunks: Sequence[Vectored]) -> None:
        points = await asyncio.to_thread(self._points, record, chunks)
        for at in range(0, len(points), _BATCH_POINTS):
            batch = points[at : at + _BATCH_POINTS]
            await self._server.call(partial(self._client.upsert, self._name, batch, wait=True))

    def _points(self, record: Record, chunks: Sequence[Vectored]) -> list[Any]:
        points = []
        for item in chunks:
            indices, values = self._words.of_document(item.chunk.indexed_text)
            vectors: Any = {
                _DENSE: np.frombuffer(item.vector, "<f4").tolist(),
                _WORDS: models.SparseVector(indices=indices, values=values),
            }
            key = chunk_point_id(record, item.chunk)
            points.append(models.PointStruct(id=key, vector=vectors, payload=chunk_payload(record, item.chunk)))
        return points

    async def _mark(self, document_id: str) -> None:
        point = models.PointStruct(id=point_id("marker", document_id), vector={}, payload=marker_payload(document_id))
        await self._server.call(lambda: self._client.upsert(self._name, [point], wait=True))

    async def _drop_other_versions(self, document_id: str, record: Record | None) -> None:
        """Deletes chunks that belong to no committed version, and then the marker."""
        await self._delete_chunks(document_id, must_not=[match("version", record.version)] if record else [])
        await self._delete_points([point_id("marker", document_id)])

    async def _delete_chunks(self, document_id: str, must: Sequence[Any] = (), must_not: Sequence[Any] = ()) -> None:
        chunks = [match("kind", "chunk"), match("document_id", document_id), *must]
        selector = models.FilterSelector(filter=models.Filter(must=chunks, must_not=list(must_not)))
        await self._server.call(lambda: self._client.delete(self._name, selector, wait=True))

    async def _delete_points(self, ids: list[str]) -> None:
        selector = models.PointIdsList(points=list(ids))
        await self._server.call(lambda: self._client.delete(self._name, selector, wait=True))

    async def _count(self, condition: models.Filter) -> int:
        found = await self._server.call(lambda: self._client.count(self._name, count_filter=condition, exact=True))
        return int(found.count)

    async def _scroll(self, kind: str, fields: list[str] | bool = True) -> list[dict[str, Any]]:
        condition, offset, found = models.Filter(must=[match("kind", kind)]), None, list[dict[str, Any]]()
        while True:
            scroll = partial(self._client.scroll, self._name, scroll_filter=condition, limit=_SCROLL_LIMIT)
            points, offset = await self._server.call(partial(scroll, offset=offset, with_payload=fields))
            found += [point.payload for point in points]
            if offset is None:
                return found


def _bytes_of(point: Any) -> bytes:
    return np.asarray(point.vector[_DENSE], "<f4").tobytes()
