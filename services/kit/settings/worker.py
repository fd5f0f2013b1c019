"""The worker's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.kit.settings.engines.llamacpp import LlamaCppSettings
from services.kit.settings.engines.openai import OpenAISettings
from services.kit.settings.engines.sim import SimSettings
from services.kit.settings.engines.triton import TritonSettings
from services.kit.settings.engines.vllm import VllmSettings
from services.kit.settings.shared import Section


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
    engine: Literal["reader", "sim", "llamacpp", "vllm", "triton", "openai"] = Field(
        default="reader", description="What generates."
    )
    model: Path | None = Field(default=None, description="The model's file for llamacpp, its folder for vllm.")
    python: Path | None = Field(
        default=None, description="What `weft up` runs workers with, where their engine has an environment of its own."
    )
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
    vllm: VllmSettings = VllmSettings()
    triton: TritonSettings = TritonSettings()
    openai: OpenAISettings = OpenAISettings()
