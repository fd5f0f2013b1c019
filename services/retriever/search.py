"""One search: embeds the query where the mode wants it, and asks the store, under one deadline."""

import asyncio

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded
from services.retriever.document import Mode, Passage, Query
from services.retriever.metrics import RetrieverMetrics
from services.retriever.ports import Embedder, Searcher


class Search:
    """Runs searches; each is independent of the others."""

    def __init__(self, embedder: Embedder, searcher: Searcher, metrics: RetrieverMetrics, now: Now) -> None:
        self._embedder = embedder
        self._searcher = searcher
        self._metrics = metrics
        self._now = now

    async def run(self, query: Query, timeout_s: float) -> list[Passage]:
        """The best passages, best first. Raises DeadlineExceeded after `timeout_s`, NotFound, Unavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._run(query)
        except TimeoutError:
            raise DeadlineExceeded(f"the search took over {max(timeout_s, 0):.3g} s; allow it more time") from None

    async def _run(self, query: Query) -> list[Passage]:
        vector, fingerprint, mode = b"", "", query.mode.value
        started_s = self._now()
        if query.mode is not Mode.BM25:
            model, vector = await asyncio.gather(self._embedder.model(), self._embedder.embed_query(query.text))
            fingerprint = model.fingerprint
        embedded_s = self._now()
        self._metrics.search_seconds.labels(mode, "embed").observe(embedded_s - started_s)
        passages = await self._searcher.search(query, vector, fingerprint)
        self._metrics.search_seconds.labels(mode, "store").observe(self._now() - embedded_s)
        return passages
