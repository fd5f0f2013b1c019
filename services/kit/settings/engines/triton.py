"""The `triton` engine's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.kit.settings.engines.adapters import ADAPTERS_LIMIT, AdapterName
from services.kit.settings.engines.headers import Headers
from services.kit.settings.shared import Section


class TritonSettings(Section):
    """The `triton` engine: a model of Triton's vLLM backend, or one that takes and gives the same tensors."""

    url: str = Field(default="127.0.0.1:8001", description="host:port of Triton's gRPC server.")
    model: str = Field(default="", max_length=256, description="The model's name there; empty: the only one it has.")
    version: str = Field(
        default="", pattern=r"^[0-9]*$", description="The model's version there; empty: the one that Triton prefers."
    )
    metrics_url: str = Field(
        default="",
        description="Triton's metrics, such as http://127.0.0.1:8002/metrics; empty: count our own requests.",
    )
    tls: bool = Field(default=False, description="Speak TLS to Triton.")
    ca_file: Path | None = Field(default=None, description="Who signed its certificate; empty: the well-known ones.")
    cert_file: Path | None = Field(default=None, description="The worker's own certificate, where Triton asks for it.")
    key_file: Path | None = Field(default=None, description="The key of that certificate.")
    headers: Headers = Field(
        default_factory=dict,
        description="Sent with each call, such as an authorization; over TLS alone, or to this machine.",
    )
    allow_plain_text: bool = Field(
        default=False, description="Send headers to other machines without TLS too, where others can read them."
    )
    ready_timeout_s: float = Field(
        default=60.0, ge=0.0, description="How long it waits at its start for Triton and the model to be ready."
    )
    call_timeout_s: float = Field(
        default=5.0, gt=0.0, description="How long Triton may take to say whether the model is ready."
    )
    longest_step_s: float = Field(
        default=60.0, ge=0.0, description="How long it may bring no token before it is held for hung; 0: the router's."
    )
    tokenizer: Path | None = Field(
        default=None, description="Folder with the model's tokenizer.json and tokenizer_config.json: counts, template."
    )
    chat_template: Path | None = Field(
        default=None, description="A Jinja chat template; empty: the tokenizer folder's. Triton itself takes only text."
    )
    structure: Literal["", "structured_outputs", "guided_decoding"] = Field(
        default="", description="Which sampling parameter of the backend holds answers to a form; empty: none does."
    )
    adapters: list[AdapterName] = Field(
        default_factory=list,
        max_length=ADAPTERS_LIMIT,
        description="Names of the LoRA adapters in its multi_lora.json.",
    )
