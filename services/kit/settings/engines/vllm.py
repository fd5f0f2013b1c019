"""The `vllm` engine's settings."""

from pathlib import Path
from typing import Any

from pydantic import Field

from services.kit.settings.shared import Section


class VllmSettings(Section):
    """The `vllm` engine."""

    model: str = Field(
        default="", max_length=512, description="The model's folder or its name on the hub; empty: worker.model."
    )
    tokenizer: str = Field(default="", max_length=512, description="Another tokenizer; empty: the model's own.")
    dtype: str = Field(default="auto", description="What it computes in: auto, float32, float16 or bfloat16.")
    quantization: str = Field(default="", description="How the weights are quantised; empty: as the model says.")
    tensor_parallel_size: int = Field(default=1, ge=1, le=1024, description="GPUs that share each layer.")
    pipeline_parallel_size: int = Field(default=1, ge=1, le=1024, description="Groups of GPUs that share the layers.")
    max_batched_tokens: int = Field(default=0, ge=0, description="Tokens that one step takes; 0: vLLM's default.")
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0.0, le=1.0, description="Share of a GPU's memory for weights and KV cache."
    )
    cpu_kv_cache_gib: int = Field(default=2, ge=1, le=4096, description="GiB of KV cache where there is no GPU.")
    cpu_threads: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Threads that compute where there is no GPU; 0: one a core, shared by `weft up`'s workers. "
        "The variable OMP_NUM_THREADS has the last word.",
    )
    prefix_caching: bool = Field(default=True, description="Keep what prompts have in common, and report it.")
    adapters: list[str] = Field(
        default_factory=list, max_length=256, description="LoRA adapters, each as name=folder; names are asked for."
    )
    max_lora_rank: int = Field(default=16, ge=1, le=512, description="The highest rank of an adapter.")
    chat_template: Path | None = Field(default=None, description="A file with another chat template.")
    seed: int = Field(default=0, ge=0, description="Of the engine's own noise, for requests without a seed.")
    trust_remote_code: bool = Field(default=False, description="Run code that the model's folder brings along.")
    enforce_eager: bool = Field(default=False, description="Compile nothing: starts sooner, runs slower.")
    start_limit_s: int = Field(default=1800, ge=1, description="How long the engine may take to load.")
    longest_step_s: float = Field(
        default=60.0, ge=0.0, description="How long one step may take on a CPU before the worker is held for hung."
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, by their names there."
    )
