"""Finds a model on a Triton server and opens the engine on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from services.kit.clock import monotonic_s
from services.kit.settings.engines.triton import TritonSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.names import name_clash
from services.worker.engines.triton.client import NotThere, TritonClient, connect
from services.worker.engines.triton.contract import Contract
from services.worker.engines.triton.engine import TritonEngine
from services.worker.engines.triton.failures import TritonError
from services.worker.engines.triton.prompts import Prompts, read_prompts
from services.worker.engines.triton.watch import watch, watch_metrics
from services.worker.ports import About, Sink

MAX_RUNNING = 64
# The context of one request where neither the settings nor the model nor its tokenizer's folder name one.
CONTEXT_TOKENS = 8_192
RETRY_EVERY_S = 0.25


@asynccontextmanager
async def open_triton(settings: WorkerSettings, sink: Sink) -> AsyncIterator[TritonEngine]:
    """Waits for Triton and its model, and serves it until the block ends.

    Raises TritonError where it is not there within the time that the settings give, or is not what they say.
    """
    mine = settings.triton
    prompts = await asyncio.to_thread(read_prompts, mine)
    async with connect(mine) as client:
        contract = await _find(client, mine)
        about = _about(settings, contract, prompts)
        if clash := name_clash(about.model, about.adapters, "worker.triton.adapters"):
            raise TritonError(clash)
        engine = TritonEngine(about, contract, client, prompts, mine.structure, sink, max_waiting=settings.max_waiting)
        watches = [asyncio.create_task(watch(engine))]
        if mine.metrics_url:
            reading = watch_metrics(engine, mine.metrics_url, contract.model, mine.call_timeout_s)
            watches.append(asyncio.create_task(reading))
        try:
            yield engine
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await engine.close()


async def _find(client: TritonClient, settings: TritonSettings) -> Contract:
    """The model, once it is ready; Triton itself may come later than the worker."""
    until_s = monotonic_s() + settings.ready_timeout_s
    waited = False
    while True:
        try:
            model, unready = await _try(client, settings)
        except TimeoutError as error:
            model, unready = "", str(error)
        if not unready:
            return await client.describe(model, settings.version)
        if monotonic_s() >= until_s:
            raise TritonError(
                f"{unready}; waited {settings.ready_timeout_s:g} s for it: "
                "start it, or see worker.triton.url, worker.triton.model and worker.triton.ready_timeout_s"
            )
        if not waited:
            structlog.get_logger("triton").info("waiting for Triton", why=unready)
            waited = True
        await asyncio.sleep(RETRY_EVERY_S)


async def _try(client: TritonClient, settings: TritonSettings) -> tuple[str, str]:
    """The model's name, and why it cannot be used yet. Raises TritonError for a model that waiting does not bring."""
    model = settings.model
    if model and not (unready := await client.unready(model, settings.version)):
        return model, ""
    models = await client.models()
    if not model:
        if len(models) > 1:
            raise TritonError(f"Triton at {client.url} has {_listed(models)}: say which one by worker.triton.model")
        model = next(iter(models), "")
        unready = f"Triton at {client.url} names no model: set worker.triton.model"
        return model, await client.unready(model, settings.version) if model else unready
    if models and model not in models:
        raise NotThere(
            f"Triton at {client.url} has no model {model!r}; it has {_listed(models)}: set worker.triton.model"
        )
    return model, unready + (f" ({models[model]})" if models.get(model) else "")


def _listed(models: dict[str, str]) -> str:
    return ", ".join(sorted(models))


def _about(settings: WorkerSettings, contract: Contract, prompts: Prompts) -> About:
    mine = settings.triton
    model = settings.model_name or contract.model
    known = contract.context_tokens or prompts.context_tokens
    if not known and not settings.context_tokens:
        structlog.get_logger("triton").warning(
            "the context is not known",
            taken=CONTEXT_TOKENS,
            hint="set worker.context_tokens, worker.triton.tokenizer, or max_model_len in the model's parameters",
        )
    return About(
        engine="triton",
        model=model,
        max_running=settings.max_running or MAX_RUNNING,
        context_tokens=min(
            settings.context_tokens or known or CONTEXT_TOKENS, known or settings.context_tokens or CONTEXT_TOKENS
        ),
        tokenizer_fingerprint=f"text:{model}",
        logprobs=contract.logprobs,
        longest_step_s=mine.longest_step_s,
        structured_output=bool(mine.structure),
        text_only=True,
        adapters=tuple(mine.adapters),
    )
