"""How records, chunks and markers are stored as Qdrant points, and read back from their payloads."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import qdrant_edge as qdrant

from services.retriever.document import Chunk, Record

_NAMESPACE = uuid.UUID("5b0d0f0a-6f0c-4b3e-9d0c-7a3b6c1e2d4f")
_SEPARATOR = "\x1f"


def point_id(*parts: str) -> str:
    """The id of a point: the same whenever its parts are the same."""
    return str(uuid.uuid5(_NAMESPACE, _SEPARATOR.join(parts)))


def tag(key: str, value: str) -> str:
    """How one pair of metadata is stored: any key can be filtered by, over one payload field.

    The length keeps apart pairs that would read the same when joined.
    """
    return f"{len(key)} {key}={value}"


def match(field: str, value: str) -> Any:
    """The condition that a payload field has this value."""
    return qdrant.FieldCondition(field, match=qdrant.MatchValue(value))


def record_point(record: Record) -> Any:
    """A document's record as a point without vectors."""
    payload = {**asdict(record), "metadata": dict(record.metadata), "kind": "record"}
    return qdrant.Point(point_id("record", record.document_id), {}, payload)


def to_record(payload: dict[str, Any]) -> Record:
    """The inverse of `record_point`, from its payload."""
    return Record(**{key: value for key, value in payload.items() if key != "kind"})


def to_chunk(payload: dict[str, Any]) -> Chunk:
    """The inverse of `chunk_point`, from its payload; without the context, which is not kept."""
    return Chunk(
        payload["chunk_id"],
        payload["text"],
        "",
        tuple(payload["heading_path"]),
        payload["page"],
        payload["start"],
        payload["end"],
    )


def chunk_point(record: Record, chunk: Chunk, vectors: Mapping[str, Any]) -> Any:
    """A chunk of one version of a document, with its vectors by name."""
    payload = {
        "kind": "chunk",
        "document_id": record.document_id,
        "version": record.version,
        "tags": [tag(key, value) for key, value in record.metadata.items()],
        "chunk_id": chunk.chunk_id,
        "text": chunk.text,
        "heading_path": list(chunk.heading_path),
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
    }
    return qdrant.Point(point_id("chunk", record.document_id, record.version, chunk.chunk_id), dict(vectors), payload)


def marker_point(document_id: str) -> Any:
    """A note that chunks of this document may be left over from a crash."""
    return qdrant.Point(point_id("marker", document_id), {}, {"kind": "marker", "document_id": document_id})
