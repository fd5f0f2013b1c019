"""The embedder's settings."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from services.kit.plain_text import is_in_the_open
from services.kit.settings.engines.headers import Key
from services.kit.settings.shared import Section

DEFAULT_MODEL = "all-minilm-l6-v2"
_NEEDED = {"folder": "path", "gguf": "path", "tei": "url", "openai": "url", "triton": "url"}
# Nothing that could hold a key: no user, no query. A path may have an @, and what is no http address may not.
_ADDRESS = r"^(https?://([^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?/[^\s?#]*|[^\s?#@]*)$"
# Kinds that send a key.
_WITH_KEY = ("tei", "openai")


class EmbeddingModelSettings(Section):
    """One model that the embedder serves. Vectors always have length 1, whatever the model itself gives."""

    kind: Literal["minilm", "folder", "gguf", "tei", "openai", "triton"] = Field(
        default="minilm",
        description="minilm: the built-in one. folder: sentence-transformers or ONNX files. gguf: through llama.cpp. "
        "tei, openai, triton: behind a server.",
    )
    path: Path | None = Field(default=None, description="Kinds folder and gguf: where the model is.")
    precision: Literal["int8", "fp32"] = Field(
        default="int8", description="Kinds minilm and folder, where the graph is built from safetensors."
    )
    pooling: Literal["", "mean", "cls", "last"] = Field(
        default="", description="How a text's tokens become one vector; empty: as the model's own files say."
    )
    max_tokens: int = Field(default=0, ge=0, description="Tokens read of one text; 0: what the model says.")
    query_prefix: str | None = Field(
        default=None, max_length=4096, description="Goes before a query, such as `query: `; unset: the model's own."
    )
    passage_prefix: str | None = Field(default=None, max_length=4096, description="Goes before a passage.")
    threads: int = Field(
        default=0, ge=0, le=1024, description="Batches side by side, in process; 0: those of the embedder."
    )
    gpu_layers: int = Field(default=-1, ge=-1, description="Kind gguf: layers on the GPU where there is one; -1: all.")
    url: str = Field(
        default="",
        pattern=_ADDRESS,
        description="Kinds tei and openai: http(s)://host:port with any path; kind triton: host:port. No key in it.",
    )
    remote_name: str = Field(
        default="", max_length=256, description="The model's name at the server; empty: the same, or its only one."
    )
    api_key: Key = Field(default=SecretStr(""), description="Sent as a bearer token; never logged.")
    allow_plain_text: bool = Field(
        default=False, description="Send api_key to other machines over http too, where others can read it."
    )
    ca_file: Path | None = Field(default=None, description="Certificates to trust instead of the system's.")
    tls: bool = Field(default=False, description="Kind triton: speak TLS.")
    dimensions: int = Field(
        default=0, ge=0, description="What the vectors must have; 0: what the server's first answer has."
    )
    encoding: Literal["float", "base64"] = Field(
        default="float", description="Kind openai: how vectors travel; base64 is smaller, where the server knows it."
    )
    input_tensor: str = Field(default="TEXT", description="Kind triton: a BYTES tensor that takes the texts.")
    output_tensor: str = Field(default="EMBEDDING", description="Kind triton: an FP32 tensor, one vector a row.")
    batch_texts: int = Field(default=32, ge=1, le=2048, description="Remote: texts of one request, at most.")
    batch_tokens: int = Field(default=8192, ge=1, description="Remote: tokens of one request, estimated.")
    connections: int = Field(default=4, ge=1, le=256, description="Remote: requests under way, at most.")
    request_timeout_s: float = Field(default=30.0, gt=0.0, description="Remote: time for one request.")
    retries: int = Field(default=4, ge=0, le=16, description="Remote: more tries of a request that 429 or 503 ended.")
    start_limit_s: float = Field(default=60.0, ge=0.0, description="Remote: how long to wait for the server at first.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        needed = _NEEDED.get(self.kind)
        if needed and not getattr(self, needed):
            raise ValueError(f"a model of kind {self.kind} needs {needed}")
        return self

    @model_validator(mode="after")
    def _keeps_its_key(self) -> Self:
        has_key = bool(self.api_key.get_secret_value())
        if self.kind in _WITH_KEY and has_key and not self.allow_plain_text and is_in_the_open(self.url):
            raise ValueError(
                "its key would go to the server in plain text, where others can read it: set an https address in url, "
                "take the key out, or set allow_plain_text on a network that you trust"
            )
        return self


class EmbedderSettings(Section):
    """Where it listens, what it serves, and how it batches."""

    host: str = Field(default="127.0.0.1", description="Where it listens.")
    port: int = Field(default=50071, ge=0, le=65535, description="gRPC.")
    admin_port: int = Field(default=50171, ge=0, le=65535, description="HTTP: /metrics, /healthz, /readyz.")
    models: dict[str, EmbeddingModelSettings] = Field(
        default_factory=dict,
        max_length=32,
        description="What it serves, by the name that callers ask for; the first is the default; none: MiniLM. "
        'As in `[embedder.models."e5"]` with `kind` and what that kind needs.',
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="Batches that run side by side, each on a core; 0 takes every core."
    )
    batch_tokens: int = Field(
        default=512,
        ge=64,
        description="Tokens of one batch, padding included. More is no faster on CPU, and queries wait longer.",
    )
    max_queued_texts: int = Field(
        default=16_384, ge=1, description="Passages that wait for one model; over it RESOURCE_EXHAUSTED."
    )
    max_queued_queries: int = Field(
        default=4096, ge=1, description="Queries that wait for one model; over it RESOURCE_EXHAUSTED."
    )
    max_text_bytes: int = Field(default=1024 * 1024, ge=1, description="Bytes of one text.")
    max_texts: int = Field(default=2048, ge=1, description="Texts of one request.")
    cache_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Vectors of texts embedded before are kept up to so much; 0 turns the cache off.",
    )

    @property
    def served(self) -> dict[str, EmbeddingModelSettings]:
        """The models by name, MiniLM where none is set."""
        return self.models or {DEFAULT_MODEL: EmbeddingModelSettings()}

    @model_validator(mode="after")
    def _requests_fit(self) -> Self:
        if self.max_texts > min(self.max_queued_texts, self.max_queued_queries):
            raise ValueError("max_texts must not exceed max_queued_texts or max_queued_queries")
        return self
