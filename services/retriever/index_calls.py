"""The RPCs on indexes, aliases and snapshots, without their contexts. What is done stands elsewhere."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.kit.errors import InvalidArgument
from services.kit.settings.retriever import RetrieverSettings
from services.retriever import index_convert
from services.retriever.convert import to_index
from services.retriever.library import IndexLibrary
from services.retriever.ports import Embedder
from services.retriever.reembed import Reembedding
from services.retriever.snapshots import Snapshots
from weft.retriever.v1 import retriever_pb2 as pb


class IndexCalls:
    """Answers them."""

    def __init__(
        self, settings: RetrieverSettings, library: IndexLibrary, snapshots: Snapshots, embedder: Embedder
    ) -> None:
        self._settings = settings
        self._library = library
        self._snapshots = snapshots
        self._embedder = embedder

    async def create(self, request: pb.CreateIndexRequest) -> pb.CreateIndexResponse:
        """Creates an empty index."""
        name = to_index(_named(request.index))
        await self._library.create(name, index_convert.to_options(request.settings, self._settings))
        return pb.CreateIndexResponse(index=await self._index(name))

    async def update(self, request: pb.UpdateIndexRequest) -> pb.UpdateIndexResponse:
        """Changes how an index is searched."""
        name = to_index(request.index)
        old = self._library.entry(name)[1].options
        options = index_convert.to_changed_options(request.settings, old, self._settings)
        await self._library.update(name, options)
        return pb.UpdateIndexResponse(index=await self._index(name))

    async def reembed(self, request: pb.ReembedIndexRequest) -> AsyncGenerator[pb.ReembedIndexResponse, None]:
        """Progress; the last message has the index."""
        name, changes = to_index(request.index), index_convert.to_rebuilding(request.settings)
        last = pb.ReembedIndexResponse()
        async with aclosing(Reembedding(self._library, self._embedder, name, changes).run()) as run:
            async for progress in run:
                last = index_convert.from_progress(progress)
                yield last
        last.index.CopyFrom(await self._index(name))
        yield last

    async def get(self, request: pb.GetIndexRequest) -> pb.GetIndexResponse:
        """One index's numbers."""
        return pb.GetIndexResponse(index=await self._index(to_index(request.index)))

    async def list(self) -> pb.ListIndexesResponse:
        """Every index."""
        return pb.ListIndexesResponse(indexes=map(index_convert.from_index, await self._library.indexes()))

    async def delete(self, request: pb.DeleteIndexRequest) -> pb.DeleteIndexResponse:
        """Deletes one index."""
        return pb.DeleteIndexResponse(deleted_documents=await self._library.delete_index(to_index(request.index)))

    async def set_alias(self, request: pb.SetAliasRequest) -> pb.SetAliasResponse:
        """Lets another name stand for an index."""
        alias = to_index(_named(request.alias, "alias"), "alias")
        return pb.SetAliasResponse(previous_index=await self._library.set_alias(alias, to_index(request.index)))

    async def delete_alias(self, request: pb.DeleteAliasRequest) -> pb.DeleteAliasResponse:
        """Forgets an alias."""
        await self._library.delete_alias(to_index(_named(request.alias, "alias"), "alias"))
        return pb.DeleteAliasResponse()

    async def create_snapshot(self, request: pb.CreateSnapshotRequest) -> pb.CreateSnapshotResponse:
        """Copies an index to a file."""
        snapshot = await self._snapshots.create(to_index(request.index))
        return pb.CreateSnapshotResponse(snapshot=index_convert.from_snapshot(snapshot))

    async def list_snapshots(self, request: pb.ListSnapshotsRequest) -> pb.ListSnapshotsResponse:
        """Every snapshot."""
        found = await self._snapshots.list(to_index(request.index) if request.index else "")
        return pb.ListSnapshotsResponse(snapshots=map(index_convert.from_snapshot, found))

    async def restore_snapshot(self, request: pb.RestoreSnapshotRequest) -> pb.RestoreSnapshotResponse:
        """Makes an index from a snapshot."""
        wanted = to_index(request.index) if request.index else ""
        name = await self._snapshots.restore(request.name, wanted, replace=request.replace)
        return pb.RestoreSnapshotResponse(index=await self._index(name))

    async def delete_snapshot(self, request: pb.DeleteSnapshotRequest) -> pb.DeleteSnapshotResponse:
        """Deletes a snapshot."""
        await self._snapshots.delete(request.name)
        return pb.DeleteSnapshotResponse()

    async def _index(self, name: str) -> pb.Index:
        return index_convert.from_index(await self._library.info(name))


def _named(name: str, field: str = "index") -> str:
    """A name that must be given. Raises InvalidArgument."""
    if not name:
        raise InvalidArgument(f"{field} is empty; say which", reason="INVALID_INDEX", field=field)
    return name
