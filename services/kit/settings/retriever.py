"""The retriever's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from services.kit.plain_text import is_in_the_open
from services.kit.settings.ingest import IngestSettings
from services.kit.settings.shared import Section


class RetrieverSettings(Section):
    """Where it listens, whom it asks, how it parses, chunks and searches."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50081, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50181, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    embedder: str = Field(default="127.0.0.1:50071", description="The embedder's address.")
    embedders: list[str] = Field(
        default_factory=list,
        description="Addresses of several embedders, between which texts are balanced; empty: `embedder` alone.",
    )
    store: Literal["qdrant-edge", "qdrant", "postgres"] = Field(
        default="qdrant-edge", description="Where indexes are kept: embedded in this machine, or on a server."
    )
    qdrant_url: SecretStr = Field(default=SecretStr(""), description="A Qdrant server, such as http://127.0.0.1:6333.")
    qdrant_grpc_port: int = Field(default=6334, ge=1, le=65535, description="Its gRPC port.")
    qdrant_api_key: SecretStr = Field(default=SecretStr(""), description="Its API key, where it has one.")
    qdrant_allow_plain_text: bool = Field(
        default=False, description="Send that key to another machine over http too, where others can read it."
    )
    qdrant_prefix: str = Field(
        default="weft-", pattern=r"^[a-z0-9_-]{1,32}$", description="Begins the names of Weft's collections there."
    )
    postgres_url: SecretStr = Field(
        default=SecretStr(""), description="A Postgres with pgvector 0.8: postgresql://user:password@host/database."
    )
    postgres_schema: str = Field(
        default="weft", pattern=r"^[a-z_][a-z0-9_]{0,40}$", description="The schema that holds Weft's tables there."
    )
    postgres_connections: int = Field(default=8, ge=2, le=256, description="Connections to Postgres at most.")
    max_document_bytes: int = Field(default=32 * 1024 * 1024, ge=1, description="Bytes of one document.")
    max_text_chars: int = Field(default=32 * 1024 * 1024, ge=1, description="Characters of one document's text.")
    max_documents_in_flight: int = Field(default=8, ge=1, description="Documents being ingested, over all streams.")
    parse_workers: int = Field(default=2, ge=1, le=64, description="Parser processes.")
    parse_timeout_s: float = Field(default=180.0, gt=0.0, description="Time to parse one document.")
    parse_memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2, description="Memory to parse one document.")
    chunk_tokens: int = Field(default=200, ge=16, le=254, description="Tokens of a chunk.")
    chunk_overlap_tokens: int = Field(
        default=32, ge=0, description="Tokens that neighbouring chunks share, at most half of a chunk."
    )
    embed_timeout_s: float = Field(default=60.0, gt=0.0, description="Silence after which the embedder counts as away.")
    max_indexes: int = Field(default=64, ge=1, description="Indexes that may exist.")
    max_aliases: int = Field(default=1024, ge=0, description="Other names that indexes may have, all together.")
    max_query_bytes: int = Field(default=8192, ge=1, description="Bytes of a query.")
    max_top_k: int = Field(default=100, ge=1, description="Passages of one search.")
    max_filter_values: int = Field(default=1024, ge=1, description="Ids and values in one search's filter.")
    max_stream_searches: int = Field(default=64, ge=1, description="Searches of one stream that are under way.")
    search_timeout_s: float = Field(default=10.0, gt=0.0, description="Time for one search.")
    candidates: int = Field(default=100, ge=1, le=1_000, description="Passages that each search hands to the fusion.")
    fusion: Literal["dbsf", "rrf"] = Field(default="dbsf", description="How dense and BM25 searches become one.")
    rerank: Literal["none", "mmr", "cross_encoder"] = Field(
        default="none", description="How to order what was found, where neither the search nor the index says."
    )
    min_score: float | None = Field(default=None, description="Passages below this score are left out.")
    mmr_lambda: float = Field(default=0.7, ge=0.0, le=1.0, description="How much relevance counts against novelty.")
    reranker: Path | None = Field(
        default=None, description="A folder with a cross-encoder: model.onnx and tokenizer.json; none by default."
    )
    rerank_candidates: int = Field(default=50, ge=1, le=1_000, description="Passages that are reranked.")
    rerank_max_tokens: int = Field(default=512, ge=16, le=8192, description="Tokens of query and passage together.")
    rerank_threads: int = Field(default=1, ge=1, le=64, description="Threads of the cross-encoder.")
    skip_near_duplicates: bool = Field(
        default=False, description="Leave out documents that are nearly the same as one that is there."
    )
    max_snapshots: int = Field(default=32, ge=1, description="Snapshots that may be kept.")
    bm25_language: str = Field(default="english", description="Language of the stop words and the stemmer.")
    bm25_k: float = Field(default=1.2, ge=0.0, description="How much a repeated word counts.")
    bm25_b: float = Field(default=0.75, ge=0.0, le=1.0, description="How much a long chunk is discounted.")
    bm25_average_words: float = Field(default=110.0, gt=0.0, description="Words of a usual chunk, stop words left out.")
    store_queue_limit: int = Field(default=1024, ge=1, description="Requests that wait for the store.")
    store_timeout_s: float = Field(
        default=120.0, gt=0.0, description="Time for one request to the store, after which it is started anew."
    )
    hnsw_min_chunks: int = Field(
        default=50_000, ge=1, description="From so many chunks on, vectors are searched through a graph."
    )
    ingest: IngestSettings = IngestSettings()

    def _keep_qdrants_key(self) -> None:
        url = self.qdrant_url.get_secret_value().strip()
        sends = self.store == "qdrant" and bool(self.qdrant_api_key.get_secret_value())
        # To an address without a scheme Qdrant's client speaks TLS wherever there is a key.
        plain = url.lower().startswith("http:") and is_in_the_open(url)
        if sends and not self.qdrant_allow_plain_text and plain:
            raise ValueError(
                "qdrant_api_key would go to the server in plain text, where others can read it: set an https address "
                "in qdrant_url, or set qdrant_allow_plain_text on a network that you trust"
            )

    @model_validator(mode="after")
    def _overlap_fits(self) -> "RetrieverSettings":
        if self.chunk_overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("chunk_overlap_tokens must be at most half of chunk_tokens")
        if self.store == "qdrant" and not self.qdrant_url.get_secret_value():
            raise ValueError("store is qdrant, so qdrant_url must say where the server is")
        self._keep_qdrants_key()
        if self.store == "postgres" and not self.postgres_url.get_secret_value():
            raise ValueError("store is postgres, so postgres_url must say where the server is")
        if self.rerank == "cross_encoder" and self.reranker is None:
            raise ValueError("rerank is cross_encoder, so reranker must name a folder with one")
        return self
