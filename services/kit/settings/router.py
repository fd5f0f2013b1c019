"""The router's settings."""

from typing import Literal

from pydantic import Field

from services.kit.settings.shared import Section


class RouterSettings(Section):
    """Where it listens, whom it knows, how it places and how long it waits."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50051, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50151, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    router_id: str = Field(default="router", min_length=1, max_length=128, description="Its name in logs and links.")
    workers: list[str] = Field(
        default_factory=list, max_length=4096, description="Workers that do not announce themselves, host:port each."
    )
    retriever: str = Field(default="127.0.0.1:50081", description="The retriever's address; empty: no retrieval.")
    policy: Literal["least_loaded", "round_robin"] = Field(
        default="least_loaded", description="How a worker is chosen."
    )
    allowed_worker_hosts: list[str] = Field(
        default_factory=lambda: ["127.0.0.1", "localhost", "::1"],
        description="Hosts that announced workers may have; `*` allows any, for networks where every peer is trusted.",
    )
    max_workers: int = Field(default=1024, ge=1, le=65536, description="Workers in the table.")
    register_every_s: float = Field(default=3.0, gt=0.0, description="How often workers announce themselves.")
    forget_after_s: float = Field(default=3600.0, gt=0.0, description="A worker away for this long leaves the table.")
    max_attempts: int = Field(default=3, ge=1, le=16, description="Workers that one answer may try.")
    no_worker_retry_s: float = Field(
        default=2.0, gt=0.0, description="RetryInfo when no worker is there or all are full."
    )
    link_queue_limit: int = Field(default=4096, ge=16, description="Messages that wait to be written to one worker.")
    client_buffer_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="Text that may wait for a slow client before its answer is cut."
    )
    progress_every_s: float = Field(default=4.0, gt=0.0, le=5.0, description="Silence before a `progress` event.")
    deadline_margin_s: float = Field(
        default=0.1,
        ge=0.0,
        description="How long before a call's own deadline its answer is ended, to be told in time.",
    )
    default_timeout_s: float = Field(default=600.0, gt=0.0, description="Deadline of a request that brings none.")
    max_prompt_bytes: int = Field(default=2 * 1024 * 1024, ge=1, description="Bytes of all messages together.")
    max_messages: int = Field(default=1024, ge=1, description="Messages of one request.")
    context_bytes_per_passage: int = Field(default=6000, ge=100, description="A passage is cut to this in a prompt.")
    drain_limit_s: float = Field(
        default=10.0, ge=0.0, description="Time that answers have to finish when the router stops."
    )
