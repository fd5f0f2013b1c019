"""Chunks and records as rows, and back. The vectors cross as text, which every version of pgvector reads."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from services.retriever.core.filters import facts_of
from services.retriever.document import Chunk, Record, Vectored
from services.retriever.stores.words import Words


def vector_text(vector: bytes) -> str:
    """A vector as pgvector reads it, to the last bit."""
    return "[" + ",".join(map(repr, np.frombuffer(vector, "<f4").astype(float).tolist())) + "]"


def vector_bytes(text: str) -> bytes:
    """The inverse."""
    return np.fromstring(text[1:-1], sep=",").astype("<f4").tobytes()


def record_row(record: Record) -> dict[str, Any]:
    """A document's row, its collection left out."""
    facts = facts_of(record)
    return {
        "document_id": record.document_id,
        "version": record.version,
        "chunks": record.chunks,
        "tags": list(facts.tags),
        "numbers": json.dumps(facts.numbers),
        "record": json.dumps({**asdict(record), "metadata": dict(record.metadata)}),
    }


def chunk_rows(
    collection: str, record: Record, chunks: Sequence[Vectored], words: Words, *, visible: bool
) -> list[dict[str, Any]]:
    """Rows of some chunks of one version of a document."""
    rows = []
    for item in chunks:
        facts = facts_of(record, item.chunk.page)
        terms, weights = words.of_document(item.chunk.indexed_text)
        rows.append(
            {
                "collection": collection,
                "document_id": record.document_id,
                "version": record.version,
                "chunk_id": item.chunk.chunk_id,
                "visible": visible,
                "tags": list(facts.tags),
                "numbers": json.dumps(facts.numbers),
                "content": json.dumps(asdict(item.chunk)),
                "terms": terms,
                "weights": weights,
                "embedding": vector_text(item.vector),
            }
        )
    return rows


def to_record(value: dict[str, Any]) -> Record:
    """The inverse of `record_row`, of its column `record`."""
    return Record(**value)


def to_chunk(value: dict[str, Any]) -> Chunk:
    """The inverse of `chunk_rows`, of the column `content`."""
    return Chunk(**{**value, "heading_path": tuple(value["heading_path"])})
