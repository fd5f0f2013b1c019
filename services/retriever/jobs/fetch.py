"""One document by its URI: fetches it unless it is unchanged, ingests it, and notes what became of it."""

import asyncio
from dataclasses import dataclass

from services.retriever.core.naming import document_id_for
from services.retriever.document import Document, Outcome
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.ingest import Ingest, Ingested, hash_of
from services.retriever.jobs.job import Known, Said, Tag
from services.retriever.jobs.journal import Journal
from services.retriever.jobs.quarantine import Quarantine
from services.retriever.sources.source import SourceAway
from services.retriever.sources.sources import Sources


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document that was fetched, and how to tell its state from later ones."""

    document: Document
    known: Known


class UriIngest:
    """Retries nothing. `slots` bounds the documents that are ingested at once, over all callers."""

    def __init__(
        self, sources: Sources, ingest: Ingest, journal: Journal, quarantine: Quarantine, slots: asyncio.Semaphore
    ) -> None:
        self._sources = sources
        self._ingest = ingest
        self._journal = journal
        self._quarantine = quarantine
        self._slots = slots

    async def load(self, index: str, uri: str, said: Said) -> Loaded | Ingested:
        """The document, or that it is unchanged. Raises SourceAway, Unavailable, Exhausted, or IngestFailure."""
        known = await self._journal.known(index, uri)
        unchanged: Ingested | None = None
        if known and known.tag:
            # Only what is in the index in just this state need not be fetched again.
            same = _document(uri, said, known.media_type, b"")
            unchanged = await self._ingest.unchanged(index, same, known.content_hash)
        fetched = await self._sources.fetch(uri, known.tag if known and unchanged else Tag())
        if fetched is None:
            assert unchanged is not None, "nobody says unchanged who was not asked"
            return unchanged
        content_hash = await asyncio.to_thread(hash_of, fetched.content)
        document = _document(uri, said, fetched.media_type, fetched.content)
        return Loaded(document, Known(fetched.tag, content_hash, fetched.media_type))

    async def store(self, index: str, loaded: Loaded) -> Ingested:
        """Ingests it. Raises Unavailable and Exhausted."""
        async with self._slots:
            found = await self._ingest.run(index, loaded.document)
        if found.outcome not in (Outcome.FAILED, Outcome.DUPLICATE):
            await self._journal.remember(index, loaded.document.source, loaded.known)
        return found

    async def settle(self, index: str, uri: str, said: Said, found: Ingested) -> None:
        """Puts a failure into quarantine, and takes what has succeeded out of it."""
        if found.failure:
            await self._quarantine.keep(index, document_id_for(uri), uri, found.failure, said, uri=uri)
        else:
            await self._quarantine.release(index, document_id_for(uri))


def _document(uri: str, said: Said, media_type: str, content: bytes) -> Document:
    return Document(
        document_id=document_id_for(uri),
        source=uri,
        title=said.title,
        media_type=media_type,
        content=content,
        metadata=dict(said.metadata or {}),
        language=said.language,
        licence=said.licence,
    )


def failed(error: IngestFailure | SourceAway) -> Ingested:
    """A document that could not be fetched."""
    if isinstance(error, SourceAway):
        error = IngestFailure(FailureCode.UNAVAILABLE, error.reason, error.message)
    return Ingested(Outcome.FAILED, failure=error)
