"""A network of this process behind the Model port: tokenising and batches run in threads, never on the event loop."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.embedder.ports import BatchLimits, Embedded, ModelInfo, Network, Prepared
from services.kit.errors import WeftError


class ThreadedModel:
    """Runs `limits.parallel` batches side by side, each in a thread of its own, and tokenises in one more."""

    def __init__(self, network: Network, limits: BatchLimits) -> None:
        self._network = network
        self._batches = limits
        self._embedders = ThreadPoolExecutor(limits.parallel, thread_name_prefix="embed")
        # Tokenising has a thread of its own, so that it goes on while every other is busy.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")

    def __repr__(self) -> str:
        return f"ThreadedModel({self._network!r})"

    @property
    def info(self) -> ModelInfo:
        return self._network.info

    @property
    def batches(self) -> BatchLimits:
        return self._batches

    async def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        if prefix := self.info.prefix(query):
            texts = [prefix + text for text in texts]
        return await asyncio.get_running_loop().run_in_executor(self._encoder, self._network.encode, texts)

    async def embed(self, batch: Sequence[Prepared], limit_s: float | None) -> list[Embedded | WeftError]:
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._embedders, self._network.embed, batch)
        return [Embedded(vector, text.tokens, text.truncated) for vector, text in zip(vectors, batch, strict=True)]

    async def why_away(self) -> str:
        return ""

    async def close(self) -> None:
        for pool in (self._embedders, self._encoder):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
