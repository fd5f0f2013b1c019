"""A retriever on a real socket that finds what it is told to find."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from google.rpc import code_pb2

from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc


class FakeRetriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Answers every search of the index `docs` with `passages`; other indexes do not exist."""

    def __init__(self, *passages: retriever_pb2.Passage) -> None:
        self.passages = passages
        self.searches: list[retriever_pb2.SearchRequest] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.address = ""

    async def StreamSearch(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """See retriever.proto."""
        async for request in request_iterator:
            self.searches.append(request.search)
            await self.hold.wait()
            if request.search.index != "docs":
                text = f"there is no index {request.search.index!r}"
                failure = retriever_pb2.SearchFailure(code=code_pb2.NOT_FOUND, reason="UNKNOWN_INDEX", message=text)
                yield retriever_pb2.StreamSearchResponse(number=request.number, failure=failure)
            else:
                found = retriever_pb2.SearchResponse(passages=self.passages)
                yield retriever_pb2.StreamSearchResponse(number=request.number, found=found)


@asynccontextmanager
async def listening(retriever: FakeRetriever) -> AsyncIterator[FakeRetriever]:
    """Serves the retriever on loopback; `address` says where."""
    server = grpc.aio.server()
    retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(retriever, server)
    retriever.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield retriever
    finally:
        await server.stop(0)
