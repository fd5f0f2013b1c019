"""The `openai` engine's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from services.kit.settings.engines.headers import Headers, Key
from services.kit.settings.shared import Section


class OpenAISettings(Section):
    """The `openai` engine: any OpenAI-compatible server. It holds at most `worker.max_running` connections to it."""

    base_url: str = Field(
        default="http://127.0.0.1:8000",
        max_length=2048,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$",
        description="The server, with or without /v1; a key belongs in api_key.",
    )
    model: str = Field(default="", max_length=256, description="Its name for the model; empty: the only one it has.")
    api_key: Key = Field(default=SecretStr(""), description="Sent as a bearer token; never logged.")
    headers: Headers = Field(default_factory=dict, description="More headers for every request.")
    allow_plain_text: bool = Field(
        default=False,
        description="Send api_key and headers to other machines over http too, where others can read them.",
    )
    dialect: Literal["auto", "vllm", "llamacpp", "sglang", "plain"] = Field(
        default="auto", description="What the server is; auto asks it. Only vllm gives token ids."
    )
    exact: bool = Field(
        default=False,
        description="Dialect vllm: it computes in float32 or with VLLM_BATCH_INVARIANT=1, so greedy resume is exact.",
    )
    continues: bool = Field(
        default=False,
        description="Dialect plain: the server goes on with a last assistant message instead of answering it.",
    )
    max_tokens: int = Field(
        default=1024, ge=1, description="Tokens of an answer that sets no max_tokens, where the server needs a number."
    )
    ca_file: Path | None = Field(default=None, description="Certificates to trust instead of the system's.")
    verify: bool = Field(default=True, description="Check the server's certificate.")
    connect_timeout_s: float = Field(default=5.0, gt=0.0, description="Time for a connection.")
    silence_limit_s: float = Field(default=60.0, gt=0.0, description="A stream without a byte for so long is broken.")
    start_limit_s: float = Field(default=300.0, ge=0.0, description="How long to wait for the server at the start.")
    health_every_s: float = Field(default=1.0, gt=0.0, description="How often its health and metrics are read.")
    health_timeout_s: float = Field(default=5.0, gt=0.0, description="A health check that takes longer has failed.")
    longest_step_s: float = Field(
        default=30.0, ge=0.0, description="How long its engine may stand still with work before it is held for hung."
    )
