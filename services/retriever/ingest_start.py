"""Builds what ingests documents, starts it, and closes it again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.kit.clock import Now
from services.kit.settings import Settings
from services.retriever.ingest import Ingest
from services.retriever.ingest_calls import IngestCalls
from services.retriever.jobs.database import Database
from services.retriever.jobs.fetch import UriIngest
from services.retriever.jobs.jobs import Jobs
from services.retriever.jobs.journal import Journal
from services.retriever.jobs.quarantine import Quarantine
from services.retriever.jobs.twins import Twins
from services.retriever.metrics import RetrieverMetrics
from services.retriever.ports import Embedder, Library, Parsers
from services.retriever.sources.files import FileSource
from services.retriever.sources.http import HttpSource
from services.retriever.sources.s3 import S3Source
from services.retriever.sources.sources import Sources


@asynccontextmanager
async def ingesting(
    settings: Settings,
    parsers: Parsers,
    embedder: Embedder,
    library: Library,
    metrics: RetrieverMetrics,
    now: Now,
    wall_clock_s: Callable[[], float],
) -> AsyncIterator[IngestCalls]:
    """The calls that ingest, with the jobs of an earlier process taken up. Leave it when no call is under way.

    Raises Internal where the journal is of a later version.
    """
    own, folder = settings.retriever, settings.data_dir / "ingest"
    database = Database(folder / "journal.sqlite3")
    http = HttpSource(own.ingest.http, own.max_document_bytes, now)
    try:
        await database.open()
        files = FileSource(own.ingest.roots, own.max_document_bytes)
        s3 = S3Source(own.ingest.s3, own.max_document_bytes)
        sources = Sources({"https": http, "http": http, "s3": s3, "file": files})
        twins = Twins(database, own.ingest.near_duplicate_similarity)
        ingest = Ingest(parsers, embedder, library, twins, metrics, now, wall_clock_s)
        quarantine = Quarantine(
            database,
            folder / "quarantine",
            own.ingest.quarantine_documents,
            own.ingest.quarantine_bytes,
            wall_clock_s,
        )
        await quarantine.start()
        journal, slots = Journal(database), asyncio.Semaphore(own.max_documents_in_flight)
        documents = UriIngest(sources, ingest, journal, quarantine, slots)
        jobs = Jobs(own.ingest, journal, sources, documents, wall_clock_s)
        try:
            await jobs.start()
            yield IngestCalls(own, ingest, documents, jobs, quarantine, journal, twins, slots)
        finally:
            await jobs.close()
    finally:
        await http.close()
        await database.close()
