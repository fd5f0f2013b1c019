"""One search: embeds the query where the mode wants it, asks the store, and reranks, under one deadline."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, FailedPrecondition, NotFound, Unavailable
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.core.diversity import mmr
from services.retriever.document import Found, Hit, IndexSettings, Mode, Passage, Probe, Query, Rerank
from services.retriever.library import IndexLibrary
from services.retriever.metrics import RetrieverMetrics
from services.retriever.ports import Embedder, Reranker
from services.retriever.shelf import Entry

# An index that is put in another's place while it is searched is searched again; this often means a fault.
_MAX_LOOKS = 5


@dataclass(frozen=True, slots=True)
class _Plan:
    """A search with everything decided."""

    query: Query
    rerank: Rerank
    min_score: float | None
    probe: Probe


class Search:
    """Runs searches; each is independent of the others."""

    def __init__(
        self,
        embedder: Embedder,
        library: IndexLibrary,
        reranker: Reranker | None,
        settings: RetrieverSettings,
        metrics: RetrieverMetrics,
        now: Now,
    ) -> None:
        self._embedder = embedder
        self._library = library
        self._reranker = reranker
        self._settings = settings
        self._metrics = metrics
        self._now = now

    async def run(self, query: Query, timeout_s: float) -> Found:
        """The best passages. Raises DeadlineExceeded after `timeout_s`, NotFound, FailedPrecondition, Unavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(_MAX_LOOKS):
                    name, entry = self._library.entry(query.index)
                    try:
                        return await self._run(query, name, entry)
                    except NotFound:
                        if self._library.entry(query.index)[1].collection == entry.collection:
                            raise
        except TimeoutError:
            raise DeadlineExceeded(f"the search took over {max(timeout_s, 0):.3g} s; allow it more time") from None
        raise Unavailable(
            f"the index {query.index} is replaced again and again", reason="INDEX_MOVING", retry_delay_s=1.0
        )

    async def _run(self, query: Query, name: str, entry: Entry) -> Found:
        settings, mode = await self._library.settings_of(name), query.mode.value
        started_s = self._now()
        vector = await self._vector(query, name, entry)
        embedded_s = self._now()
        plan = self._plan(query, settings, vector)
        hits = await self._library.store.search(entry.collection, plan.probe)
        searched_s = self._now()
        passages = await self._ranked(plan, hits)
        ended_s = self._now()
        reranks = plan.rerank is not Rerank.NONE
        self._metrics.search_seconds.labels(mode, "store").observe(searched_s - embedded_s)
        if vector:
            self._metrics.search_seconds.labels(mode, "embed").observe(embedded_s - started_s)
        if reranks:
            self._metrics.search_seconds.labels(mode, "rerank").observe(ended_s - searched_s)
        return Found(
            passages=tuple(
                passage for passage in passages if plan.min_score is None or passage.score >= plan.min_score
            ),
            embed_s=embedded_s - started_s if vector else None,
            search_s=searched_s - embedded_s,
            rerank_s=ended_s - searched_s if reranks else None,
        )

    async def _vector(self, query: Query, name: str, entry: Entry) -> bytes:
        if query.mode is Mode.BM25:
            return b""
        model = entry.spec.model
        checked, vector = await asyncio.gather(
            self._library.check_model(name, model),
            self._embedder.embed_query(query.text, model.name),
            return_exceptions=True,
        )
        # A wrong model explains more than what came of asking it.
        for outcome in (checked, vector):
            if isinstance(outcome, BaseException):
                raise outcome
        assert isinstance(vector, bytes)
        return vector

    def _plan(self, query: Query, settings: IndexSettings, vector: bytes) -> _Plan:
        rerank = query.rerank or settings.rerank
        if rerank is Rerank.CROSS_ENCODER and self._reranker is None:
            raise FailedPrecondition(
                "no cross-encoder is configured; set retriever.reranker to a folder with one, or choose another rerank",
                reason="NO_CROSS_ENCODER",
                field="rerank",
            )
        limit = max(query.candidates or settings.candidates, query.top_k)
        if rerank is Rerank.NONE and query.mode is not Mode.HYBRID:
            limit = query.top_k
        keep = {
            Rerank.NONE: query.top_k,
            Rerank.MMR: limit,
            Rerank.CROSS_ENCODER: max(query.top_k, min(limit, self._settings.rerank_candidates)),
        }[rerank]
        probe = Probe(
            text="" if query.mode is Mode.DENSE else query.text,
            vector=vector,
            limit=limit,
            keep=keep,
            fusion=query.fusion or settings.fusion,
            filter=query.filter,
            with_vectors=rerank is Rerank.MMR,
        )
        min_score = settings.min_score if query.min_score is None else query.min_score
        return _Plan(query, rerank, min_score, probe)

    async def _ranked(self, plan: _Plan, hits: Sequence[Hit]) -> list[Passage]:
        query = plan.query
        if plan.rerank is Rerank.MMR:
            weight = self._settings.mmr_lambda if query.mmr_lambda is None else query.mmr_lambda
            scores = [hit.score for hit in hits]
            order = mmr(scores, [hit.vector for hit in hits], weight, query.top_k)
        elif plan.rerank is Rerank.CROSS_ENCODER and self._reranker is not None:
            found = await self._reranker.score(query.text, [hit.chunk.indexed_text for hit in hits])
            order = sorted(enumerate(found), key=lambda item: (-item[1], item[0]))[: query.top_k]
        else:
            return [_passage(hit, hit.score, 0.0, query.mode) for hit in hits]
        return [_passage(hits[place], score, score, query.mode) for place, score in order]


def _passage(hit: Hit, score: float, rerank_score: float, mode: Mode) -> Passage:
    fused_score = hit.score if mode is Mode.HYBRID else 0.0
    return Passage(hit.record, hit.chunk, score, hit.dense_score, hit.bm25_score, fused_score, rerank_score)
