"""Builds every model of the settings by its kind."""

import os
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

from services.embedder.metrics import EmbedderMetrics
from services.embedder.models.minilm.load import load_minilm
from services.embedder.models.onnx.load import load_folder
from services.embedder.models.remote.backend import Backend
from services.embedder.models.remote.http import JsonClient
from services.embedder.models.remote.llamacpp import LlamaCppBackend
from services.embedder.models.remote.model import open_remote
from services.embedder.models.remote.openai import OpenAIBackend, base_url
from services.embedder.models.remote.tei import TeiBackend
from services.embedder.models.remote.triton import TritonBackend
from services.embedder.models.threads import ThreadedModel
from services.embedder.ports import BatchLimits, Model, Network
from services.kit.settings import Settings
from services.kit.settings.embedder import EmbedderSettings, EmbeddingModelSettings

# Texts of one batch in this process; its tokens are the tighter bound but for the shortest texts.
_BATCH_TEXTS = 256


async def load_models(settings: Settings, metrics: EmbedderMetrics, owner: AsyncExitStack) -> list[Model]:
    """The models in the order of the settings, the default first; `owner` closes them. Raises WeftError where one
    cannot be used."""
    models: list[Model] = []
    for name, own in settings.embedder.served.items():
        model = await _load(name, own, settings.embedder, settings.data_dir, metrics)
        owner.push_async_callback(model.close)
        models.append(model)
    return models


async def _load(
    name: str, own: EmbeddingModelSettings, shared: EmbedderSettings, data_dir: Path, metrics: EmbedderMetrics
) -> Model:
    if own.kind == "minilm":
        return await _threaded(load_minilm(data_dir, own.precision, name, own.max_tokens), own, shared)
    if own.kind != "folder":
        return await open_remote(name, own, _backend(name, own), metrics.retries)
    return await _threaded(load_folder(name, own, data_dir), own, shared)


def _backend(name: str, own: EmbeddingModelSettings) -> Backend:
    if own.kind == "gguf":
        return LlamaCppBackend(name, own)
    if own.kind == "triton":
        return TritonBackend(name, own)
    if own.kind == "tei":
        return TeiBackend(name, JsonClient(name, own.url.rstrip("/"), own))
    return OpenAIBackend(name, own, JsonClient(name, base_url(own.url), own))


async def _threaded(loading: Awaitable[Network], own: EmbeddingModelSettings, shared: EmbedderSettings) -> Model:
    parallel = own.threads or shared.threads or len(os.sched_getaffinity(0))
    return ThreadedModel(await loading, BatchLimits(shared.batch_tokens, _BATCH_TEXTS, parallel))
