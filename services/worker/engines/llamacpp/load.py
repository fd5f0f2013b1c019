"""Loads a GGUF file into llama.cpp and opens the engine on it."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import xllamacpp

from services.kit.cores import cores
from services.kit.errors import WeftError
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.http import HttpClient
from services.worker.engines.llamacpp.engine import LlamaCppEngine
from services.worker.engines.llamacpp.gguf import ModelError, read_head
from services.worker.engines.llamacpp.wire import to_refusal
from services.worker.engines.names import name_clash
from services.worker.ports import About, Sink

MAX_RUNNING = 4
# The context of one request where the settings name none: what fits most machines.
CONTEXT_TOKENS = 8_192
# Prompt tokens that a CPU takes in one step. Between steps llama.cpp counts them, decodes for others and hears cancels,
# and its usual 2,048 take a CPU as long as a hung worker would be silent.
CPU_BATCH_TOKENS = 256


@asynccontextmanager
async def open_llamacpp(settings: WorkerSettings, sink: Sink) -> AsyncIterator[LlamaCppEngine]:
    """Loads the model and serves it until the block ends. Raises ModelError where the file cannot be used."""
    path = settings.model
    if path is None:
        raise ModelError("the llamacpp engine needs a model: set worker.model, or `--model FILE.gguf`")
    head = await asyncio.to_thread(read_head, path)
    trained = head.context_tokens or CONTEXT_TOKENS
    on_cpu = _has_no_gpu()
    about = About(
        engine="llamacpp",
        model=settings.model_name or path.stem,
        max_running=settings.max_running or MAX_RUNNING,
        context_tokens=min(settings.context_tokens or CONTEXT_TOKENS, trained),
        tokenizer_fingerprint=head.fingerprint,
        exact_resume=settings.llamacpp.exact,
        logprobs=True,
        # Its penalties look at the last tokens before the next one, whoever made them, prompt and resumed ones alike.
        replays_penalties=True,
        # Its grammar would begin anew after the resumed tokens, so replays_structure stays False; and its noise begins
        # anew at each call, so position_keyed_sampling does too.
        structured_output=True,
        adapters=tuple(settings.llamacpp.adapters),
        longest_step_s=settings.llamacpp.longest_step_s if on_cpu else 0.0,
    )
    if clash := name_clash(about.model, about.adapters, "worker.llamacpp.adapters"):
        raise ModelError(clash)
    key = secrets.token_urlsafe(32)
    params = _params(settings, path, about, key, on_cpu=on_cpu)
    server, client = await _started(params, path, key)
    engine = LlamaCppEngine(about, head, client, sink)
    try:
        yield engine
    finally:
        await engine.close()
        # Dropping the last reference stops llama.cpp's threads and frees the model.
        del server


async def _started(params: Any, path: Path, key: str) -> tuple[Any, HttpClient]:
    """llama.cpp with the model, and a way to ask it. Raises ModelError.

    A load cannot be cut short, and a llama.cpp that is stopped before its loop has begun never ends: so whoever cancels
    this waits until it has.
    """
    starting = asyncio.create_task(_start(params, path, key))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(WeftError):
            _, client = await starting
            client.close()
        raise


async def _start(params: Any, path: Path, key: str) -> tuple[Any, HttpClient]:
    try:
        server = await asyncio.to_thread(xllamacpp.Server, params)
    except Exception as error:
        raise ModelError(f"llama.cpp cannot load {path}: {error}") from error
    # It spends a thread on each open connection, so none is kept.
    client = HttpClient(
        server.listening_address, {"Authorization": f"Bearer {key}"}, to_refusal, name="llama.cpp", keep=False
    )
    # One token, before anything else: its loop has begun then.
    await client.post("/completion", {"prompt": [0], "n_predict": 1, "cache_prompt": False})
    return server, client


def _has_no_gpu() -> bool:
    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return all(device["type"] == cpu for device in xllamacpp.get_device_info())


def _params(settings: WorkerSettings, path: Path, about: About, key: str, *, on_cpu: bool) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_parallel = about.max_running
    # llama.cpp shares this out among its slots.
    params.n_ctx = about.max_running * about.context_tokens
    params.n_gpu_layers = settings.llamacpp.gpu_layers
    if on_cpu:
        params.n_batch = CPU_BATCH_TOKENS
    threads = settings.llamacpp.threads or cores()
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    # Its loopback port is for this process alone.
    params.api_keys = [key]
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 0
    params.lora_adapters = [_adapter(Path(file)) for file in settings.llamacpp.adapters.values()]
    # A request asks for its adapter by itself.
    params.lora_init_without_apply = bool(settings.llamacpp.adapters)
    if settings.llamacpp.adapters:
        # What llama.cpp keeps of idle slots it finds again by its tokens alone, whichever adapter computed it.
        params.cache_ram_mib = 0
    if settings.llamacpp.exact:
        params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
        params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return params


def _adapter(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"cannot read the adapter {path}: there is no such file")
    return xllamacpp.CommonAdapterLoraInfo(str(path), 1.0)
