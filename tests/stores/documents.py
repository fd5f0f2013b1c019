"""Documents, chunks and probes for the stores' tests."""

from collections.abc import Mapping, Sequence

import numpy as np

from services.retriever.document import Chunk, EmbeddingModel, Filter, Fusion, Hit, Probe, Record, Spec, Vectored
from services.retriever.ports import Store

DIMENSIONS = 8
SPEC = Spec(EmbeddingModel("model", "print", DIMENSIONS), "english", False)
PLACE = "c0ffee"


def vector(*values: float) -> bytes:
    """A vector of length 1 that begins with these."""
    found = np.zeros(DIMENSIONS)
    found[: len(values)] = values
    return (found / np.linalg.norm(found)).astype("<f4").tobytes()


EAST, NORTH = vector(1.0), vector(0.0, 1.0)


def record(document_id: str, version: str, chunks: int, metadata: Mapping[str, str] | None = None) -> Record:
    """A document's record."""
    return Record(
        document_id=document_id,
        source=f"https://example.org/{document_id}",
        title=f"Title of {document_id}",
        media_type="text/markdown",
        content_hash="hash",
        version=version,
        chunks=chunks,
        ingested_at_s=1_700_000_000.5,
        metadata=dict(metadata or {}),
        language="en",
        licence="CC0-1.0",
        near_duplicate_of="",
    )


def chunks(*texts: str, first: int = 0, vectors: Sequence[bytes] = ()) -> list[Vectored]:
    """Chunks from number `first` on, pages from 1 on."""
    return [
        Vectored(
            Chunk(f"{n:05d}", text, "Title", ("Part", "One"), n + 1, n, n + len(text)),
            vectors[n - first] if vectors else EAST,
        )
        for n, text in enumerate(texts, first)
    ]


async def commit(store: Store, document_id: str, version: str, *texts: str, place: str = PLACE, **fields: str) -> bool:
    """Keeps a document with its metadata."""
    return await store.commit(place, record(document_id, version, len(texts), fields), chunks(*texts))


def probe(text: str = "", near: bytes = b"", *, keep: int = 50, limit: int = 50, wanted: Filter | None = None) -> Probe:
    """A search."""
    return Probe(text, near, limit, keep, Fusion.RRF, wanted or Filter(), with_vectors=False)


def texts(hits: Sequence[Hit]) -> list[str]:
    """What was found, sorted."""
    return sorted(hit.chunk.text for hit in hits)
