"""The `llamacpp` engine's settings."""

from pydantic import Field

from services.kit.settings.engines.adapters import ADAPTERS_LIMIT, AdapterName
from services.kit.settings.shared import Section


class LlamaCppSettings(Section):
    """The `llamacpp` engine."""

    threads: int = Field(default=0, ge=0, description="CPU threads; 0: one a core, shared by `weft up`'s workers.")
    gpu_layers: int = Field(default=-1, ge=-1, description="Layers on the GPU where there is one; -1 takes all.")
    exact: bool = Field(
        default=False, description="F32 KV cache, no flash attention: greedy resume is exact, and slower."
    )
    adapters: dict[AdapterName, str] = Field(
        default_factory=dict,
        max_length=ADAPTERS_LIMIT,
        description="LoRA adapters as GGUF files, by the name that clients ask for.",
    )
    longest_step_s: float = Field(
        default=60.0, ge=0.0, description="How long one step may take on a CPU before the worker is held for hung."
    )
