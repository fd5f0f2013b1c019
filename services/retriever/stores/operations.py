"""What the store's process is asked and answers. Values only; they cross its pipe pickled."""

from dataclasses import dataclass

from services.retriever.document import Chunk, EmbeddingModel, Query, Record


@dataclass(frozen=True, slots=True)
class ListIndexes:
    """Answer: list[IndexInfo], by name."""


@dataclass(frozen=True, slots=True)
class FindRecord:
    """Answer: Record, or None where there is no such document. Refused where there is no such index."""

    index: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Vectored:
    """A chunk with its vector: float32, little endian."""

    chunk: Chunk
    vector: bytes


@dataclass(frozen=True, slots=True)
class Add:
    """Keeps some chunks of a document unseen until its Commit. Answer: None."""

    index: str
    model: EmbeddingModel
    record: Record
    chunks: tuple[Vectored, ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """Keeps a document's last chunks and its record; on disk when answered. Answer: whether it replaced another."""

    index: str
    model: EmbeddingModel
    record: Record
    chunks: tuple[Vectored, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """Drops what was added of a document and never committed. Answer: None."""

    index: str
    document_id: str


@dataclass(frozen=True, slots=True)
class DeleteDocument:
    """Answer: its chunks. Refused where there is none."""

    index: str
    document_id: str


@dataclass(frozen=True, slots=True)
class DeleteIndex:
    """Answer: its documents. Refused where there is none."""

    index: str


@dataclass(frozen=True, slots=True)
class Search:
    """`vector` and `fingerprint` are empty where the mode needs none. Answer: list[Passage], best first."""

    query: Query
    vector: bytes
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Flush:
    """Writes what is only in the log to its place, which keeps the next start short. Answer: None."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer where the operation cannot be done; `code` is a number of `google.rpc.Code`."""

    code: int
    reason: str
    message: str
    field: str = ""


Operation = ListIndexes | FindRecord | Add | Commit | Abandon | DeleteDocument | DeleteIndex | Search | Flush

READS = (ListIndexes, FindRecord, Search)
