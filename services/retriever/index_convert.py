"""Wire to domain and back for indexes, aliases and snapshots; wrong settings are refused here, with their field."""

import math
import re
from dataclasses import replace

from services.kit.errors import InvalidArgument
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.convert import FUSIONS, RERANKS, check_choices, timestamp
from services.retriever.document import IndexInfo, IndexOptions
from services.retriever.reembed import Progress
from services.retriever.snapshots import Snapshot
from services.retriever.stores.words import LANGUAGES
from weft.retriever.v1 import retriever_pb2 as pb

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
_SEARCHING = ("fusion", "rerank", "min_score", "candidates", "skip_near_duplicates")
_REBUILDING = ("embedding_model", "bm25_language", "quantised")
_MIN_CHUNK_TOKENS, _MAX_CHUNK_TOKENS = 16, 254


def to_options(message: pb.IndexSettings, settings: RetrieverSettings) -> IndexOptions:
    """What a new index is told. Raises InvalidArgument."""
    check_choices(message.rerank, message.fusion, message.candidates, "settings.")
    _check_names(message)
    tokens = message.chunk_tokens or settings.chunk_tokens
    overlap = message.chunk_overlap_tokens if message.HasField("chunk_overlap_tokens") else None
    if not _MIN_CHUNK_TOKENS <= tokens <= _MAX_CHUNK_TOKENS:
        raise _wrong("chunk_tokens", f"must lie between {_MIN_CHUNK_TOKENS} and {_MAX_CHUNK_TOKENS}")
    if (settings.chunk_overlap_tokens if overlap is None else overlap) * 2 > tokens:
        raise _wrong("chunk_overlap_tokens", "must be at most half of chunk_tokens")
    if message.HasField("min_score") and not math.isfinite(message.min_score):
        raise _wrong("min_score", "must be a number")
    return IndexOptions(
        embedding_model=message.embedding_model,
        chunk_tokens=message.chunk_tokens or None,
        chunk_overlap_tokens=overlap,
        bm25_language=message.bm25_language,
        fusion=FUSIONS[message.fusion],
        rerank=RERANKS[message.rerank],
        min_score=message.min_score if message.HasField("min_score") else None,
        candidates=message.candidates or None,
        quantised=message.quantised,
        skip_near_duplicates=message.skip_near_duplicates if message.HasField("skip_near_duplicates") else None,
    )


def to_changed_options(message: pb.IndexSettings, old: IndexOptions, settings: RetrieverSettings) -> IndexOptions:
    """What the index is told now: fields that are set replace the old ones. Raises InvalidArgument."""
    _check_only(message, _SEARCHING, "is fixed when an index is made; see ReembedIndex for those that can be changed")
    new = to_options(message, settings)
    return replace(
        old,
        fusion=new.fusion or old.fusion,
        rerank=new.rerank or old.rerank,
        min_score=old.min_score if new.min_score is None else new.min_score,
        candidates=new.candidates or old.candidates,
        skip_near_duplicates=(
            old.skip_near_duplicates if new.skip_near_duplicates is None else new.skip_near_duplicates
        ),
    )


def to_rebuilding(message: pb.IndexSettings) -> IndexOptions:
    """What is to be built in another way. Raises InvalidArgument."""
    _check_only(message, _REBUILDING, "cannot be changed by embedding anew; see UpdateIndex, or ingest anew")
    _check_names(message)
    return IndexOptions(
        embedding_model=message.embedding_model,
        bm25_language=message.bm25_language,
        quantised=message.quantised,
    )


def from_index(info: IndexInfo) -> pb.Index:
    """An index's numbers, with the settings that hold for it."""
    held = info.settings
    settings = pb.IndexSettings(
        embedding_model=info.spec.model.name,
        chunk_tokens=held.chunk_tokens,
        chunk_overlap_tokens=held.chunk_overlap_tokens,
        bm25_language=info.spec.bm25_language,
        fusion=next(wire for wire, fusion in FUSIONS.items() if fusion is held.fusion),
        rerank=next(wire for wire, rerank in RERANKS.items() if rerank is held.rerank),
        candidates=held.candidates,
        quantised=info.spec.quantised,
        skip_near_duplicates=held.skip_near_duplicates,
    )
    if held.min_score is not None:
        settings.min_score = held.min_score
    return pb.Index(
        name=info.name,
        documents=info.counts.documents,
        chunks=info.counts.chunks,
        embedding_model=info.spec.model.name,
        dimensions=info.spec.model.dimensions,
        settings=settings,
        aliases=info.aliases,
        has_graph=info.counts.has_graph,
        store=info.store,
    )


def from_progress(progress: Progress) -> pb.ReembedIndexResponse:
    """How far embedding anew is."""
    return pb.ReembedIndexResponse(documents_done=progress.done, documents=progress.documents)


def from_snapshot(snapshot: Snapshot) -> pb.Snapshot:
    """What is known of a snapshot."""
    return pb.Snapshot(
        name=snapshot.name,
        index=snapshot.index,
        created_at=timestamp(snapshot.created_at_s),
        size_bytes=snapshot.size_bytes,
        sha256=snapshot.sha256,
        documents=snapshot.documents,
        chunks=snapshot.chunks,
    )


def _check_names(message: pb.IndexSettings) -> None:
    if message.embedding_model and not _MODEL.fullmatch(message.embedding_model):
        raise _wrong("embedding_model", "must be a model's name")
    if message.bm25_language and message.bm25_language not in LANGUAGES:
        raise _wrong("bm25_language", f"must be one of {', '.join(LANGUAGES)}")


def _check_only(message: pb.IndexSettings, allowed: tuple[str, ...], why: str) -> None:
    for descriptor, _ in message.ListFields():
        if descriptor.name not in allowed:
            raise _wrong(descriptor.name, why)


def _wrong(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"settings.{field} {why}", reason="INVALID_SETTING", field=f"settings.{field}")
