"""Ingests documents: reads, embeds and stores each one; several at a time, but never two states of one document."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from services.kit.clock import Now
from services.kit.errors import Exhausted, NotFound, Unavailable, WeftError, rpc_code
from services.retriever.document import Chunk, Document, IndexSettings, Outcome, Prepared, Record, Vectored
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.jobs.twins import Claim, Twins
from services.retriever.locks import Locks
from services.retriever.metrics import RetrieverMetrics
from services.retriever.ports import Embedder, Library, Parsers, Target

# Chunks that are embedded and stored at a time: bounds the memory of one document and the time of one write.
BATCH_CHUNKS = 256
# Raised when the same document with the same settings would give other chunks or another record than before.
_FORM = 2


@dataclass(frozen=True, slots=True)
class Ingested:
    """How one document fared; `chunks` is what it has now."""

    outcome: Outcome
    chunks: int = 0
    failure: IngestFailure | None = None
    near_duplicate_of: str = ""


class Ingest:
    """Takes documents from all streams and jobs."""

    def __init__(
        self,
        parsers: Parsers,
        embedder: Embedder,
        library: Library,
        twins: Twins,
        metrics: RetrieverMetrics,
        now: Now,
        wall_clock_s: Callable[[], float],
    ) -> None:
        self._parsers = parsers
        self._embedder = embedder
        self._library = library
        self._twins = twins
        self._metrics = metrics
        self._now = now
        self._wall_clock_s = wall_clock_s
        self._locks = Locks[tuple[str, str]]()
        self._log = structlog.get_logger("ingest")

    async def run(self, index: str, document: Document) -> Ingested:
        """Ingests one document. The document's own faults are an outcome.

        Documents of the same id are taken in the order of the calls. Raises Unavailable where the embedder or the
        store is away, and Exhausted where one of them has no room now.
        """
        with self._metrics.in_flight.track_inprogress():
            try:
                settings = await self._library.settings_of(index)
                async with self._locks.hold((settings.index, document.document_id)):
                    found = await self._ingest(settings, document)
            except IngestFailure as failure:
                found = Ingested(Outcome.FAILED, failure=failure)
            except (Unavailable, Exhausted):
                raise
            except WeftError as error:
                found = Ingested(Outcome.FAILED, failure=failure_of(error))
        self._metrics.documents.labels(found.outcome.value).inc()
        if found.failure:
            self._metrics.failures.labels(found.failure.reason).inc()
        return found

    async def unchanged(self, index: str, document: Document, content_hash: str) -> Ingested | None:
        """What `run` would say of the document if its content had this hash and it is there in just that state."""
        settings = await self._library.settings_of(index)
        old = await self._record(settings.index, document.document_id)
        return _as_it_is(old) if old and old.version == _version(document, content_hash, settings) else None

    async def _ingest(self, settings: IndexSettings, document: Document) -> Ingested:
        content_hash = await asyncio.to_thread(hash_of, document.content)
        version = _version(document, content_hash, settings)
        old = await self._record(settings.index, document.document_id)
        if old and old.version == version:
            return _as_it_is(old)
        with self._timed("parse"):
            prepared = await self._parsers.prepare(document, settings.chunk_tokens, settings.chunk_overlap_tokens)
        async with self._twins.claim(settings.index, document.document_id, prepared.signature) as claim:
            twin = await self._twin(settings.index, claim)
            # A document that is there already is brought up to date, even where it has become like another.
            if twin and settings.skip_near_duplicates and old is None:
                return Ingested(Outcome.DUPLICATE, near_duplicate_of=twin)
            record = self._new_record(document, prepared, content_hash, version, twin)
            replaced = await self._store(settings.index, record, prepared)
            claim.keep()
        self._metrics.chunks.inc(record.chunks)
        return Ingested(Outcome.REPLACED if replaced else Outcome.INDEXED, record.chunks, near_duplicate_of=twin)

    def _new_record(self, document: Document, prepared: Prepared, content_hash: str, version: str, twin: str) -> Record:
        return Record(
            document_id=document.document_id,
            source=document.source,
            title=prepared.title,
            media_type=prepared.media_type,
            content_hash=content_hash,
            version=version,
            chunks=len(prepared.chunks),
            ingested_at_s=self._wall_clock_s(),
            metadata=dict(document.metadata),
            language=document.language or prepared.language,
            licence=document.licence or prepared.licence,
            near_duplicate_of=twin,
        )

    async def _record(self, index: str, document_id: str) -> Record | None:
        try:
            return await self._library.record(index, document_id)
        except NotFound:
            return None

    async def _twin(self, index: str, claim: Claim) -> str:
        """The first of the claim's twins that is in the index; the others were deleted since, and are forgotten."""
        for twin in claim.twins:
            if await self._record(index, twin):
                return twin
            await self._twins.forget(index, twin)
        return ""

    async def _store(self, index: str, record: Record, prepared: Prepared) -> bool:
        batches = [prepared.chunks[at : at + BATCH_CHUNKS] for at in range(0, len(prepared.chunks), BATCH_CHUNKS)]
        async with self._library.writing(index) as target:
            model = (await target.model()).name
            added = False
            try:
                for batch in batches[:-1]:
                    vectored = await self._embed(batch, model)
                    added = True
                    with self._timed("store"):
                        await target.add(record, vectored)
                vectored = await self._embed(batches[-1], model)
                with self._timed("store"):
                    return await target.commit(record, vectored)
            except BaseException:
                if added:
                    await asyncio.shield(self._abandon(target, index, record.document_id))
                raise

    async def _embed(self, chunks: tuple[Chunk, ...], model: str) -> list[Vectored]:
        with self._timed("embed"):
            vectors = await self._embedder.embed_passages([chunk.indexed_text for chunk in chunks], model)
        return [Vectored(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)]

    async def _abandon(self, target: Target, index: str, document_id: str) -> None:
        try:
            await target.abandon(document_id)
        except WeftError as error:
            # A store that is away tidies up when it starts again.
            self._log.warning("not abandoned", index=index, document_id=document_id, reason=error.reason)

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = self._now()
        yield
        self._metrics.ingest_seconds.labels(stage).observe(self._now() - started_s)


def hash_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _as_it_is(record: Record) -> Ingested:
    return Ingested(Outcome.UNCHANGED, record.chunks, near_duplicate_of=record.near_duplicate_of)


def _version(document: Document, content_hash: str, settings: IndexSettings) -> str:
    """Names everything that a document's stored state is made of: its content, what was said of it, the settings."""
    parts = [
        f"{_FORM} {settings.chunk_tokens} {settings.chunk_overlap_tokens}",
        content_hash,
        document.source,
        document.title,
        document.media_type,
        document.language,
        document.licence,
        sorted(document.metadata.items()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def failure_of(error: WeftError) -> IngestFailure:
    """An error of the mesh as one document's failure."""
    known = {int(code) for code in FailureCode}
    code = int(rpc_code(error))
    return IngestFailure(FailureCode(code) if code in known else FailureCode.INTERNAL, error.reason, error.message)
