"""Ingests documents: reads, embeds and stores each one; several at a time, but never two states of one document."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import structlog

from services.kit.clock import Now
from services.kit.errors import NotFound, Unavailable, WeftError, rpc_code
from services.retriever.document import Chunk, Document, Outcome, Prepared, Record
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.metrics import RetrieverMetrics
from services.retriever.ports import Catalog, Embedder, Parsers, Writer
from services.retriever.stores.operations import Vectored

# Chunks that are embedded and stored at a time: bounds the memory of one document and the time of one write.
BATCH_CHUNKS = 256


@dataclass(frozen=True, slots=True)
class Ingested:
    """How one document fared; `chunks` is what it has now."""

    outcome: Outcome
    chunks: int = 0
    failure: IngestFailure | None = None


class Ingest:
    """Takes documents from all streams; `settings_key` names what, besides the content, makes other chunks."""

    def __init__(
        self,
        parsers: Parsers,
        embedder: Embedder,
        catalog: Catalog,
        writer: Writer,
        metrics: RetrieverMetrics,
        now: Now,
        wall_clock_s: Callable[[], float],
        settings_key: str,
    ) -> None:
        self._parsers = parsers
        self._embedder = embedder
        self._catalog = catalog
        self._writer = writer
        self._metrics = metrics
        self._now = now
        self._wall_clock_s = wall_clock_s
        self._settings_key = settings_key
        self._locks = _Locks()
        self._log = structlog.get_logger("ingest")

    async def run(self, index: str, document: Document) -> Ingested:
        """Ingests one document. Raises Unavailable where the embedder or the store is away; the rest is an outcome.

        Documents of the same id are taken in the order of the calls.
        """
        with self._metrics.in_flight.track_inprogress():
            try:
                async with self._locks.hold((index, document.document_id)):
                    found = await self._ingest(index, document)
            except IngestFailure as failure:
                found = Ingested(Outcome.FAILED, failure=failure)
            except Unavailable:
                raise
            except WeftError as error:
                found = Ingested(Outcome.FAILED, failure=_failure(error))
        self._metrics.documents.labels(found.outcome.value).inc()
        if found.failure:
            self._metrics.failures.labels(found.failure.reason).inc()
        return found

    async def _ingest(self, index: str, document: Document) -> Ingested:
        content_hash = await asyncio.to_thread(lambda: hashlib.sha256(document.content).hexdigest())
        version = _version(document, content_hash, self._settings_key)
        old = await self._record(index, document.document_id)
        if old and old.version == version:
            return Ingested(Outcome.UNCHANGED, old.chunks)
        with self._timed("parse"):
            prepared = await self._parsers.prepare(document)
        record = Record(
            document_id=document.document_id,
            source=document.source,
            title=prepared.title,
            media_type=prepared.media_type,
            content_hash=content_hash,
            version=version,
            chunks=len(prepared.chunks),
            ingested_at_s=self._wall_clock_s(),
            metadata=dict(document.metadata),
        )
        replaced = await self._store(index, record, prepared)
        self._metrics.chunks.inc(record.chunks)
        return Ingested(Outcome.REPLACED if replaced else Outcome.INDEXED, record.chunks)

    async def _record(self, index: str, document_id: str) -> Record | None:
        try:
            return await self._catalog.record(index, document_id)
        except NotFound:
            return None

    async def _store(self, index: str, record: Record, prepared: Prepared) -> bool:
        model = await self._embedder.model()
        batches = [prepared.chunks[at : at + BATCH_CHUNKS] for at in range(0, len(prepared.chunks), BATCH_CHUNKS)]
        added = False
        try:
            for batch in batches[:-1]:
                vectored = await self._embed(batch)
                added = True
                with self._timed("store"):
                    await self._writer.add(index, model, record, vectored)
            vectored = await self._embed(batches[-1])
            with self._timed("store"):
                return await self._writer.commit(index, model, record, vectored)
        except BaseException:
            if added:
                await asyncio.shield(self._abandon(index, record.document_id))
            raise

    async def _embed(self, chunks: tuple[Chunk, ...]) -> list[Vectored]:
        with self._timed("embed"):
            vectors = await self._embedder.embed_passages([chunk.indexed_text for chunk in chunks])
        return [Vectored(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]

    async def _abandon(self, index: str, document_id: str) -> None:
        try:
            await self._writer.abandon(index, document_id)
        except WeftError as error:
            # A store that is away tidies up when it starts again.
            self._log.warning("not abandoned", index=index, document_id=document_id, reason=error.reason)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = self._now()
        yield
        self._metrics.ingest_seconds.labels(stage).observe(self._now() - started_s)


class _Locks:
    """One lock per key, first come first served, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: tuple[str, str]) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = (lock, users)
            else:
                del self._locks[key]


def _version(document: Document, content_hash: str, settings_key: str) -> str:
    """Names everything that a document's stored state is made of: its content, what was said of it, the settings."""
    parts = [
        settings_key,
        content_hash,
        document.source,
        document.title,
        document.media_type,
        sorted(document.metadata.items()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _failure(error: WeftError) -> IngestFailure:
    known = {int(code) for code in FailureCode}
    code = int(rpc_code(error))
    return IngestFailure(FailureCode(code) if code in known else FailureCode.INTERNAL, error.reason, error.message)
