"""How records, chunks and markers are kept as Qdrant payloads, and read back; the same embedded and on a server."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from services.retriever.core.filters import facts_of
from services.retriever.document import Chunk, Record

_NAMESPACE = uuid.UUID("5b0d0f0a-6f0c-4b3e-9d0c-7a3b6c1e2d4f")
_SEPARATOR = "\x1f"
KEYWORDS = ("kind", "document_id", "version", "tags")
"""Payload fields that are filtered by."""


def point_id(*parts: str) -> str:
    """The id of a point: the same whenever its parts are the same."""
    return str(uuid.uuid5(_NAMESPACE, _SEPARATOR.join(parts)))


def chunk_point_id(record: Record, chunk: Chunk) -> str:
    """The id of a chunk of one version of a document."""
    return point_id("chunk", record.document_id, record.version, chunk.chunk_id)


def record_payload(record: Record) -> dict[str, Any]:
    """A document's record, with what it can be filtered by."""
    facts = facts_of(record)
    return {
        **asdict(record),
        "metadata": dict(record.metadata),
        "kind": "record",
        "tags": list(facts.tags),
        "numbers": facts.numbers,
    }


def to_record(payload: Mapping[str, Any]) -> Record:
    """The inverse of `record_payload`."""
    return Record(**{key: value for key, value in payload.items() if key not in ("kind", "tags", "numbers")})


def chunk_payload(record: Record, chunk: Chunk) -> dict[str, Any]:
    """A chunk of one version of a document."""
    facts = facts_of(record, chunk.page)
    return {
        "kind": "chunk",
        "document_id": record.document_id,
        "version": record.version,
        "tags": list(facts.tags),
        "numbers": facts.numbers,
        "chunk_id": chunk.chunk_id,
        "text": chunk.text,
        "context": chunk.context,
        "heading_path": list(chunk.heading_path),
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
    }


def to_chunk(payload: Mapping[str, Any]) -> Chunk:
    """The inverse of `chunk_payload`."""
    return Chunk(
        payload["chunk_id"],
        payload["text"],
        payload.get("context", ""),
        tuple(payload["heading_path"]),
        payload["page"],
        payload["start"],
        payload["end"],
    )


def marker_payload(document_id: str) -> dict[str, Any]:
    """A note that chunks of this document may be left over from a crash."""
    return {"kind": "marker", "document_id": document_id}
