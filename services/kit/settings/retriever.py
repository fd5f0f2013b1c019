"""The retriever's settings."""

from typing import Literal

from pydantic import Field, model_validator

from services.kit.settings.shared import Section


class RetrieverSettings(Section):
    """Where it listens, whom it asks, how it parses, chunks and searches."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50081, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50181, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    embedder: str = Field(default="127.0.0.1:50071", description="The embedder's address.")
    max_document_bytes: int = Field(default=32 * 1024 * 1024, ge=1, description="Bytes of one document.")
    max_text_chars: int = Field(default=32 * 1024 * 1024, ge=1, description="Characters of one document's text.")
    max_documents_in_flight: int = Field(default=8, ge=1, description="Documents being ingested, over all streams.")
    parse_workers: int = Field(default=2, ge=1, le=64, description="Parser processes.")
    parse_timeout_s: float = Field(default=60.0, gt=0.0, description="Time to parse one document.")
    parse_memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2, description="Memory to parse one document.")
    chunk_tokens: int = Field(default=200, ge=16, le=254, description="Tokens of a chunk.")
    chunk_overlap_tokens: int = Field(
        default=32, ge=0, description="Tokens that neighbouring chunks share, at most half of a chunk."
    )
    embed_timeout_s: float = Field(default=60.0, gt=0.0, description="Silence after which the embedder counts as away.")
    max_indexes: int = Field(default=64, ge=1, description="Indexes that may exist.")
    max_query_bytes: int = Field(default=8192, ge=1, description="Bytes of a query.")
    max_top_k: int = Field(default=100, ge=1, description="Passages of one search.")
    max_filter_values: int = Field(default=1024, ge=1, description="Ids and values in one search's filter.")
    search_timeout_s: float = Field(default=10.0, gt=0.0, description="Time for one search.")
    candidates: int = Field(default=100, ge=1, le=10_000, description="Passages that each search hands to the fusion.")
    fusion: Literal["dbsf", "rrf"] = Field(default="dbsf", description="How dense and BM25 searches become one.")
    bm25_language: str = Field(default="english", description="Language of the stop words and the stemmer.")
    bm25_k: float = Field(default=1.2, ge=0.0, description="How much a repeated word counts.")
    bm25_b: float = Field(default=0.75, ge=0.0, le=1.0, description="How much a long chunk is discounted.")
    bm25_average_words: float = Field(default=110.0, gt=0.0, description="Words of a usual chunk, stop words left out.")
    store_queue_limit: int = Field(default=1024, ge=1, description="Requests that wait for the store.")
    store_timeout_s: float = Field(
        default=120.0, gt=0.0, description="Time for one request to the store, after which it is started anew."
    )
    hnsw_min_chunks: int = Field(
        default=200_000, ge=1, description="An index of more chunks gets a vector graph when the service starts."
    )

    @model_validator(mode="after")
    def _overlap_fits(self) -> "RetrieverSettings":
        if self.chunk_overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("chunk_overlap_tokens must be at most half of chunk_tokens")
        return self
