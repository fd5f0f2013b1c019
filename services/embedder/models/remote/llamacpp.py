"""A GGUF embedding model through llama.cpp in this process, asked over its own loopback port."""

import asyncio
import os
import secrets
from collections.abc import Sequence
from typing import Any

import xllamacpp

from services.embedder.models.minilm.weights import hash_files
from services.embedder.models.onnx.folder import unusable
from services.embedder.models.remote.backend import Answer, Card
from services.embedder.models.remote.http import JsonClient, estimated, may_be_cut
from services.embedder.models.remote.openai import OpenAIBackend
from services.embedder.ports import Prepared
from services.kit.settings.embedder import EmbeddingModelSettings

_CONTEXT_TOKENS = 512
_POOLING = {"mean": "LLAMA_POOLING_TYPE_MEAN", "cls": "LLAMA_POOLING_TYPE_CLS", "last": "LLAMA_POOLING_TYPE_LAST"}


class LlamaCppBackend:
    """Texts beyond the limit are cut here, by their tokens, since llama.cpp refuses them."""

    def __init__(self, name: str, settings: EmbeddingModelSettings) -> None:
        self._name = name
        self._settings = settings
        self._max_tokens = settings.max_tokens or _CONTEXT_TOKENS
        self._server: Any = None
        self._client: JsonClient | None = None
        self._asks: OpenAIBackend | None = None

    async def describe(self) -> Card:
        """Loads the model. Raises Unavailable where the file cannot be used."""
        path = self._settings.path
        assert path is not None, "the settings check it"
        if not path.is_file():
            raise unusable(f"{path} is not there; name a GGUF file of an embedding model")
        if self._server is None:
            key = secrets.token_urlsafe(32)
            try:
                self._server = await asyncio.to_thread(xllamacpp.Server, self._params(key))
            except Exception as error:
                raise unusable(f"llama.cpp cannot load {path}: {error}") from error
            self._client = JsonClient(self._name, self._server.listening_address, self._settings, key)
            openai = JsonClient(self._name, f"{self._server.listening_address}/v1", self._settings, key)
            self._asks = OpenAIBackend(self._name, self._settings, openai)
        identity = await asyncio.to_thread(hash_files, path)
        pooling = self._settings.pooling
        return Card(f"{identity} {pooling}", self._max_tokens, 0, f"llama.cpp {path.name}")

    def _params(self, key: str) -> Any:
        settings = self._settings
        params = xllamacpp.CommonParams()
        params.model.path = str(settings.path)
        params.embedding = True
        params.n_parallel = settings.connections
        # llama.cpp shares the context out among its slots, and takes a text in one piece.
        params.n_ctx = settings.connections * self._max_tokens
        params.n_batch = params.n_ubatch = self._max_tokens
        params.n_gpu_layers = settings.gpu_layers
        threads = settings.threads or len(os.sched_getaffinity(0))
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
        if settings.pooling:
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, _POOLING[settings.pooling])
        # Its loopback port is for this process alone.
        params.api_keys = [key]
        params.ui = False
        params.endpoint_slots = False
        params.verbosity = 0
        return params

    async def count(self, texts: Sequence[str], max_tokens: int) -> list[Prepared]:
        assert self._client is not None, "describe comes first"
        found = estimated(texts, max_tokens)
        for index, text in enumerate(texts):
            if may_be_cut(text, max_tokens):
                answer, _ = await self._client.post("/tokenize", {"content": text, "add_special": True})
                found[index] = _cut([int(token) for token in answer["tokens"]], max_tokens)
        return found

    async def embed(self, batch: Sequence[Prepared], timeout_s: float) -> Answer:
        assert self._asks is not None, "describe comes first"
        return await self._asks.embed(batch, timeout_s)

    async def reach(self) -> None:
        """It is in this process, and so is there."""

    async def close(self) -> None:
        for client in (self._client, self._asks):
            if client is not None:
                await client.close()
        # Dropping the last reference stops llama.cpp's threads and frees the model.
        server, self._server = self._server, None
        del server


def _cut(tokens: list[int], max_tokens: int) -> Prepared:
    """The first tokens; the last one, which ends a text for many models, stays the last."""
    kept = tokens if len(tokens) <= max_tokens else [*tokens[: max_tokens - 1], tokens[-1]]
    return Prepared(len(kept), len(tokens) > max_tokens, ids=tuple(kept))
