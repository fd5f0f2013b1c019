"""Turns the settings into vLLM's engine arguments, and says what is wrong with them before anything is loaded."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from services.kit.settings.worker import WorkerSettings
from services.worker.engines.names import name_clash
from services.worker.engines.vllm.failure import ModelError

SAMPLER = "services.worker.engines.vllm.sampler:ResumableSampler"
# Arguments that have a setting of their own, or that the engine's promises rest on.
RESERVED = {
    "model": "worker.vllm.model",
    "tokenizer": "worker.vllm.tokenizer",
    "served_model_name": "worker.model_name",
    "dtype": "worker.vllm.dtype",
    "quantization": "worker.vllm.quantization",
    "tensor_parallel_size": "worker.vllm.tensor_parallel_size",
    "pipeline_parallel_size": "worker.vllm.pipeline_parallel_size",
    "max_model_len": "worker.context_tokens",
    "max_num_seqs": "worker.max_running",
    "max_num_batched_tokens": "worker.vllm.max_batched_tokens",
    "gpu_memory_utilization": "worker.vllm.gpu_memory_utilization",
    "enable_prefix_caching": "worker.vllm.prefix_caching",
    "enable_lora": "worker.vllm.adapters",
    "max_lora_rank": "worker.vllm.max_lora_rank",
    "seed": "worker.vllm.seed",
    "trust_remote_code": "worker.vllm.trust_remote_code",
    "enforce_eager": "worker.vllm.enforce_eager",
}
_OURS = {"logits_processors", "kv_events_config", "disable_log_stats", "data_parallel_size", "speculative_config"}
MAX_RUNNING = 64


def model_of(settings: WorkerSettings) -> str:
    """The model's folder or hub name. Raises ModelError where none is set."""
    model = settings.vllm.model or (str(settings.model) if settings.model else "")
    if not model:
        raise ModelError("the vllm engine needs a model: set worker.vllm.model to a folder or a name on the hub")
    if model.startswith(("/", "./", "../", "~")) and not Path(model).expanduser().is_dir():
        raise ModelError(f"worker.vllm.model is {model}, and there is no such folder")
    return str(Path(model).expanduser()) if model.startswith("~") else model


def name_of(settings: WorkerSettings) -> str:
    """What clients ask for. Raises ModelError where no model is set."""
    return settings.model_name or model_of(settings).rstrip("/").rsplit("/", 1)[-1]


def adapters_of(settings: WorkerSettings) -> dict[str, str]:
    """Folders by the adapters' names.

    Raises ModelError where an entry is no name=folder, the folder is missing, or a name is taken.
    """
    found: dict[str, str] = {}
    for entry in settings.vllm.adapters:
        name, _, folder = entry.partition("=")
        if not name or not folder:
            raise ModelError(f"worker.vllm.adapters has {entry!r}, which is no name=folder")
        if name in found:
            raise ModelError(f"worker.vllm.adapters names {name!r} twice")
        if not (Path(folder) / "adapter_config.json").is_file():
            raise ModelError(f"worker.vllm.adapters: {folder} has no adapter_config.json, so it is no LoRA adapter")
        found[name] = folder
    if clash := name_clash(name_of(settings), found, "worker.vllm.adapters"):
        raise ModelError(clash)
    return found


def template_of(settings: WorkerSettings) -> str | None:
    """The text of the chat template that the settings name. Raises ModelError where it cannot be read."""
    path = settings.vllm.chat_template
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"worker.vllm.chat_template: cannot read {path}: {error}") from error


def engine_arguments(settings: WorkerSettings, known: Collection[str], events_endpoint: str) -> dict[str, Any]:
    """Arguments for AsyncEngineArgs, whose fields are `known`. An empty endpoint leaves cache events off.

    Raises ModelError where `worker.vllm.extra` names none of the fields, or one that has a setting of its own.
    """
    check_extra(settings.vllm.extra, known)
    mine = settings.vllm
    adapters = adapters_of(settings)
    found: dict[str, Any] = {
        "model": model_of(settings),
        "tokenizer": mine.tokenizer or None,
        "dtype": mine.dtype,
        "quantization": mine.quantization or None,
        "tensor_parallel_size": mine.tensor_parallel_size,
        "pipeline_parallel_size": mine.pipeline_parallel_size,
        "max_model_len": settings.context_tokens or None,
        "max_num_seqs": settings.max_running or MAX_RUNNING,
        "max_num_batched_tokens": mine.max_batched_tokens or None,
        "gpu_memory_utilization": mine.gpu_memory_utilization,
        "enable_prefix_caching": mine.prefix_caching,
        "seed": mine.seed,
        "trust_remote_code": mine.trust_remote_code,
        "enforce_eager": mine.enforce_eager,
        "logits_processors": [SAMPLER],
        "disable_log_stats": False,
        "enable_log_requests": False,
        **mine.extra,
    }
    if adapters:
        found |= {"enable_lora": True, "max_lora_rank": mine.max_lora_rank}
        # vLLM's CPU kernels read the last slot for requests without an adapter, so that one has to stay empty.
        found.setdefault("max_loras", len(adapters) + 1)
    if events_endpoint:
        found["kv_events_config"] = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": events_endpoint,
        }
    return found


def check_extra(extra: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ModelError that names the wrong argument and what it could have been."""
    for name in extra:
        if name in RESERVED:
            raise ModelError(f"worker.vllm.extra.{name} has a setting of its own: {RESERVED[name]}")
        if name in _OURS:
            raise ModelError(f"worker.vllm.extra.{name} cannot be set: what the worker promises rests on it")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            raise ModelError(f"worker.vllm.extra.{name}: vLLM has no such engine argument{meant}")
