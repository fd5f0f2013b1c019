"""RetrieverService on the wire: streams, deadlines and limits. What is done with documents stands elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from services.kit.clock import Now
from services.kit.errors import NotFound, WeftError
from services.kit.settings.retriever import RetrieverSettings
from services.retriever import convert
from services.retriever.core.naming import document_id_for
from services.retriever.document import Document, IndexInfo, Outcome
from services.retriever.ingest import Ingest, Ingested
from services.retriever.ports import Store
from services.retriever.search import Search
from weft.retriever.v1 import retriever_pb2 as pb
from weft.retriever.v1 import retriever_pb2_grpc

_SEARCHES_PER_STREAM = 64
# Answers of one ingest stream that may wait for the client to read them; beyond it, no more documents are taken.
_UNREAD_PER_STREAM = 256

Context = grpc.aio.ServicerContext[Any, Any]


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    """Answers every RPC of the service."""

    def __init__(self, settings: RetrieverSettings, ingest: Ingest, search: Search, store: Store, now: Now) -> None:
        self._settings = settings
        self._ingest = ingest
        self._search = search
        self._store = store
        self._now = now
        # Bounds the documents in memory over all streams; beyond it, flow control holds the clients.
        self._slots = asyncio.Semaphore(settings.max_documents_in_flight)

    # The stubs' types know only handlers that yield. gRPC takes this form too, and it ends cleanly when cancelled.
    async def IngestDocuments(  # type: ignore[override] # it writes to the context
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

        await _together(all_of_them)

    async def _one(self, position: int, index: str, message: pb.Document, document: Any) -> pb.IngestDocumentsResponse:
        if isinstance(document, Document):
            found = await self._ingest.run(index, document)
            return convert.from_ingested(position, message, document.document_id, found)
        document_id = message.document_id or (document_id_for(message.source) if message.source else "")
        return convert.from_ingested(position, message, document_id, Ingested(Outcome.FAILED, failure=document))

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """One search, under the caller's deadline and the settings' limit."""
        return await self._find(request, context)

    # As above: a handler that writes.
    async def StreamSearch(  # type: ignore[override] # it writes to the context
        self, request_iterator: AsyncIterator[pb.StreamSearchRequest], context: Context
    ) -> None:
        """Searches side by side, each answered when it is done."""
        writing, slots = asyncio.Lock(), asyncio.Semaphore(_SEARCHES_PER_STREAM)

        async def one(request: pb.StreamSearchRequest) -> None:
            response = pb.StreamSearchResponse(number=request.number)
            try:
                response.found.CopyFrom(await self._find(request.search, context))
            except WeftError as error:
                response.failure.CopyFrom(convert.from_search_error(error))
            async with writing:
                await context.write(response)
            slots.release()

        async def all_of_them(group: asyncio.TaskGroup) -> None:
            async for request in request_iterator:
                await slots.acquire()
                group.create_task(one(request))

        await _together(all_of_them)

    async def _find(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        started_s = self._now()
        query = convert.to_query(request, self._settings)
        remaining_s = context.time_remaining()
        limit_s = self._settings.search_timeout_s
        passages = await self._search.run(query, limit_s if remaining_s is None else min(limit_s, remaining_s))
        return convert.from_passages(passages, self._now() - started_s)

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        """One document's record."""
        index, document_id = convert.to_index(request.index), convert.to_document_id(request.document_id)
        record = await self._store.record(index, document_id)
        if record is None:
            raise NotFound(
                f"there is no document {document_id} in the index {index}",
                reason="DOCUMENT_NOT_FOUND",
                field="document_id",
            )
        return pb.GetDocumentResponse(document=convert.from_record(record))

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> pb.DeleteDocumentResponse:
        """Deletes one document."""
        index, document_id = convert.to_index(request.index), convert.to_document_id(request.document_id)
        return pb.DeleteDocumentResponse(deleted_chunks=await self._store.delete_document(index, document_id))

    async def GetIndex(self, request: pb.GetIndexRequest, context: Context) -> pb.GetIndexResponse:
        """One index's numbers."""
        return pb.GetIndexResponse(index=convert.from_index(await self._index(convert.to_index(request.index))))

    async def ListIndexes(self, request: pb.ListIndexesRequest, context: Context) -> pb.ListIndexesResponse:
        """Every index."""
        return pb.ListIndexesResponse(indexes=map(convert.from_index, await self._store.indexes()))

    async def DeleteIndex(self, request: pb.DeleteIndexRequest, context: Context) -> pb.DeleteIndexResponse:
        """Deletes one index."""
        documents = await self._store.delete_index(convert.to_index(request.index))
        return pb.DeleteIndexResponse(deleted_documents=documents)

    async def _index(self, name: str) -> IndexInfo:
        for info in await self._store.indexes():
            if info.name == name:
                return info
        raise NotFound(
            f"there is no index {name}; ingest a document to make it", reason="INDEX_NOT_FOUND", field="index"
        )


async def _together(work: Any) -> None:
    """Runs `work` with a task group. The first failure cancels the rest and is raised by itself, without its group."""
    try:
        async with asyncio.TaskGroup() as group:
            await work(group)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
