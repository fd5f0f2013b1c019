"""The retriever's settings."""

from pydantic import Field

from services.kit.settings.shared import Section


class RetrieverSettings(Section):
    """Where it listens, whom it asks, how it parses, chunks and searches."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50081, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50181, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    embedder: str = Field(default="127.0.0.1:50071", description="The embedder's address.")
    max_document_bytes: int = Field(default=32 * 1024 * 1024, ge=1, description="Bytes of one document.")
    parse_timeout_s: float = Field(default=60.0, gt=0.0, description="Time to parse one document.")
    parse_memory_bytes: int = Field(default=2 * 1024**3, ge=64 * 1024**2, description="Memory to parse one document.")
    chunk_tokens: int = Field(default=200, ge=16, le=254, description="Tokens of a chunk.")
    chunk_overlap_tokens: int = Field(default=32, ge=0, description="Tokens that neighbouring chunks share.")
    max_indexes: int = Field(default=64, ge=1, description="Indexes that may exist.")
    max_query_bytes: int = Field(default=8192, ge=1, description="Bytes of a query.")
    max_top_k: int = Field(default=100, ge=1, description="Passages of one search.")
    search_timeout_s: float = Field(default=10.0, gt=0.0, description="Time for one search.")
