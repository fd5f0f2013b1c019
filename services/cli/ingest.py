"""Sends documents to the retriever over one stream, a few at a time, and collects how each fared."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import grpc.aio

from services.cli.convert import Ingested, to_ingested
from services.cli.documents import is_sendable
from services.cli.indexed import Indexed
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

MAX_IN_FLIGHT = 8


class Ingest:
    """One ingest of many files. `done` is called once for every file, in the order in which they are done.

    What is `known` to be in the index with the same content is not sent.
    """

    def __init__(
        self,
        files: Sequence[Path],
        index: str,
        max_document_bytes: int,
        done: Callable[[Ingested], None],
        known: Mapping[str, Indexed],
    ) -> None:
        self._files = files
        self._index = index
        self._max_document_bytes = max_document_bytes
        self._done = done
        self._known = known
        self._free = asyncio.Semaphore(MAX_IN_FLIGHT)

    def __repr__(self) -> str:
        return f"Ingest({len(self._files)} files into {self._index or 'default'})"

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Sends all; a file that cannot be read stops nothing else. AioRpcError where the stream breaks."""
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        call = stub.IngestDocuments(self._requests())
        async for message in call:
            answer = to_ingested(message)
            self._free.release()
            self._done(answer)

    async def _requests(self) -> AsyncIterator[retriever_pb2.IngestDocumentsRequest]:
        for position, path in enumerate(self._files):
            if not is_sendable(path):
                name = str(path).encode(errors="backslashreplace").decode()
                self._done(Ingested(position, name, "failed", 0, "its name is not UTF-8; rename it"))
                continue
            await self._free.acquire()
            try:
                content = await asyncio.to_thread(self._read, path)
            except OSError as error:
                self._free.release()
                self._done(Ingested(position, str(path), "failed", 0, f"cannot be read: {error.strerror or error}"))
                continue
            known = self._known.get(str(path))
            if known and known.content_hash == await asyncio.to_thread(_hash_of, content):
                self._free.release()
                self._done(Ingested(position, str(path), "unchanged", known.chunks, ""))
                continue
            document = retriever_pb2.Document(source=str(path), content=content)
            yield retriever_pb2.IngestDocumentsRequest(index=self._index, document=document)

    def _read(self, path: Path) -> bytes:
        """The file's bytes. OSError where it cannot be read or is over the limit."""
        size = path.stat().st_size
        if size > self._max_document_bytes:
            raise OSError(
                f"it has {size} bytes, and {self._max_document_bytes} are allowed (retriever.max_document_bytes)"
            )
        return path.read_bytes()


def _hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
