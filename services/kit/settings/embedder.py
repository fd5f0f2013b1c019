"""The embedder's settings."""

from pydantic import Field

from services.kit.settings.shared import Section


class EmbedderSettings(Section):
    """Where it listens, and how it batches."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50071, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50171, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0 takes all.")
    batch_tokens: int = Field(default=2048, ge=64, description="Tokens of one batch, padding included.")
    max_queued_texts: int = Field(default=16_384, ge=1, description="Texts that wait; over it RESOURCE_EXHAUSTED.")
    max_text_bytes: int = Field(default=1024 * 1024, ge=1, description="Bytes of one text.")
    max_texts: int = Field(default=2048, ge=1, description="Texts of one request.")
