"""One index: a Qdrant Edge shard with dense and BM25 vectors, and the records of its documents.

A document's chunks become visible with its record, in one write: chunks added ahead of it are hidden from searches, and
a marker on disk names the documents whose chunks must be tidied up after a crash.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from services.retriever.core.fusion import Fuse, ranked
from services.retriever.document import EmbeddingModel, Filter, IndexInfo, Mode, Passage, Query, Record
from services.retriever.stores.operations import Vectored
from services.retriever.stores.points import (
    chunk_point,
    marker_point,
    match,
    point_id,
    record_point,
    tag,
    to_chunk,
    to_record,
)
from services.retriever.stores.refusal import INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, Refusal

_DENSE, _WORDS = "dense", "words"
_META_FILE = "index.json"
_SHARD_DIR = "shard"
_SCROLL_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Bm25Settings:
    """How words are weighed; fixed when an index is made, since its vectors hold the weights."""

    language: str
    k: float
    b: float
    average_words: float


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How many candidates each search hands to the fusion, and which fusion."""

    candidates: int
    fuse: Fuse


@dataclass(frozen=True, slots=True)
class _Draft:
    """A version that is being added, and its chunks so far."""

    version: str
    chunk_ids: set[str]


class Shard:
    """Made by `create` or `load`; `close` ends it. One process at a time may hold a folder."""

    def __init__(self, folder: Path, hnsw_min_chunks: int) -> None:
        self.name = folder.name
        self._folder = folder
        meta = json.loads((folder / _META_FILE).read_text())
        self.model = EmbeddingModel(**meta["model"])
        bm25 = Bm25Settings(**meta["bm25"])
        self._bm25 = qdrant.Bm25(
            qdrant.Bm25Config(k=bm25.k, b=bm25.b, avg_len=bm25.average_words, language=bm25.language)
        )
        self._shard = qdrant.EdgeShard.load(str(folder / _SHARD_DIR), _config(self.model, hnsw_min_chunks))
        self._records = {record.document_id: record for record in map(to_record, self._scroll("record"))}
        self._chunks = sum(record.chunks for record in self._records.values())
        self._unseen: dict[str, _Draft] = {}
        self._tidy_up()
        # Holds up every search while it runs, so it has its place here: before the first one.
        self._shard.optimize()

    def __repr__(self) -> str:
        return f"Shard({self.name} documents={len(self._records)} chunks={self._chunks})"

    @classmethod
    def create(cls, folder: Path, model: EmbeddingModel, bm25: Bm25Settings, hnsw_min_chunks: int) -> "Shard":
        """Makes an index in `folder`; after a crash the folder is there as a whole or not at all."""
        draft = folder.with_name(f".new-{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        (draft / _SHARD_DIR).mkdir(parents=True)
        shard = qdrant.EdgeShard.create(str(draft / _SHARD_DIR), _config(model, hnsw_min_chunks))
        for field in ("kind", "document_id", "tags"):
            shard.update(qdrant.UpdateOperation.create_field_index(field, qdrant.PayloadSchemaType.Keyword))
        shard.flush()
        shard.close()
        (draft / _META_FILE).write_text(json.dumps({"model": asdict(model), "bm25": asdict(bm25)}))
        draft.rename(folder)
        _sync_folder(folder.parent)
        return cls(folder, hnsw_min_chunks)

    @property
    def info(self) -> IndexInfo:
        """Its numbers, with committed documents only."""
        return IndexInfo(self.name, len(self._records), self._chunks, self.model)

    def record(self, document_id: str) -> Record | None:
        """A committed document's record."""
        return self._records.get(document_id)

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
        self._upsert([*(self._point(record, item) for item in chunks), record_point(record)])
        self._sync_log()
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
            raise Refusal(
                NOT_FOUND,
                "DOCUMENT_NOT_FOUND",
                f"there is no document {document_id} in the index {self.name}",
                "document_id",
            )
        self._mark(document_id)
        self._shard.update(qdrant.UpdateOperation.delete_points([point_id("record", document_id)]))
        del self._records[document_id]
        self._chunks -= record.chunks
        if document_id in self._unseen:
            # Its next version is being written: the marker stays, and only the version that is deleted goes.
            self._delete_chunks(document_id, must=[match("version", record.version)])
        else:
            self._drop_other_versions(document_id)
        self._sync_log()
        return record.chunks

    def search(self, query: Query, vector: bytes, fingerprint: str, settings: SearchSettings) -> list[Passage]:
        """The best passages. Raises Refusal where the query's vector is another model's."""
        dense_wanted, words_wanted = query.mode is not Mode.BM25, query.mode is not Mode.DENSE
        if dense_wanted:
            self.check_model(fingerprint)
        limit = max(settings.candidates, query.top_k) if query.mode is Mode.HYBRID else query.top_k
        found = self._nearest(query, np.frombuffer(vector, "<f4").tolist() if dense_wanted else [], words_wanted, limit)
        dense, words = found.get(_DENSE, {}), found.get(_WORDS, {})
        fused = settings.fuse([dense, words]) if query.mode is Mode.HYBRID else dense or words
        best = ranked(fused)[: query.top_k]
        ids: list[int | uuid.UUID | str] = [*best]
        points = self._shard.retrieve(ids, with_payload=True, with_vector=False)
        payloads = {str(point.id): point.payload for point in points}
        return [
            Passage(record, to_chunk(payload), fused[key], dense.get(key, 0.0), words.get(key, 0.0))
            for key in best
            if (payload := payloads.get(key)) and (record := self._records.get(payload["document_id"]))
        ]

    def check_model(self, fingerprint: str) -> None:
        """Raises Refusal where `fingerprint` is not that of the index's vectors."""
        if fingerprint != self.model.fingerprint:
            raise Refusal(
                INVALID_ARGUMENT,
                "MODEL_CHANGED",
                f"the index {self.name} holds vectors of {self.model.name} ({self.model.fingerprint[:12]}), and the "
                f"embedder serves another model ({fingerprint[:12]}); serve that model again, or delete the index and "
                "ingest its documents anew",
                "index",
            )

    def flush(self) -> None:
        """Writes what is only in the log to its place."""
        self._shard.flush()

    def close(self) -> None:
        """Flushes and lets go of the folder."""
        self._shard.flush()
        self._shard.close()

    def _nearest(self, query: Query, dense: list[float], words_wanted: bool, limit: int) -> dict[str, dict[str, float]]:
        """Scores by point for each kind of vector that was searched."""
        condition = self._condition(query.filter)
        searches: dict[str, Any] = {}
        if dense:
            searches[_DENSE] = qdrant.Query.Nearest(dense, using=_DENSE)
        words = self._bm25.embed_query(query.text) if words_wanted else None
        if words is not None and words.indices:
            searches[_WORDS] = qdrant.Query.Nearest(words, using=_WORDS)
        requests = [
            qdrant.QueryRequest(limit=limit, query=search, filter=condition, with_payload=False)
            for search in searches.values()
        ]
        if not requests:
            return {}
        answers = self._shard.query_batch(qdrant.QueryBatchRequest(requests))
        return {
            using: {str(point.id): point.score for point in points}
            for using, points in zip(searches, answers, strict=True)
        }

    def _condition(self, wanted: Filter) -> Any:
        must: list[Any] = []
        if wanted.document_ids:
            must.append(qdrant.FieldCondition("document_id", match=qdrant.MatchAny(list(wanted.document_ids))))
        for condition in wanted.conditions:
            tags = [tag(condition.key, value) for value in condition.values]
            must.append(qdrant.FieldCondition("tags", match=qdrant.MatchAny(tags)))
        hidden: list[Any] = [
            qdrant.Filter(must=[match("document_id", document_id), match("version", draft.version)])
            for document_id, draft in self._unseen.items()
        ]
        return qdrant.Filter(must=must, must_not=hidden) if must or hidden else None

    def _point(self, record: Record, item: Vectored) -> Any:
        vectors = {
            _DENSE: np.frombuffer(item.vector, "<f4").tolist(),
            _WORDS: self._bm25.embed_document(item.chunk.indexed_text),
        }
        return chunk_point(record, item.chunk, vectors)

    def _upsert(self, points: list[Any]) -> None:
        self._shard.update(qdrant.UpdateOperation.upsert_points(points))

    def _mark(self, document_id: str) -> None:
        """Notes on disk that chunks of this document may be left over, before there are any."""
        self._upsert([marker_point(document_id)])

    def _drop_other_versions(self, document_id: str) -> None:
        """Deletes chunks that belong to no committed version, and then the marker."""
        record = self._records.get(document_id)
        self._delete_chunks(document_id, must_not=[match("version", record.version)] if record else [])
        self._shard.update(qdrant.UpdateOperation.delete_points([point_id("marker", document_id)]))

    def _delete_chunks(self, document_id: str, must: Sequence[Any] = (), must_not: Sequence[Any] = ()) -> None:
        chunks = [match("kind", "chunk"), match("document_id", document_id), *must]
        condition = qdrant.Filter(must=chunks, must_not=list(must_not))
        self._shard.update(qdrant.UpdateOperation.delete_points_by_filter(condition))

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
        for path in (self._folder / _SHARD_DIR / "wal").glob("open-*"):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)


def _config(model: EmbeddingModel, hnsw_min_chunks: int) -> Any:
    threshold_kb = max(1, hnsw_min_chunks * model.dimensions * 4 // 1024)
    return qdrant.EdgeConfig(
        vectors={_DENSE: qdrant.EdgeVectorParams(size=model.dimensions, distance=qdrant.Distance.Cosine)},
        sparse_vectors={_WORDS: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=threshold_kb),
        wal_enabled=True,
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
