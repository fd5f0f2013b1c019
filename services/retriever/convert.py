"""Wire to domain and back; wrong requests are refused here, each with its field named."""

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2

from services.kit.errors import InvalidArgument, WeftError, rpc_code, seconds_to_duration
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.core.naming import DEFAULT_INDEX, document_id_for, is_document_id, is_index_name
from services.retriever.document import (
    Condition,
    Document,
    Filter,
    IndexInfo,
    Mode,
    Outcome,
    Passage,
    Query,
    Record,
)
from services.retriever.failure import IngestFailure, too_large, unreadable
from services.retriever.ingest import Ingested
from weft.retriever.v1 import retriever_pb2 as pb

_MAX_METADATA = 32
_MAX_PAIR_CHARS = 1024
# Every chunk carries its document's metadata, to be filtered by.
_MAX_METADATA_CHARS = 8192
_MAX_TITLE_CHARS = 1024
_MAX_SOURCE_CHARS = 4096
_DEFAULT_TOP_K = 5

_MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: Mode.HYBRID,
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_DENSE: Mode.DENSE,
    pb.SEARCH_MODE_BM25: Mode.BM25,
}
_STATUSES = {
    Outcome.INDEXED: pb.IngestDocumentsResponse.STATUS_INDEXED,
    Outcome.UNCHANGED: pb.IngestDocumentsResponse.STATUS_UNCHANGED,
    Outcome.REPLACED: pb.IngestDocumentsResponse.STATUS_REPLACED,
    Outcome.FAILED: pb.IngestDocumentsResponse.STATUS_FAILED,
}


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
    if len(message.source) > _MAX_SOURCE_CHARS or len(message.title) > _MAX_TITLE_CHARS:
        return unreadable(
            "NAME_TOO_LONG",
            f"{name}: document.source may have {_MAX_SOURCE_CHARS} characters and document.title {_MAX_TITLE_CHARS}",
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
    return Query(
        index=to_index(message.index),
        text=message.query,
        top_k=message.top_k or min(_DEFAULT_TOP_K, settings.max_top_k),
        mode=_MODES[message.mode],
        filter=_to_filter(message.filter, settings),
    )


def _to_filter(message: pb.Filter, settings: RetrieverSettings) -> Filter:
    values = len(message.document_ids) + sum(len(condition.values) for condition in message.conditions)
    if values > settings.max_filter_values or len(message.conditions) > _MAX_METADATA:
        raise InvalidArgument(
            f"the filter may have {_MAX_METADATA} conditions, and {settings.max_filter_values} ids and values in all",
            reason="FILTER_TOO_LARGE",
            field="filter",
        )
    for number, condition in enumerate(message.conditions):
        for name, missing in (("key", not condition.key), ("values", not condition.values)):
            if missing:
                raise InvalidArgument(
                    f"a condition needs {name}", reason="INVALID_FILTER", field=f"filter.conditions[{number}].{name}"
                )
    conditions = tuple(Condition(item.key, tuple(item.values)) for item in message.conditions)
    return Filter(tuple(message.document_ids), conditions)


def from_ingested(position: int, message: pb.Document, document_id: str, found: Ingested) -> pb.IngestDocumentsResponse:
    """One document's status."""
    response = pb.IngestDocumentsResponse(
        position=position,
        document_id=document_id,
        source=message.source,
        status=_STATUSES[found.outcome],
        chunks=found.chunks,
    )
    if found.failure:
        response.failure.code = code_pb2.Code.ValueType(found.failure.code)
        response.failure.reason = found.failure.reason
        response.failure.message = found.failure.message
    return response


def from_passages(passages: list[Passage], elapsed_s: float) -> pb.SearchResponse:
    """A search's answer."""
    return pb.SearchResponse(
        passages=[_from_passage(passage) for passage in passages], elapsed=seconds_to_duration(elapsed_s)
    )


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
    )


def from_search_error(error: WeftError) -> pb.SearchFailure:
    """Why one search of a stream failed."""
    return pb.SearchFailure(code=rpc_code(error), reason=error.reason, message=error.message)


def from_record(record: Record) -> pb.DocumentRecord:
    """A document's record."""
    # To the millisecond: the store may give a number back that differs in its last bit.
    whole_s, millis = divmod(round(record.ingested_at_s * 1e3), 1000)
    return pb.DocumentRecord(
        document_id=record.document_id,
        source=record.source,
        title=record.title,
        media_type=record.media_type,
        content_hash=record.content_hash,
        chunks=record.chunks,
        ingested_at=Timestamp(seconds=whole_s, nanos=millis * 1_000_000),
        metadata=record.metadata,
    )


def from_index(info: IndexInfo) -> pb.Index:
    """An index's numbers."""
    return pb.Index(
        name=info.name,
        documents=info.documents,
        chunks=info.chunks,
        embedding_model=info.model.name,
        dimensions=info.model.dimensions,
    )
