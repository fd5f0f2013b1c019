"""The retriever's words: documents, chunks, records, indexes, searches, passages. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Document:
    """A document as handed in, checked; `media_type`, `title`, `language` and `licence` may be empty."""

    document_id: str
    source: str
    title: str
    media_type: str
    content: bytes
    metadata: Mapping[str, str]
    language: str = ""
    licence: str = ""


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
    """A document, read and cut. `signature` is a MinHash of its text; empty where the text is too short for one."""

    title: str
    media_type: str
    chunks: tuple[Chunk, ...]
    language: str = ""
    licence: str = ""
    signature: bytes = b""


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
    language: str = ""
    licence: str = ""
    near_duplicate_of: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Whose vectors an index holds; vectors of different fingerprints are never compared."""

    name: str
    fingerprint: str
    dimensions: int


class Fusion(Enum):
    """How dense and word searches become one; the value is the setting's."""

    DBSF = "dbsf"
    RRF = "rrf"


class Rerank(Enum):
    """How to order what was found; the value is the setting's."""

    NONE = "none"
    MMR = "mmr"
    CROSS_ENCODER = "cross_encoder"


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What an index was told; None and an empty text mean the retriever's own setting."""

    embedding_model: str = ""
    chunk_tokens: int | None = None
    chunk_overlap_tokens: int | None = None
    bm25_language: str = ""
    fusion: Fusion | None = None
    rerank: Rerank | None = None
    min_score: float | None = None
    candidates: int | None = None
    quantised: bool = False
    skip_near_duplicates: bool | None = None


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What holds for an index; `index` is its own name, whichever alias it was asked for by."""

    index: str
    chunk_tokens: int
    chunk_overlap_tokens: int
    fusion: Fusion
    rerank: Rerank
    min_score: float | None
    candidates: int
    skip_near_duplicates: bool


@dataclass(frozen=True, slots=True)
class Spec:
    """How a collection is built; fixed for its life, since its vectors depend on it."""

    model: EmbeddingModel
    bm25_language: str
    quantised: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """A collection's numbers, with committed documents only."""

    documents: int
    chunks: int
    has_graph: bool


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index's numbers. `settings` says what holds, `options` what it was told."""

    name: str
    spec: Spec
    counts: Counts
    settings: IndexSettings
    options: IndexOptions
    aliases: tuple[str, ...]
    store: str


class Mode(Enum):
    """How to search; the value is the metric label."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Range:
    """A range of numbers, both ends included; None is no bound."""

    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What is under `key` is one of `values`, begins with `prefix`, or is a number in `range`: exactly one is set.

    A key that begins with `$` is one of the record's own, see `core.filters`; any other is of the metadata.
    """

    key: str
    values: tuple[str, ...] = ()
    prefix: str = ""
    range: Range | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which passages may be found: everything that is not empty must hold."""

    document_ids: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    any_of: tuple["Filter", ...] = ()
    none_of: tuple["Filter", ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it lets everything pass."""
        return not (self.document_ids or self.conditions or self.any_of or self.none_of)


@dataclass(frozen=True, slots=True)
class Query:
    """A search, checked. What is None is as the index's settings say."""

    index: str
    text: str
    top_k: int
    mode: Mode
    filter: Filter
    min_score: float | None = None
    rerank: Rerank | None = None
    fusion: Fusion | None = None
    candidates: int | None = None
    mmr_lambda: float | None = None


@dataclass(frozen=True, slots=True)
class Vectored:
    """A chunk with its vector: float32, little endian, of length 1."""

    chunk: Chunk
    vector: bytes


@dataclass(frozen=True, slots=True)
class Probe:
    """What a store is asked. Empty `text` or `vector` leaves that search out; `limit` is each search's own.

    The store fuses what the searches found and hands back the best `keep`, with their vectors where wanted.
    """

    text: str
    vector: bytes
    limit: int
    keep: int
    fusion: Fusion
    filter: Filter
    with_vectors: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a store found. Scores of a search that did not find it are 0; `vector` may be left out."""

    record: Record
    chunk: Chunk
    score: float
    dense_score: float
    bm25_score: float
    vector: bytes


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found, with its document's record. Scores of a stage that there was not are 0."""

    record: Record
    chunk: Chunk
    score: float
    dense_score: float
    bm25_score: float
    fused_score: float = 0.0
    rerank_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """A search's answer, best first, and how long each stage took; None where there was none."""

    passages: tuple[Passage, ...]
    embed_s: float | None
    search_s: float
    rerank_s: float | None


class Outcome(Enum):
    """What became of a document; the value is the metric label."""

    INDEXED = "indexed"
    UNCHANGED = "unchanged"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"
    FAILED = "failed"
