"""The router's settings."""

from typing import Literal

from pydantic import Field

from services.kit.settings.shared import Section


class PlacingSettings(Section):
    """How workers are scored; services/router/core/policies.py says what the scores mean."""

    recompute: float = Field(
        default=4.0, ge=1.0, description="`prefix_aware`: weight of a prompt's own prefill against other waiting."
    )
    crowding: float = Field(
        default=0.1, ge=0.0, description="Weight of the time that an answer loses to others on the same worker."
    )
    wait_scale_s: float = Field(default=1.0, gt=0.0, description="The wait that halves a score.")
    session_bound: float = Field(
        default=1.25, ge=1.0, description="`session`: a worker takes at most so many times its fair share."
    )
    prefill_tokens_per_s: float = Field(
        default=5000.0, gt=0.0, description="Speed that a worker is taken to have before any is measured."
    )
    prefix_blocks_per_worker: int = Field(
        default=32_768, ge=0, description="Prompt blocks of 512 bytes that are remembered of each worker; 0: none."
    )


class QueueSettings(Section):
    """Requests that wait in the router, for each model."""

    requests: int = Field(default=1024, ge=0, description="Requests that may wait; over it RESOURCE_EXHAUSTED.")
    tokens: int = Field(default=4_000_000, ge=1, description="Tokens of those, as estimated.")
    wait_s: float = Field(default=30.0, gt=0.0, description="Longest wait for a worker with room.")
    in_worker: int = Field(default=4, ge=0, description="Requests that may wait within a worker, ready to be run.")


class FailoverSettings(Section):
    """When a worker counts as hung or broken, and how often answers go on elsewhere."""

    attempts: int = Field(default=3, ge=1, le=16, description="Failures after which an answer fails.")
    recover_wait_s: float = Field(default=10.0, ge=0.0, description="Wait for a worker to go on with a begun answer.")
    retry_share: float = Field(default=0.2, ge=0.0, le=1.0, description="Retries as a share of recent requests.")
    retry_per_s: float = Field(default=10.0, ge=0.0, description="Retries a second that are always allowed.")
    retry_window_s: float = Field(default=10.0, gt=0.0, description="What counts as recent.")
    stall_s: float = Field(default=5.0, gt=0.0, description="No engine step for so long with work in it: hung.")
    probe_s: float = Field(default=30.0, gt=0.0, description="A worker that hung gets a request to prove itself after.")
    silent_s: float = Field(default=1.0, gt=0.0, description="No word for so long: no new requests.")
    check_every_s: float = Field(default=0.1, gt=0.0, le=1.0, description="How often workers are looked at.")
    breaker_failures: int = Field(default=5, ge=1, description="Failures in a row that open a worker's breaker.")
    breaker_open_s: float = Field(default=1.0, gt=0.0, description="Time until an open breaker lets a request through.")
    breaker_longest_s: float = Field(default=30.0, gt=0.0, description="The most that this time doubles to.")
    worker_drain_limit_s: float = Field(
        default=30.0, ge=0.0, description="Time that a drained worker's answers have before they move elsewhere."
    )
    hedge_after_s: float = Field(
        default=0.0, ge=0.0, description="No first token for so long: ask a second worker too. 0: never."
    )
    hedge_per_s: float = Field(default=1.0, ge=0.0, description="Hedges a second that are always allowed.")
    hedge_share: float = Field(default=0.05, ge=0.0, le=1.0, description="Hedges as a share of recent requests.")


class RetrievalSettings(Section):
    """Answers from passages: what the prompt holds of them, and how answers are checked against them."""

    source_tokens: int = Field(
        default=4096, ge=64, description="Tokens that sources may take of a prompt, unless the request says."
    )
    support: float = Field(
        default=0.5, ge=0.0, le=1.0, description="Share of a sentence's content words that its sources have to hold."
    )
    nothing_found: str = Field(
        default="No document answers this: nothing relevant was found.",
        min_length=1,
        max_length=1000,
        description="The answer where nothing relevant is found.",
    )


class RouterSettings(Section):
    """Where it listens, whom it knows, how it places and how long it waits."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50051, ge=0, le=65535, description="gRPC.")
    lane: bool = Field(default=True, description="Carry answers over the token lane; Envoy then sends chats there.")
    lane_port: int = Field(default=50052, ge=0, le=65535, description="gRPC for answers: the token lane.")
    admin_port: int = Field(default=50151, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    router_id: str = Field(default="router", min_length=1, max_length=128, description="Its name in logs and links.")
    workers: list[str] = Field(
        default_factory=list, max_length=4096, description="Workers that do not announce themselves, host:port each."
    )
    retriever: str = Field(default="127.0.0.1:50081", description="The retriever's address; empty: no retrieval.")
    policy: Literal[
        "round_robin", "random", "least_loaded", "power_of_two", "token_aware", "prefix_aware", "session"
    ] = Field(default="prefix_aware", description="How a worker is chosen.")
    allowed_worker_hosts: list[str] = Field(
        default_factory=lambda: ["127.0.0.1", "localhost", "::1"],
        description="Hosts that announced workers may have; `*` allows any, for networks where every peer is trusted.",
    )
    max_workers: int = Field(default=1024, ge=1, le=65536, description="Workers in the table.")
    register_every_s: float = Field(default=3.0, gt=0.0, description="How often workers announce themselves.")
    forget_after_s: float = Field(default=3600.0, gt=0.0, description="A worker away for this long leaves the table.")
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
    placing: PlacingSettings = PlacingSettings()
    queue: QueueSettings = QueueSettings()
    failover: FailoverSettings = FailoverSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
