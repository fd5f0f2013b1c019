"""Indexes and snapshots as the commands show them, and what a command sets as the retriever's settings."""

from dataclasses import dataclass
from datetime import UTC
from enum import Enum
from typing import Any

from weft.retriever.v1 import retriever_pb2


class FusionChoice(Enum):
    """How dense and word searches become one."""

    DBSF = "dbsf"
    RRF = "rrf"


class RerankChoice(Enum):
    """How to order what was found."""

    NONE = "none"
    MMR = "mmr"
    CROSS_ENCODER = "cross_encoder"


@dataclass(frozen=True, slots=True)
class IndexRow:
    """An index with the settings that hold for it; `min_score` is None where nothing is left out."""

    name: str
    documents: int
    chunks: int
    aliases: tuple[str, ...]
    store: str
    has_graph: bool
    embedding_model: str
    dimensions: int
    chunk_tokens: int
    chunk_overlap_tokens: int
    language: str
    fusion: str
    rerank: str
    min_score: float | None
    candidates: int
    quantised: bool
    skip_near_duplicates: bool


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot; the time is ISO 8601."""

    name: str
    index: str
    documents: int
    chunks: int
    size_bytes: int
    sha256: str
    created_at: str


def to_index(message: retriever_pb2.Index) -> IndexRow:
    """One index."""
    settings = message.settings
    return IndexRow(
        name=message.name,
        documents=message.documents,
        chunks=message.chunks,
        aliases=tuple(message.aliases),
        store=message.store,
        has_graph=message.has_graph,
        embedding_model=message.embedding_model,
        dimensions=message.dimensions,
        chunk_tokens=settings.chunk_tokens,
        chunk_overlap_tokens=settings.chunk_overlap_tokens,
        language=settings.bm25_language,
        fusion=retriever_pb2.Fusion.Name(settings.fusion).removeprefix("FUSION_").lower(),
        rerank=retriever_pb2.Rerank.Name(settings.rerank).removeprefix("RERANK_").lower(),
        min_score=settings.min_score if settings.HasField("min_score") else None,
        candidates=settings.candidates,
        quantised=settings.quantised,
        skip_near_duplicates=settings.skip_near_duplicates,
    )


def to_snapshot(message: retriever_pb2.Snapshot) -> SnapshotRow:
    """One snapshot."""
    return SnapshotRow(
        name=message.name,
        index=message.index,
        documents=message.documents,
        chunks=message.chunks,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        created_at=message.created_at.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds"),
    )


def from_settings(
    *, fusion: FusionChoice | None = None, rerank: RerankChoice | None = None, **fields: Any
) -> retriever_pb2.IndexSettings:
    """What was set, by the names of the message's fields; what is None stays as it is."""
    if fusion is not None:
        fields["fusion"] = retriever_pb2.Fusion.Value(f"FUSION_{fusion.name}")
    if rerank is not None:
        fields["rerank"] = retriever_pb2.Rerank.Value(f"RERANK_{rerank.name}")
    return retriever_pb2.IndexSettings(**{name: value for name, value in fields.items() if value is not None})
