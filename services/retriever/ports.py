"""What the retriever needs from outside and of its parts, each by what one consumer asks of it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.retriever.document import (
    Counts,
    Document,
    EmbeddingModel,
    Filter,
    Hit,
    IndexSettings,
    Prepared,
    Probe,
    Record,
    Spec,
    Vectored,
)


class Collections(Protocol):
    """Collections of documents, and one small document of the library's own (`state`)."""

    async def collections(self) -> Mapping[str, Counts]:
        """Every collection's numbers."""
        ...

    async def create(self, collection: str, spec: Spec) -> None:
        """Makes an empty one, on disk when it returns."""
        ...

    async def drop(self, collection: str) -> None:
        """Deletes it with all that is in it; nothing where there is none."""
        ...

    async def load_state(self) -> bytes:
        """What `save_state` kept last; empty at first."""
        ...

    async def save_state(self, state: bytes) -> None:
        """Keeps the library's state in one step, on disk when it returns."""
        ...


class Reader(Protocol):
    """What is in a collection. Each raises NotFound where the collection is gone."""

    async def record(self, collection: str, document_id: str) -> Record | None:
        """A committed document's record."""
        ...

    async def records(self, collection: str, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Committed documents by id, from the one after `after`; `wanted` names no key of chunks."""
        ...

    async def chunks(self, collection: str, document_id: str, after: str, limit: int) -> list[Vectored]:
        """A committed document's chunks by id, from the one after `after`."""
        ...


class Writer(Protocol):
    """Keeps documents: any number of `add`, then `commit`, or `abandon`. One writer for one document at a time."""

    async def add(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks of a document, which no search finds before `commit`."""
        ...

    async def commit(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record, on disk when it returns. Returns whether it replaced a document.

        No search ever finds chunks of both states, or a part of one.
        """
        ...

    async def abandon(self, collection: str, document_id: str) -> None:
        """Drops what was added and not committed."""
        ...

    async def delete(self, collection: str, document_id: str) -> int:
        """Its chunks. Raises NotFound."""
        ...


class Searcher(Protocol):
    """Finds chunks."""

    async def search(self, collection: str, probe: Probe) -> list[Hit]:
        """What was found, best first. Raises NotFound where the collection is gone."""
        ...


class Store(Collections, Reader, Writer, Searcher, Protocol):
    """All of it, as each store offers it; every method raises Unavailable while the store is away."""

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        ...

    async def until(self, *, ready: bool) -> None:
        """Waits until it answers, or until it does not."""
        ...

    async def start(self) -> None:
        """Raises Unavailable where it does not come up."""
        ...

    async def close(self) -> None:
        """Lets go of everything."""
        ...


class Target(Protocol):
    """An index, held for writing: meanwhile nobody replaces it or copies it."""

    async def model(self) -> EmbeddingModel:
        """Whose vectors it takes. Raises Unavailable, or InvalidArgument where the embedder has another by now."""
        ...

    async def add(self, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks that no search finds before `commit`. Makes the index at need."""
        ...

    async def commit(self, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record, on disk when it returns. Returns whether it replaced a document."""
        ...

    async def abandon(self, document_id: str) -> None:
        """Drops what was added and not committed."""
        ...


class Library(Protocol):
    """Indexes by name or alias, as an ingest needs them."""

    async def settings_of(self, index: str) -> IndexSettings:
        """What holds for it; the retriever's own settings where it does not exist yet."""
        ...

    async def record(self, index: str, document_id: str) -> Record | None:
        """A document's record. Raises NotFound where the index does not exist."""
        ...

    def writing(self, index: str) -> AbstractAsyncContextManager[Target]:
        """Holds the index for writing; entering waits while it is replaced or copied."""
        ...


class Parsers(Protocol):
    """Reads documents."""

    async def prepare(
        self, document: Document, chunk_tokens: int | None = None, overlap_tokens: int | None = None
    ) -> Prepared:
        """The document, read and cut. Raises IngestFailure."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors: float32, little endian. An empty model means the embedder's default."""

    async def model(self, name: str = "") -> EmbeddingModel:
        """What serves now. Raises Unavailable, or NotFound where that model is not served."""
        ...

    async def embed_query(self, text: str, model: str = "") -> bytes:
        """One query's vector. Raises Unavailable or Exhausted."""
        ...

    async def embed_passages(self, texts: Sequence[str], model: str = "") -> list[bytes]:
        """The texts' vectors, in order. Raises IngestFailure, Unavailable or Exhausted."""
        ...


class Reranker(Protocol):
    """Reads query and passages together."""

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, higher is better, in order."""
        ...
