"""What an index already holds of some files, so that they need not be sent again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from services.cli.documents import is_sendable
from services.cli.target import CALL_TIMEOUT_S
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

# Sources of one call's filter; the retriever allows more, and a message stays small with these.
_SOURCES = 200
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Indexed:
    """A document as it is in the index."""

    content_hash: str
    chunks: int


async def indexed(channel: grpc.aio.Channel, index: str, files: Sequence[Path]) -> Mapping[str, Indexed]:
    """Those of the files that are in the index, by source; none where there is no such index."""
    stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
    found: dict[str, Indexed] = {}
    sources = [str(path) for path in files if is_sendable(path)]
    for at in range(0, len(sources), _SOURCES):
        condition = retriever_pb2.Condition(key="$source", values=sources[at : at + _SOURCES])
        request = retriever_pb2.ListDocumentsRequest(
            index=index, page_size=_PAGE, filter=retriever_pb2.Filter(conditions=[condition])
        )
        while True:
            try:
                answer = await stub.ListDocuments(request, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    return {}
                raise
            found.update((one.source, Indexed(one.content_hash, one.chunks)) for one in answer.documents)
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    return found
