"""What the retriever needs from outside: a store and an embedder, each by what one consumer asks of it."""

from collections.abc import Sequence
from typing import Protocol

from services.retriever.document import Document, EmbeddingModel, IndexInfo, Passage, Prepared, Query, Record
from services.retriever.stores.operations import Vectored


class Catalog(Protocol):
    """Indexes and documents that are there."""

    async def indexes(self) -> list[IndexInfo]:
        """Every index, by name."""
        ...

    async def record(self, index: str, document_id: str) -> Record | None:
        """A document's record. Raises NotFound where the index does not exist."""
        ...


class Remover(Protocol):
    """Deletes for good."""

    async def delete_document(self, index: str, document_id: str) -> int:
        """Its chunks. Raises NotFound."""
        ...

    async def delete_index(self, index: str) -> int:
        """Its documents. Raises NotFound."""
        ...


class Writer(Protocol):
    """Keeps documents: any number of `add`, then `commit`, or `abandon`."""

    async def add(self, index: str, model: EmbeddingModel, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks of a document, which no search finds before `commit`."""
        ...

    async def commit(self, index: str, model: EmbeddingModel, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record, on disk when it returns. Returns whether it replaced a document."""
        ...

    async def abandon(self, index: str, document_id: str) -> None:
        """Drops what was added and not committed."""
        ...


class Searcher(Protocol):
    """Finds passages."""

    async def search(self, query: Query, vector: bytes, fingerprint: str) -> list[Passage]:
        """Best first; `vector` (float32, little endian) and its model's fingerprint are empty for BM25."""
        ...


class Store(Catalog, Remover, Writer, Searcher, Protocol):
    """All of it, as one store offers it."""


class Parsers(Protocol):
    """Reads documents."""

    async def prepare(self, document: Document) -> Prepared:
        """The document, read and cut. Raises IngestFailure."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors: float32, little endian."""

    async def model(self) -> EmbeddingModel:
        """What serves now. Raises Unavailable."""
        ...

    async def embed_query(self, text: str) -> bytes:
        """One query's vector. Raises Unavailable or Exhausted."""
        ...

    async def embed_passages(self, texts: Sequence[str]) -> list[bytes]:
        """The texts' vectors, in order. Raises IngestFailure, Unavailable or Exhausted."""
        ...
