"""The retriever's words: documents, chunks, records, indexes, searches, passages. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Document:
    """A document as handed in, checked; `media_type` and `title` may be empty."""

    document_id: str
    source: str
    title: str
    media_type: str
    content: bytes
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document. `context` (title and headings) is indexed with the text, and never shown."""

    chunk_id: str
    text: str
    context: str
    heading_path: tuple[str, ...]
    page: int
    start: int
    end: int

    @property
    def indexed_text(self) -> str:
        """What is embedded and what words are counted in."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document, read and cut."""

    title: str
    media_type: str
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a document. `version` names one state of it, its settings included, and marks its chunks."""

    document_id: str
    source: str
    title: str
    media_type: str
    content_hash: str
    version: str
    chunks: int
    ingested_at_s: float
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Whose vectors an index holds; vectors of different fingerprints are never compared."""

    name: str
    fingerprint: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index's numbers."""

    name: str
    documents: int
    chunks: int
    model: EmbeddingModel


class Mode(Enum):
    """How to search; the value is the metric label."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Condition:
    """A document's metadata has one of `values` under `key`."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which passages may be found: every condition holds; `document_ids` names the documents, empty means all."""

    document_ids: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """A search, checked."""

    index: str
    text: str
    top_k: int
    mode: Mode
    filter: Filter


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found, with its document's record. Scores that a search did not give are 0."""

    record: Record
    chunk: Chunk
    score: float
    dense_score: float
    bm25_score: float


class Outcome(Enum):
    """What became of a document; the value is the metric label."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    REPLACED = "replaced"
    FAILED = "failed"
