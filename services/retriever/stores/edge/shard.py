"""One collection: a Qdrant Edge shard with dense and BM25 vectors, and the records of its documents.

A document's chunks become visible with its record, in one write: chunks added ahead of it are hidden from searches, and
a marker on disk names the documents whose chunks must be tidied up after a crash.
"""

import bisect
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from services.retriever.core.filters import compiled_for_records
from services.retriever.core.fusion import FUSIONS, fused
from services.retriever.document import Counts, Filter, Hit, Probe, Record, Spec, Vectored
from services.retriever.stores.edge.conditions import conditions_of, match
from services.retriever.stores.edge.folder import Folder
from services.retriever.stores.edge.follower import Follower
from services.retriever.stores.edge.layout import DENSE, WORDS, config_of, dense_values, served_config
from services.retriever.stores.edge.refusal import NOT_FOUND, UNAVAILABLE, Refusal
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
from services.retriever.stores.state_file import sync_folder
from services.retriever.stores.words import Bm25Settings, Words

_SCROLL_LIMIT = 1000
# IDF counts over this, so that what was deleted does not make its words look common.
_LIVE = qdrant.IdfParams(qdrant.Filter(must=[match("kind", "chunk")]))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A version that is being added, and its chunks so far."""

    version: str
    chunk_ids: set[str]


class Shard:
    """Made by `create` or by opening its folder; `close` ends it. One process at a time may hold a folder."""

    def __init__(self, path: Path, hnsw_min_chunks: int) -> None:
        self.name = path.name
        self._folder = Folder(path)
        self._folder.tidy_up()
        self._hnsw_min_chunks = hnsw_min_chunks
        self._words = Words(self._folder.bm25)
        self._shard = qdrant.EdgeShard.load(str(self._folder.shard), served_config(self._folder.spec))
        self._records = {record.document_id: record for record in map(to_record, self._scroll("record"))}
        self._order: list[str] | None = None
        self._chunks = sum(record.chunks for record in self._records.values())
        self._unseen: dict[str, _Draft] = {}
        self._follower: Follower | None = None
        self._has_deleted = self._folder.has_deleted
        self._tidy_up()

    def __repr__(self) -> str:
        return f"Shard({self.name} documents={len(self._records)} chunks={self._chunks})"

    @classmethod
    def create(cls, path: Path, spec: Spec, bm25: Bm25Settings, hnsw_min_chunks: int) -> "Shard":
        """Makes a collection in `path`; after a crash the folder is there as a whole or not at all."""
        draft = path.with_name(f".new-{path.name}")
        shutil.rmtree(draft, ignore_errors=True)
        shard = qdrant.EdgeShard.create(str(Folder.describe(draft, spec, bm25)), config_of(spec))
        for field in KEYWORDS:
            shard.update(qdrant.UpdateOperation.create_field_index(field, qdrant.PayloadSchemaType.Keyword))
        shard.flush()
        shard.close()
        draft.rename(path)
        sync_folder(path.parent)
        return cls(path, hnsw_min_chunks)

    @property
    def counts(self) -> Counts:
        """Its numbers, with committed documents only."""
        return Counts(len(self._records), self._chunks, self._folder.graph_chunks > 0)

    @property
    def wants_graph(self) -> bool:
        """Whether enough has come since the last graph to build another; each is a quarter larger than the one before.

        Fewer vectors are searched in full, which is exact.
        """
        graphed = self._folder.graph_chunks
        fresh = self._chunks - graphed
        return (
            self._follower is None
            and self._chunks >= self._hnsw_min_chunks
            and fresh >= max(self._hnsw_min_chunks // 2, graphed // 4)
        )

    def record(self, document_id: str) -> Record | None:
        """A committed document's record."""
        return self._records.get(document_id)

    def records(self, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Committed documents by id, from the one after `after`."""
        if self._order is None:
            self._order = sorted(self._records)
        passes, found = compiled_for_records(wanted), list[Record]()
        for document_id in self._order[bisect.bisect_right(self._order, after) :]:
            record = self._records[document_id]
            if passes(record):
                found.append(record)
                if len(found) == limit:
                    break
        return found

    def chunks(self, document_id: str, after: str, limit: int) -> list[Vectored]:
        """A committed document's chunks by id, from the one after `after`."""
        record = self._records.get(document_id)
        if record is None:
            return []
        # Chunks are numbered from 0 and their ids sort as their numbers do.
        first = int(after) + 1 if after else 0
        ids: list[int | uuid.UUID | str] = [
            point_id("chunk", document_id, record.version, f"{number:05d}")
            for number in range(first, min(first + limit, record.chunks))
        ]
        points = self._shard.retrieve(ids, with_payload=True, with_vector=[DENSE])
        found = [Vectored(to_chunk(point.payload or {}), _bytes_of(point)) for point in points]
        return sorted(found, key=lambda item: (len(item.chunk.chunk_id), item.chunk.chunk_id))

    def add(self, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks of a document that is not committed yet."""
        draft = self._unseen.get(record.document_id)
        if draft is None or draft.version != record.version:
            self._mark(record.document_id)
            if draft is not None:
                self._delete_chunks(record.document_id, must=[match("version", draft.version)])
            draft = self._unseen[record.document_id] = _Draft(record.version, set())
        draft.chunk_ids.update(item.chunk.chunk_id for item in chunks)
        self._upsert([self._point(record, item) for item in chunks])

    def commit(self, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record; on disk when it returns. Returns whether it replaced a document."""
        old = self._records.get(record.document_id)
        draft = self._unseen.get(record.document_id)
        marked = draft is not None
        chunk_ids = {item.chunk.chunk_id for item in chunks}
        if draft is not None and draft.version == record.version:
            chunk_ids |= draft.chunk_ids
        if len(chunk_ids) != record.chunks:
            raise Refusal(
                UNAVAILABLE, "STORE_RESTARTED", f"the store lost the beginning of {record.document_id}; send it again"
            )
        if old and not marked:
            self._mark(record.document_id)
        # One write, hence one entry of the log: after a crash there are the record and all its chunks, or neither.
        written = qdrant.Point(point_id("record", record.document_id), {}, record_payload(record))
        self._upsert([*(self._point(record, item) for item in chunks), written])
        self._sync_log()
        if old is None:
            self._order = None
        self._records[record.document_id] = record
        self._chunks += record.chunks - (old.chunks if old else 0)
        self._unseen.pop(record.document_id, None)
        if old or marked:
            self._drop_other_versions(record.document_id)
        return old is not None

    def abandon(self, document_id: str) -> None:
        """Drops what was added of a document and not committed."""
        if self._unseen.pop(document_id, None) is not None:
            self._drop_other_versions(document_id)

    def delete(self, document_id: str) -> int:
        """Deletes a document; returns its chunks. On disk when it returns."""
        record = self._records.get(document_id)
        if record is None:
            raise Refusal(NOT_FOUND, "DOCUMENT_NOT_FOUND", f"there is no document {document_id}", "document_id")
        self._mark(document_id)
        self._update(qdrant.UpdateOperation.delete_points([point_id("record", document_id)]))
        del self._records[document_id]
        self._order = None
        self._chunks -= record.chunks
        if document_id in self._unseen:
            # Its next version is being written: the marker stays, and only the version that is deleted goes.
            self._delete_chunks(document_id, must=[match("version", record.version)])
        else:
            self._drop_other_versions(document_id)
        self._sync_log()
        return record.chunks

    def search(self, probe: Probe) -> list[Hit]:
        """The best chunks, best first."""
        dense, words = self._nearest(probe)
        best = fused(dense, words, FUSIONS[probe.fusion.value], probe.keep)
        ids: list[int | uuid.UUID | str] = [key for key, _ in best]
        points = self._shard.retrieve(ids, with_payload=True, with_vector=[DENSE] if probe.with_vectors else False)
        found = {_key(point): point for point in points}
        hits = []
        for key, score in best:
            point = found[key]
            payload = point.payload or {}
            record = self._records[payload["document_id"]]
            vector = _bytes_of(point) if probe.with_vectors else b""
            scores = score, (dense or {}).get(key, 0.0), (words or {}).get(key, 0.0)
            hits.append(Hit(record, to_chunk(payload), *scores, vector))
        return hits

    def begin_graph(self) -> tuple[str, str]:
        """Notes from now on what changes; the folder to copy, whose files stay as they are until the next write."""
        self._shard.flush()
        self._follower = Follower()
        return str(self._folder.shard), str(self._folder.next_shard)

    def follow_graph(self) -> bool:
        """Writes some of what has changed to the copy; whether it has caught up and taken over."""
        follower = self._follower
        if follower is None:
            raise Refusal(UNAVAILABLE, "GRAPH_LOST", f"the store was started anew while {self.name} got its graph")
        path = self._folder.next_shard
        if not follower.follow(path, served_config(self._folder.spec)):
            return False
        old = self._folder.shard
        self._folder.take_over(path, self._chunks)
        self._shard.close()
        self._shard, self._follower = follower.shard, None
        self._has_deleted = False
        shutil.rmtree(old)
        return True

    def end_graph(self) -> None:
        """Forgets a copy that came to nothing."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        self._folder.tidy_up()

    def flush(self) -> None:
        """Writes what is only in the log to its place."""
        self._shard.flush()

    def close(self) -> None:
        """Flushes and lets go of the folder."""
        self._shard.flush()
        self._shard.close()
        if self._follower is not None:
            self._follower.close()

    def _nearest(self, probe: Probe) -> tuple[dict[str, float] | None, dict[str, float] | None]:
        """Scores by point of each search; None where it was not asked for."""
        must = conditions_of(probe.filter)
        hidden: list[Any] = [
            qdrant.Filter(must=[match("document_id", document_id), match("version", draft.version)])
            for document_id, draft in self._unseen.items()
        ]
        condition = qdrant.Filter(must=must, must_not=hidden) if must or hidden else None
        requests = {}
        if probe.vector:
            requests[DENSE] = _request(qdrant.Query.Nearest(dense_values(probe.vector), using=DENSE), probe, condition)
        indices, values = self._words.of_query(probe.text) if probe.text else ([], [])
        if indices:
            query = qdrant.Query.Nearest(qdrant.SparseVector(indices, values), using=WORDS)
            idf = qdrant.SearchParams(idf=_LIVE) if self._has_deleted else None
            requests[WORDS] = _request(query, probe, condition, idf)
        answers = self._shard.query_batch(qdrant.QueryBatchRequest(list(requests.values()))) if requests else []
        found: dict[str, dict[str, float]] = {
            name: {_key(point): point.score for point in points} for name, points in zip(requests, answers, strict=True)
        }
        return found.get(DENSE), found.get(WORDS, {}) if probe.text else None

    def _point(self, record: Record, item: Vectored) -> Any:
        words = qdrant.SparseVector(*self._words.of_document(item.chunk.indexed_text))
        vectors: dict[str, Any] = {DENSE: dense_values(item.vector), WORDS: words}
        return qdrant.Point(chunk_point_id(record, item.chunk), vectors, chunk_payload(record, item.chunk))

    def _upsert(self, points: list[Any]) -> None:
        self._update(qdrant.UpdateOperation.upsert_points(points), len(points))

    def _update(self, operation: Any, points: int = 1) -> None:
        self._shard.update(operation)
        if self._follower is not None:
            self._follower.note(operation, points)

    def _mark(self, document_id: str) -> None:
        """Notes on disk that chunks of this document may be left over, before there are any."""
        self._upsert([qdrant.Point(point_id("marker", document_id), {}, marker_payload(document_id))])

    def _drop_other_versions(self, document_id: str) -> None:
        """Deletes chunks that belong to no committed version, and then the marker."""
        record = self._records.get(document_id)
        self._delete_chunks(document_id, must_not=[match("version", record.version)] if record else [])
        self._update(qdrant.UpdateOperation.delete_points([point_id("marker", document_id)]))

    def _delete_chunks(self, document_id: str, must: Sequence[Any] = (), must_not: Sequence[Any] = ()) -> None:
        if not self._has_deleted:
            self._folder.note_deleted()
            self._has_deleted = True
        chunks = [match("kind", "chunk"), match("document_id", document_id), *must]
        condition = qdrant.Filter(must=chunks, must_not=list(must_not))
        self._update(qdrant.UpdateOperation.delete_points_by_filter(condition))

    def _tidy_up(self) -> None:
        for payload in list(self._scroll("marker")):
            self._drop_other_versions(payload["document_id"])

    def _scroll(self, kind: str) -> Iterable[dict[str, Any]]:
        offset = None
        while True:
            request = qdrant.ScrollRequest(
                offset=offset,
                limit=_SCROLL_LIMIT,
                filter=qdrant.Filter(must=[match("kind", kind)]),
                with_payload=True,
                with_vector=False,
            )
            points, offset = self._shard.scroll(request)
            yield from (point.payload or {} for point in points)
            if offset is None:
                return

    def _sync_log(self) -> None:
        """The log survives the process by itself; this makes it survive the machine too."""
        for path in (self._folder.shard / "wal").glob("open-*"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)


def _request(query: Any, probe: Probe, condition: Any, params: Any = None) -> Any:
    return qdrant.QueryRequest(limit=probe.limit, query=query, filter=condition, params=params, with_payload=False)


def _key(point: Any) -> str:
    """Its id, always a UUID here: the digits alone are made in a fraction of the time that its usual form takes."""
    found: str = point.id.hex
    return found


def _bytes_of(point: Any) -> bytes:
    return np.asarray(point.vector[DENSE], "<f4").tobytes()
