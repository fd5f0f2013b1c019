"""RetrieverService on the wire: each RPC is passed to the part that does it. What is done there stands elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from services.kit.clock import Now
from services.kit.errors import WeftError
from services.kit.settings.retriever import RetrieverSettings
from services.retriever import convert
from services.retriever.absence import no_document
from services.retriever.index_calls import IndexCalls
from services.retriever.ingest_calls import IngestCalls
from services.retriever.library import IndexLibrary
from services.retriever.search import Search
from services.retriever.together import together
from weft.retriever.v1 import retriever_pb2 as pb
from weft.retriever.v1 import retriever_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class RetrieverServicer(retriever_pb2_grpc.RetrieverServiceServicer):
    """Answers every RPC of the service."""

    def __init__(
        self,
        settings: RetrieverSettings,
        ingest: IngestCalls,
        indexes: IndexCalls,
        search: Search,
        library: IndexLibrary,
        now: Now,
    ) -> None:
        self._settings = settings
        self._ingest = ingest
        self._indexes = indexes
        self._search = search
        self._library = library
        self._now = now

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """One search, under the caller's deadline and the settings' limit."""
        return await self._find(request, context)

    # The stubs' types know only handlers that yield. gRPC takes this form too, and it ends cleanly when cancelled.
    async def StreamSearch(  # type: ignore[override] # it writes to the context
        self, request_iterator: AsyncIterator[pb.StreamSearchRequest], context: Context
    ) -> None:
        """Searches side by side, each answered when it is done."""
        writing, slots = asyncio.Lock(), asyncio.Semaphore(self._settings.max_stream_searches)

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

        await together(all_of_them)

    async def _find(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        started_s = self._now()
        query = convert.to_query(request, self._settings)
        remaining_s = context.time_remaining()
        limit_s = self._settings.search_timeout_s
        found = await self._search.run(query, limit_s if remaining_s is None else min(limit_s, remaining_s))
        return convert.from_found(found, self._now() - started_s)

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Context) -> pb.ListDocumentsResponse:
        """A page of an index's documents."""
        wanted, after, limit = convert.to_document_page(request, self._settings)
        records = await self._library.records(convert.to_index(request.index), wanted, after, limit)
        return pb.ListDocumentsResponse(
            documents=map(convert.from_record, records),
            next_page_token=records[-1].document_id if len(records) == limit else "",
        )

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        """One document's record."""
        index, document_id = convert.to_index(request.index), convert.to_document_id(request.document_id)
        record = await self._library.record(index, document_id)
        if record is None:
            raise no_document(index, document_id)
        return pb.GetDocumentResponse(document=convert.from_record(record))

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> pb.DeleteDocumentResponse:
        """Deletes one document."""
        index, document_id = convert.to_index(request.index), convert.to_document_id(request.document_id)
        name = self._library.entry(index)[0]
        chunks = await self._library.delete_document(name, document_id)
        await self._ingest.forget_document(name, document_id)
        return pb.DeleteDocumentResponse(deleted_chunks=chunks)

    async def CreateIndex(self, request: pb.CreateIndexRequest, context: Context) -> pb.CreateIndexResponse:
        """Creates an empty index."""
        return await self._indexes.create(request)

    async def UpdateIndex(self, request: pb.UpdateIndexRequest, context: Context) -> pb.UpdateIndexResponse:
        """Changes how an index is searched."""
        return await self._indexes.update(request)

    async def ReembedIndex(
        self, request: pb.ReembedIndexRequest, context: Context
    ) -> AsyncIterator[pb.ReembedIndexResponse]:
        """Embeds an index anew; progress until it is done."""
        async with aclosing(self._indexes.reembed(request)) as responses:
            async for response in responses:
                yield response

    async def GetIndex(self, request: pb.GetIndexRequest, context: Context) -> pb.GetIndexResponse:
        """One index's numbers."""
        return await self._indexes.get(request)

    async def ListIndexes(self, request: pb.ListIndexesRequest, context: Context) -> pb.ListIndexesResponse:
        """Every index."""
        return await self._indexes.list()

    async def DeleteIndex(self, request: pb.DeleteIndexRequest, context: Context) -> pb.DeleteIndexResponse:
        """Deletes one index, the jobs that ingest into it, and what they remember."""
        names = self._library.names_of(convert.to_index(request.index))
        await self._ingest.leave_index(names)
        response = await self._indexes.delete(request)
        await self._ingest.forget_index(names)
        return response

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        """Lets another name stand for an index."""
        return await self._indexes.set_alias(request)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.DeleteAliasResponse:
        """Forgets an alias."""
        return await self._indexes.delete_alias(request)

    async def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Context) -> pb.CreateSnapshotResponse:
        """Copies an index to a file."""
        return await self._indexes.create_snapshot(request)

    async def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Context) -> pb.ListSnapshotsResponse:
        """Every snapshot."""
        return await self._indexes.list_snapshots(request)

    async def RestoreSnapshot(self, request: pb.RestoreSnapshotRequest, context: Context) -> pb.RestoreSnapshotResponse:
        """Makes an index from a snapshot."""
        return await self._indexes.restore_snapshot(request)

    async def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, context: Context) -> pb.DeleteSnapshotResponse:
        """Deletes a snapshot."""
        return await self._indexes.delete_snapshot(request)

    async def IngestDocuments(  # type: ignore[override] # as above: it writes to the context
        self, request_iterator: AsyncIterator[pb.IngestDocumentsRequest], context: Context
    ) -> None:
        """Ingests a stream of documents."""
        await self._ingest.IngestDocuments(request_iterator, context)

    async def StartIngest(self, request: pb.StartIngestRequest, context: Context) -> pb.StartIngestResponse:
        """Starts a job that ingests what URIs name."""
        return await self._ingest.StartIngest(request, context)

    async def WatchIngest(
        self, request: pb.WatchIngestRequest, context: Context
    ) -> AsyncIterator[pb.WatchIngestResponse]:
        """A job's progress until it is over."""
        watching: Any = self._ingest.WatchIngest(request, context)
        async with aclosing(watching) as responses:
            async for response in responses:
                yield response

    async def ListIngests(self, request: pb.ListIngestsRequest, context: Context) -> pb.ListIngestsResponse:
        """Every job."""
        return await self._ingest.ListIngests(request, context)

    async def CancelIngest(self, request: pb.CancelIngestRequest, context: Context) -> pb.CancelIngestResponse:
        """Stops a job."""
        return await self._ingest.CancelIngest(request, context)

    async def ListQuarantine(self, request: pb.ListQuarantineRequest, context: Context) -> pb.ListQuarantineResponse:
        """Documents that could not be ingested."""
        return await self._ingest.ListQuarantine(request, context)

    async def RetryQuarantine(  # type: ignore[override] # as above: it writes to the context
        self, request: pb.RetryQuarantineRequest, context: Context
    ) -> None:
        """Tries quarantined documents again."""
        await self._ingest.RetryQuarantine(request, context)

    async def ClearQuarantine(self, request: pb.ClearQuarantineRequest, context: Context) -> pb.ClearQuarantineResponse:
        """Forgets quarantined documents."""
        return await self._ingest.ClearQuarantine(request, context)
