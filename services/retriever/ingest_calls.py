"""The RPCs that ingest: streams of documents, jobs and the quarantine. What is done with documents stands elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc.aio
import structlog

from services.kit.errors import Exhausted, Unavailable, WeftError
from services.kit.settings.retriever import RetrieverSettings
from services.retriever import convert, ingest_convert
from services.retriever.core.naming import document_id_for, is_document_id
from services.retriever.document import Document, Outcome
from services.retriever.failure import FailureCode, IngestFailure, unreadable
from services.retriever.ingest import Ingest, Ingested, failure_of
from services.retriever.jobs.fetch import Loaded, UriIngest, failed
from services.retriever.jobs.job import Quarantined, Said
from services.retriever.jobs.jobs import Jobs
from services.retriever.jobs.journal import Journal
from services.retriever.jobs.quarantine import Quarantine
from services.retriever.jobs.twins import Twins
from services.retriever.sources.source import SourceAway
from services.retriever.together import together
from weft.retriever.v1 import retriever_pb2 as pb

# Answers of one stream that may wait for the client to read them; beyond it, no more documents are taken.
_UNREAD_PER_STREAM = 256
_ENTRIES = 100

Context = grpc.aio.ServicerContext[Any, Any]


class IngestCalls:
    """`slots` bounds the documents in memory over all calls; beyond it, flow control holds the clients."""

    def __init__(
        self,
        settings: RetrieverSettings,
        ingest: Ingest,
        documents: UriIngest,
        jobs: Jobs,
        quarantine: Quarantine,
        journal: Journal,
        twins: Twins,
        slots: asyncio.Semaphore,
    ) -> None:
        self._settings = settings
        self._ingest = ingest
        self._documents = documents
        self._jobs = jobs
        self._quarantine = quarantine
        self._journal = journal
        self._twins = twins
        self._slots = slots
        self._log = structlog.get_logger("ingest")

    def __repr__(self) -> str:
        return f"IngestCalls({self._jobs!r} {self._quarantine!r})"

    async def leave_index(self, names: Collection[str]) -> None:
        """Stops the jobs that ingest into an index, by any of its names; call it before the index is deleted."""
        await self._jobs.cancel_all(names)

    async def forget_index(self, names: Collection[str]) -> None:
        """Drops all that is kept of an index's documents, its quarantine too; call it when the index was deleted."""
        for name in names:
            await self._journal.forget(name)
            await self._twins.forget_index(name)
            await self._quarantine.clear(name, ())

    async def forget_document(self, index: str, document_id: str) -> None:
        """Drops what finds near duplicates of it; call it when the document was deleted."""
        await self._twins.forget(index, document_id)

    # This handler and RetryQuarantine write to the context: unlike those that yield, they end cleanly when cancelled.
    async def IngestDocuments(
        self, request_iterator: AsyncIterator[pb.IngestDocumentsRequest], context: Context
    ) -> None:
        """Takes documents as there is room for them, and answers each when it is done."""
        writing, unread = asyncio.Lock(), asyncio.Semaphore(_UNREAD_PER_STREAM)

        async def answer(ingesting: asyncio.Task[pb.IngestDocumentsResponse]) -> None:
            response = await ingesting
            async with writing:
                await context.write(response)

        async def all_of_them(group: asyncio.TaskGroup) -> None:
            position = 0
            async for request in request_iterator:
                index = convert.to_index(request.index)
                document = convert.to_document(request.document, self._settings)
                await unread.acquire()
                await self._slots.acquire()
                ingesting = group.create_task(self._one(position, index, request.document, document))
                # A task that is cancelled before its first step runs no `finally`; this runs whatever becomes of it.
                # The slot is free before the answer is written, so a client that reads slowly holds up nobody else.
                ingesting.add_done_callback(lambda _: self._slots.release())
                group.create_task(answer(ingesting)).add_done_callback(lambda _: unread.release())
                position += 1

        await together(all_of_them)

    async def _one(
        self, position: int, index: str, message: pb.Document, document: Document | IngestFailure
    ) -> pb.IngestDocumentsResponse:
        if isinstance(document, Document):
            document_id = document.document_id
            found = await self._stored(index, document)
            await self._settle(index, document, found)
        else:
            document_id = message.document_id or (document_id_for(message.source) if message.source else "")
            found = Ingested(Outcome.FAILED, failure=document)
            if is_document_id(document_id):
                # It may be the source itself that is too long.
                shown = message.source[: convert.MAX_SOURCE_CHARS]
                await self._quarantine.keep(index, document_id, shown, document, Said())
        return ingest_convert.from_ingested(position, message.source, document_id, found)

    async def _stored(self, index: str, document: Document) -> Ingested:
        try:
            return await self._ingest.run(index, document)
        except Exhausted as error:
            return Ingested(Outcome.FAILED, failure=failure_of(error))
        except WeftError:
            raise
        except Exception as error:
            # A fault of Weft's own that one document brings out must not end the stream for the others.
            self._log.exception("a document failed", index=index, document_id=document.document_id)
            why = f"{document.document_id} failed: {type(error).__name__}; the retriever's log says more"
            return Ingested(Outcome.FAILED, failure=IngestFailure(FailureCode.INTERNAL, "INGEST_FAILED", why))

    async def _settle(self, index: str, document: Document, found: Ingested) -> None:
        if found.failure is None:
            await self._quarantine.release(index, document.document_id)
            return
        said = ingest_convert.said_of(document)
        name, content = document.source, document.content
        await self._quarantine.keep(index, document.document_id, name, found.failure, said, content=content)

    async def StartIngest(self, request: pb.StartIngestRequest, context: Context) -> pb.StartIngestResponse:
        """Journals a job and starts it."""
        index, uris = convert.to_index(request.index), ingest_convert.to_uris(request)
        job = await self._jobs.begin(index, uris, dict(request.metadata))
        return pb.StartIngestResponse(job=ingest_convert.from_job(job))

    async def WatchIngest(
        self, request: pb.WatchIngestRequest, context: Context
    ) -> AsyncIterator[pb.WatchIngestResponse]:
        """A job's progress until it is over."""
        async for job in self._jobs.watch(request.job_id):
            yield pb.WatchIngestResponse(job=ingest_convert.from_job(job))

    async def ListIngests(self, request: pb.ListIngestsRequest, context: Context) -> pb.ListIngestsResponse:
        """Every job that is kept."""
        return pb.ListIngestsResponse(jobs=map(ingest_convert.from_job, await self._jobs.jobs()))

    async def CancelIngest(self, request: pb.CancelIngestRequest, context: Context) -> pb.CancelIngestResponse:
        """Stops a job."""
        return pb.CancelIngestResponse(job=ingest_convert.from_job(await self._jobs.cancel(request.job_id)))

    async def ListQuarantine(self, request: pb.ListQuarantineRequest, context: Context) -> pb.ListQuarantineResponse:
        """A page of the quarantine."""
        count, before = ingest_convert.to_page(request)
        index = convert.to_index(request.index) if request.index else ""
        found = await self._quarantine.page(index, count, before)
        response = pb.ListQuarantineResponse(documents=map(ingest_convert.from_quarantined, found))
        if len(found) == count:
            response.next_page_token = str(found[-1].number)
        return response

    async def RetryQuarantine(self, request: pb.RetryQuarantineRequest, context: Context) -> None:
        """Tries quarantined documents again, a few at a time, and answers each when it is done."""
        index, ids = ingest_convert.to_chosen(request)
        writing, free = asyncio.Lock(), asyncio.Semaphore(self._settings.max_documents_in_flight)

        async def one(position: int, entry: Quarantined) -> None:
            found = await self._again(entry)
            response = ingest_convert.from_ingested(position, entry.source, entry.document_id, found)
            async with writing:
                await context.write(pb.RetryQuarantineResponse(result=response))

        async def all_of_them(group: asyncio.TaskGroup) -> None:
            position, before = 0, 0
            while entries := await self._quarantine.page(index, _ENTRIES, before, ids):
                # Those that fail again come to stand before these, and are not met a second time.
                before = entries[-1].number
                for entry in entries:
                    await free.acquire()
                    group.create_task(one(position, entry)).add_done_callback(lambda _: free.release())
                    position += 1

        await together(all_of_them)

    async def _again(self, entry: Quarantined) -> Ingested:
        if entry.uri:
            found = await self._fetched_again(entry)
            await self._documents.settle(entry.index, entry.uri, entry.said, found)
            return found
        content = await self._quarantine.content(entry) if entry.file else None
        if content is None:
            why = f"{entry.source or entry.document_id} is not kept any more; send it again"
            return Ingested(Outcome.FAILED, failure=unreadable("NOT_KEPT", f"{why}: {entry.failure.message}"))
        said = entry.said
        document = Document(
            document_id=entry.document_id,
            source=entry.source,
            title=said.title,
            media_type=said.media_type,
            content=content,
            metadata=dict(said.metadata or {}),
            language=said.language,
            licence=said.licence,
        )
        async with self._slots:
            found = await self._stored(entry.index, document)
        await self._settle(entry.index, document, found)
        return found

    async def _fetched_again(self, entry: Quarantined) -> Ingested:
        try:
            loaded = await self._documents.load(entry.index, entry.uri, entry.said)
            return await self._documents.store(entry.index, loaded) if isinstance(loaded, Loaded) else loaded
        except (IngestFailure, SourceAway) as error:
            return failed(error)
        except Unavailable:
            raise
        except WeftError as error:
            return failed(failure_of(error))

    async def ClearQuarantine(self, request: pb.ClearQuarantineRequest, context: Context) -> pb.ClearQuarantineResponse:
        """Forgets quarantined documents."""
        return pb.ClearQuarantineResponse(cleared=await self._quarantine.clear(*ingest_convert.to_chosen(request)))
