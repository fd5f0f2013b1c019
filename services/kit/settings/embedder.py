"""The embedder's settings."""

from typing import Self

from pydantic import Field, model_validator

from services.kit.settings.shared import Section


class EmbedderSettings(Section):
    """Where it listens, and how it batches."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50071, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50171, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    threads: int = Field(
        default=0, ge=0, le=1024, description="Batches that run side by side, each on a core; 0 takes every core."
    )
    batch_tokens: int = Field(
        default=512,
        ge=64,
        description="Tokens of one batch, padding included. More is no faster on CPU, and queries wait longer.",
    )
    max_queued_texts: int = Field(default=16_384, ge=1, description="Passages that wait; over it RESOURCE_EXHAUSTED.")
    max_queued_queries: int = Field(default=4096, ge=1, description="Queries that wait; over it RESOURCE_EXHAUSTED.")
    max_text_bytes: int = Field(default=1024 * 1024, ge=1, description="Bytes of one text.")
    max_texts: int = Field(default=2048, ge=1, description="Texts of one request.")

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        if self.max_texts > min(self.max_queued_texts, self.max_queued_queries):
            raise ValueError("max_texts must not exceed max_queued_texts or max_queued_queries")
        return self
