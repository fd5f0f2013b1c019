"""The `sim` engine's settings."""

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
        default=4096,
        ge=0,
        le=131_072,
        description="Blocks of the KV cache that requests share, 512 bytes of prompt or 128 tokens each; 0: no bound.",
    )
    max_tokens: int = Field(default=128, ge=1, description="Tokens of an answer that sets no max_tokens.")
    token_text: str = Field(
        default="", max_length=64, description="Every token's text, for load generators that count one; empty: words."
    )
    fail_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of requests that end with INTERNAL, anywhere in their answer."
    )
    refuse_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of requests that are refused with RESOURCE_EXHAUSTED."
    )
    garbage_share: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Share of requests whose answers are wrong ids and no words."
    )
    fault_seed: int = Field(default=0, description="Another seed lets other requests fail.")
    slow_factor: float = Field(default=1.0, ge=0.01, le=1000.0, description="All times are so many times as long.")
    hang_after_tokens: int = Field(
        default=0, ge=0, description="After so many tokens of all answers it stands still, once; 0: never."
    )
    hang_s: float = Field(default=0.0, ge=0.0, description="For so long; 0: for ever.")
    die_after_tokens: int = Field(
        default=0, ge=0, description="After so many tokens of all answers the process ends as by SIGKILL; 0: never."
    )
