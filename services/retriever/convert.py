"""Wire to domain and back; wrong requests are refused here, each with its field named."""

import math
import re

from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.errors import InvalidArgument, WeftError, rpc_code, seconds_to_duration
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.core.filters import MAX_DEPTH, NUMERIC_KEYS, OWN_KEYS, PAGE, parts
from services.retriever.core.naming import DEFAULT_INDEX, document_id_for, is_document_id, is_index_name
from services.retriever.document import (
    Condition,
    Document,
    Filter,
    Found,
    Fusion,
    Mode,
    Passage,
    Query,
    Range,
    Record,
    Rerank,
)
from services.retriever.failure import IngestFailure, too_large, unreadable
from weft.retriever.v1 import retriever_pb2 as pb

_MAX_METADATA = 32
_MAX_PAIR_CHARS = 1024
# Every chunk carries its document's metadata, to be filtered by.
_MAX_METADATA_CHARS = 8192
_MAX_TITLE_CHARS = 1024
_MAX_MEDIA_TYPE_CHARS = 255
MAX_SOURCE_CHARS = 4096
_DEFAULT_TOP_K = 5

_MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_DENSE: Mode.DENSE,
    pb.SEARCH_MODE_BM25: Mode.BM25,
}
FUSIONS = {
    pb.FUSION_UNSPECIFIED: None,
    pb.FUSION_DBSF: Fusion.DBSF,
    pb.FUSION_RRF: Fusion.RRF,
}
RERANKS = {
    pb.RERANK_UNSPECIFIED: None,
    pb.RERANK_NONE: Rerank.NONE,
    pb.RERANK_MMR: Rerank.MMR,
    pb.RERANK_CROSS_ENCODER: Rerank.CROSS_ENCODER,
}
MAX_CANDIDATES = 1_000
_DEFAULT_PAGE, _MAX_PAGE = 100, 1_000
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_MAX_LICENCE_CHARS = 256


def to_index(name: str, field: str = "index") -> str:
    """The index's name; empty means the default one. Raises InvalidArgument."""
    if not name:
        return DEFAULT_INDEX
    if not is_index_name(name):
        raise InvalidArgument(
            "an index name has 1 to 63 lower-case letters, digits, _ and -, and starts with a letter or a digit; "
            f"{name[:80]!r} does not",
            reason="INVALID_INDEX",
            field=field,
        )
    return name


def to_document_id(document_id: str) -> str:
    """A document's id as it is asked for. Raises InvalidArgument."""
    if not is_document_id(document_id):
        raise InvalidArgument(
            f"a document id has 1 to 128 letters, digits, ., _ and -; {document_id[:80]!r} does not",
            reason="INVALID_DOCUMENT_ID",
            field="document_id",
        )
    return document_id


def to_document(message: pb.Document, settings: RetrieverSettings) -> Document | IngestFailure:
    """The document, or why it cannot be one."""
    content = message.content if message.WhichOneof("body") == "content" else message.text.encode()
    if failure := _refusal(message, len(content), settings):
        return failure
    media_type = message.media_type
    if message.WhichOneof("body") == "text":
        media_type = media_type or "text/markdown"
    return Document(
        document_id=message.document_id or document_id_for(message.source),
        source=message.source,
        title=message.title,
        media_type=media_type,
        content=content,
        metadata=dict(message.metadata),
        language=message.language,
        licence=message.licence,
    )


def _refusal(message: pb.Document, size_bytes: int, settings: RetrieverSettings) -> IngestFailure | None:
    name = message.source[:200] or message.document_id[:200] or "a document without source"
    if not message.document_id and not message.source:
        return unreadable("NO_SOURCE", "document.source is empty; set it, or document.document_id")
    if message.document_id and not is_document_id(message.document_id):
        return unreadable(
            "INVALID_DOCUMENT_ID",
            f"document.document_id of {name} must have 1 to 128 letters, digits, ., _ and -",
        )
    if len(message.source) > MAX_SOURCE_CHARS or len(message.title) > _MAX_TITLE_CHARS:
        return unreadable(
            "NAME_TOO_LONG",
            f"{name}: document.source may have {MAX_SOURCE_CHARS} characters and document.title {_MAX_TITLE_CHARS}",
        )
    if message.WhichOneof("body") is None:
        return unreadable("EMPTY_DOCUMENT", f"{name} has neither document.content nor document.text; send one of them")
    if size_bytes > settings.max_document_bytes:
        return too_large(
            "DOCUMENT_TOO_LARGE",
            f"{name} has {size_bytes:,} bytes, over the limit of {settings.max_document_bytes:,}; split it",
        )
    if len(message.metadata) > _MAX_METADATA:
        return unreadable(
            "TOO_MUCH_METADATA", f"{name} has over {_MAX_METADATA} pairs in document.metadata; send fewer"
        )
    sizes = [len(key) + len(value) for key, value in message.metadata.items()]
    if "" in message.metadata or max(sizes, default=0) > _MAX_PAIR_CHARS or sum(sizes) > _MAX_METADATA_CHARS:
        return unreadable(
            "INVALID_METADATA",
            f"{name}: each pair in document.metadata needs a key and may have {_MAX_PAIR_CHARS} characters, all pairs "
            f"together {_MAX_METADATA_CHARS:,}",
        )
    texts = (message.source, message.title, message.media_type, message.licence)
    if any("\0" in text for text in (*texts, *message.metadata, *message.metadata.values())):
        return unreadable("INVALID_TEXT", f"{name}: no text of a document's fields may hold the sign NUL")
    if any(key.startswith("$") for key in message.metadata):
        return unreadable("INVALID_METADATA", f"{name}: keys in document.metadata must not begin with $")
    if len(message.media_type) > _MAX_MEDIA_TYPE_CHARS:
        return unreadable("NAME_TOO_LONG", f"{name}: document.media_type may have {_MAX_MEDIA_TYPE_CHARS} characters")
    if message.language and not _LANGUAGE.fullmatch(message.language):
        return unreadable("INVALID_LANGUAGE", f"{name}: document.language must be an ISO 639-1 code such as en")
    if len(message.licence) > _MAX_LICENCE_CHARS:
        return unreadable("NAME_TOO_LONG", f"{name}: document.licence may have {_MAX_LICENCE_CHARS} characters")
    return None


def to_query(message: pb.SearchRequest, settings: RetrieverSettings) -> Query:
    """The search. Raises InvalidArgument."""
    if not message.query.strip():
        raise InvalidArgument("the query is empty; say what to look for", reason="EMPTY_QUERY", field="query")
    size_bytes = len(message.query.encode())
    if size_bytes > settings.max_query_bytes:
        raise InvalidArgument(
            f"the query has {size_bytes:,} bytes, over the limit of {settings.max_query_bytes:,}; shorten it",
            reason="QUERY_TOO_LONG",
            field="query",
        )
    if message.top_k > settings.max_top_k:
        raise InvalidArgument(
            f"top_k is {message.top_k}, over the limit of {settings.max_top_k}; ask for fewer passages",
            reason="TOP_K_TOO_LARGE",
            field="top_k",
        )
    if message.mode not in _MODES:
        raise InvalidArgument(f"there is no search mode {message.mode}", reason="UNKNOWN_MODE", field="mode")
    check_choices(message.rerank, message.fusion, message.candidates, "")
    return Query(
        index=to_index(message.index),
        text=message.query,
        top_k=message.top_k or min(_DEFAULT_TOP_K, settings.max_top_k),
        mode=_MODES[message.mode],
        filter=to_filter(message.filter, settings),
        min_score=_number(message, "min_score"),
        rerank=RERANKS[message.rerank],
        fusion=FUSIONS[message.fusion],
        candidates=message.candidates or None,
        mmr_lambda=_share(message, "mmr_lambda"),
    )


def check_choices(rerank: int, fusion: int, candidates: int, prefix: str) -> None:
    """Raises InvalidArgument for what is no choice; `prefix` leads to the fields."""
    if rerank not in RERANKS:
        raise InvalidArgument(f"there is no rerank {rerank}", reason="UNKNOWN_RERANK", field=f"{prefix}rerank")
    if fusion not in FUSIONS:
        raise InvalidArgument(f"there is no fusion {fusion}", reason="UNKNOWN_FUSION", field=f"{prefix}fusion")
    if candidates > MAX_CANDIDATES:
        raise InvalidArgument(
            f"candidates is {candidates}, over the limit of {MAX_CANDIDATES:,}; ask for fewer",
            reason="TOO_MANY_CANDIDATES",
            field=f"{prefix}candidates",
        )


def _number(message: pb.SearchRequest, field: str) -> float | None:
    if not message.HasField(field):
        return None
    value: float = getattr(message, field)
    if not math.isfinite(value):
        raise InvalidArgument(f"{field} is not a number", reason="NOT_A_NUMBER", field=field)
    return value


def _share(message: pb.SearchRequest, field: str) -> float | None:
    value = _number(message, field)
    if value is not None and not 0.0 <= value <= 1.0:
        raise InvalidArgument(f"{field} is {value:g}, and must lie between 0 and 1", reason="OUT_OF_RANGE", field=field)
    return value


def to_filter(message: pb.Filter, settings: RetrieverSettings) -> Filter:
    """The filter. Raises InvalidArgument."""
    found = _to_filter(message, "filter", 1)
    everything = [part for part, _ in parts(found)]
    conditions = sum(len(part.conditions) for part in everything)
    values = sum(len(part.document_ids) for part in everything) + sum(
        len(condition.values) for part in everything for condition in part.conditions
    )
    if values > settings.max_filter_values or max(conditions, len(everything)) > _MAX_METADATA:
        raise InvalidArgument(
            f"the filter may have {_MAX_METADATA} conditions and as many filters within it, and "
            f"{settings.max_filter_values} ids and values in all",
            reason="FILTER_TOO_LARGE",
            field="filter",
        )
    return found


def _to_filter(message: pb.Filter, field: str, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise InvalidArgument(f"filters may nest {MAX_DEPTH} deep", reason="FILTER_TOO_DEEP", field=field)
    found = Filter(
        tuple(message.document_ids),
        tuple(_to_condition(item, f"{field}.conditions[{n}]") for n, item in enumerate(message.conditions)),
        tuple(_to_filter(item, f"{field}.any_of[{n}]", depth + 1) for n, item in enumerate(message.any_of)),
        tuple(_to_filter(item, f"{field}.none_of[{n}]", depth + 1) for n, item in enumerate(message.none_of)),
    )
    if depth > 1 and found.empty:
        raise InvalidArgument("a filter within a filter says nothing", reason="INVALID_FILTER", field=field)
    return found


def _to_condition(message: pb.Condition, field: str) -> Condition:
    def wrong(name: str, why: str) -> InvalidArgument:
        return InvalidArgument(why, reason="INVALID_FILTER", field=f"{field}.{name}")

    key, values = message.key, tuple(message.values)
    if not key:
        raise wrong("key", "a condition needs key")
    if any("\0" in text for text in (key, message.prefix, *values)):
        raise wrong("key", "a condition holds the sign NUL, which no document does")
    if key.startswith("$") and key not in OWN_KEYS:
        raise wrong("key", f"there is no key {key[:80]}; those that begin with $ are {', '.join(OWN_KEYS)}")
    said = [name for name in ("values", "prefix") if getattr(message, name)] + ["range"] * message.HasField("range")
    if len(said) != 1:
        raise wrong("values", "a condition needs values, or a range, or a prefix, and only one of them")
    if message.HasField("range"):
        return Condition(key, range=_to_range(message.range, f"{field}.range"))
    if key in NUMERIC_KEYS:
        if message.prefix:
            raise wrong("prefix", f"{key} is a number, which has no prefix; use values or range")
        for value in values:
            if _finite(value) is None:
                raise wrong("values", f"{key} is a number, and {value[:80]!r} is none")
    return Condition(key, values, message.prefix)


def _to_range(message: pb.Range, field: str) -> Range:
    low = message.min if message.HasField("min") else None
    high = message.max if message.HasField("max") else None
    for name, bound in (("min", low), ("max", high)):
        if bound is not None and not math.isfinite(bound):
            raise InvalidArgument(f"{name} is not a number", reason="INVALID_FILTER", field=f"{field}.{name}")
    if low is None and high is None:
        raise InvalidArgument("a range needs min, or max, or both", reason="INVALID_FILTER", field=field)
    return Range(low, high)


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def to_document_page(message: pb.ListDocumentsRequest, settings: RetrieverSettings) -> tuple[Filter, str, int]:
    """Which documents, after which id, and how many at most. Raises InvalidArgument."""
    wanted = to_filter(message.filter, settings)
    if any(condition.key == PAGE for part, _ in parts(wanted) for condition in part.conditions):
        raise InvalidArgument(f"a document has no {PAGE}", reason="INVALID_FILTER", field="filter")
    if message.page_token and not is_document_id(message.page_token):
        raise InvalidArgument(
            "page_token is none that was given out; begin again without one",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        )
    if message.page_size > _MAX_PAGE:
        raise InvalidArgument(
            f"page_size is {message.page_size}, over the limit of {_MAX_PAGE:,}; ask for fewer",
            reason="PAGE_TOO_LARGE",
            field="page_size",
        )
    return wanted, message.page_token, message.page_size or _DEFAULT_PAGE


def from_found(found: Found, elapsed_s: float) -> pb.SearchResponse:
    """A search's answer."""
    timing = pb.SearchTiming(search=seconds_to_duration(found.search_s))
    if found.embed_s is not None:
        timing.embed.CopyFrom(seconds_to_duration(found.embed_s))
    if found.rerank_s is not None:
        timing.rerank.CopyFrom(seconds_to_duration(found.rerank_s))
    passages = [_from_passage(passage) for passage in found.passages]
    return pb.SearchResponse(passages=passages, elapsed=seconds_to_duration(elapsed_s), timing=timing)


def _from_passage(passage: Passage) -> pb.Passage:
    chunk, record = passage.chunk, passage.record
    return pb.Passage(
        document_id=record.document_id,
        chunk_id=chunk.chunk_id,
        title=record.title,
        source=record.source,
        page=chunk.page,
        heading_path=chunk.heading_path,
        start_offset=chunk.start,
        end_offset=chunk.end,
        text=chunk.text,
        score=passage.score,
        dense_score=passage.dense_score,
        bm25_score=passage.bm25_score,
        metadata=record.metadata,
        fused_score=passage.fused_score,
        rerank_score=passage.rerank_score,
        language=record.language,
        licence=record.licence,
    )


def from_search_error(error: WeftError) -> pb.SearchFailure:
    """Why one search of a stream failed."""
    return pb.SearchFailure(code=rpc_code(error), reason=error.reason, message=error.message)


def from_record(record: Record) -> pb.DocumentRecord:
    """A document's record."""
    return pb.DocumentRecord(
        document_id=record.document_id,
        source=record.source,
        title=record.title,
        media_type=record.media_type,
        content_hash=record.content_hash,
        chunks=record.chunks,
        ingested_at=timestamp(record.ingested_at_s),
        metadata=record.metadata,
        language=record.language,
        licence=record.licence,
        near_duplicate_of=record.near_duplicate_of,
    )


def timestamp(at_s: float) -> Timestamp:
    """To the millisecond: a store may give a number back that differs in its last bit."""
    whole_s, millis = divmod(round(at_s * 1e3), 1000)
    return Timestamp(seconds=whole_s, nanos=millis * 1_000_000)
