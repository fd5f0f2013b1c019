"""The worker's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.kit.settings.shared import Section


class SimSettings(Section):
    """The `sim` engine's model of a GPU worker."""

    ttft_ms: float = Field(default=50.0, ge=0.0, description="Time from a prompt's prefill to its first token.")
    itl_ms: float = Field(default=20.0, ge=0.0, description="Time between tokens: one step of the whole batch.")
    itl_us_per_running: float = Field(
        default=0.0, ge=0.0, description="What each request that generates adds to a step's time."
    )
    prefill_tokens_per_s: float = Field(
        default=0.0, ge=0.0, description="Prompt tokens, cached ones left out, one prompt after the other; 0: no time."
    )
    speed: float = Field(default=1.0, gt=0.0, description="2 halves all these times, 0.5 doubles them.")
    kv_blocks: int = Field(
        default=4096, ge=0, le=131_072, description="Blocks of 512 bytes of prompt that the prefix cache holds; 0: off."
    )
    max_tokens: int = Field(default=128, ge=1, description="Tokens of an answer that sets no max_tokens.")
    token_text: str = Field(
        default="", max_length=64, description="Every token's text, for load generators that count one; empty: words."
    )
    fail_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of requests that end with INTERNAL, anywhere in their answer."
    )
    fault_seed: int = Field(default=0, description="Another seed lets other requests fail.")
    hang_after_tokens: int = Field(
        default=0, ge=0, description="After so many tokens of all answers it stands still, once; 0: never."
    )
    hang_s: float = Field(default=0.0, ge=0.0, description="For so long; 0: for ever.")


class LlamaCppSettings(Section):
    """The `llamacpp` engine."""

    threads: int = Field(default=0, ge=0, description="CPU threads; 0 takes all.")
    gpu_layers: int = Field(default=-1, ge=-1, description="Layers on the GPU where there is one; -1 takes all.")
    exact: bool = Field(
        default=False, description="F32 KV cache, no flash attention: greedy resume is exact, and slower."
    )
    longest_step_s: float = Field(
        default=60.0, ge=0.0, description="How long one step may take on a CPU before the worker is held for hung."
    )


class WorkerSettings(Section):
    """Who it is, where it listens, whom it tells, and what it runs."""

    worker_id: str = Field(default="worker-0", pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Stable across restarts.")
    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50061, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50161, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    advertise: str = Field(default="", description="host:port that routers dial; empty: host and port above.")
    routers: list[str] = Field(
        default_factory=lambda: ["127.0.0.1:50051"], description="Routers to announce itself to."
    )
    engine: Literal["reader", "sim", "llamacpp"] = Field(default="reader", description="What generates.")
    model: Path | None = Field(default=None, description="The model's file, for engines that need one.")
    model_name: str = Field(
        default="", max_length=256, description="The name that clients ask for; empty: the engine's or the file's."
    )
    max_running: int = Field(
        default=0, ge=0, le=65536, description="Requests that generate at once; 0: the engine's default."
    )
    max_waiting: int = Field(default=64, ge=0, le=65536, description="Requests that may wait beyond those.")
    context_tokens: int = Field(default=0, ge=0, description="Tokens of prompt and answer; 0: the engine's default.")
    load_every_s: float = Field(default=0.1, gt=0.0, le=1.0, description="Longest silence between load reports.")
    drain_limit_s: float = Field(default=10.0, ge=0.0, description="Time that answers have to finish when it stops.")
    link_queue_limit: int = Field(
        default=4096, ge=16, description="Messages that wait to be written to one router before its link is cut."
    )
    sim: SimSettings = SimSettings()
    llamacpp: LlamaCppSettings = LlamaCppSettings()
