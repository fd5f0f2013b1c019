"""Every index of a data folder, and what is done for each operation. Runs in the store's process."""

import shutil
import sys
from pathlib import Path
from typing import Any

from services.retriever.document import EmbeddingModel
from services.retriever.stores.operations import (
    Abandon,
    Add,
    Commit,
    DeleteDocument,
    DeleteIndex,
    FindRecord,
    Flush,
    ListIndexes,
    Operation,
    Search,
)
from services.retriever.stores.refusal import INTERNAL, NOT_FOUND, RESOURCE_EXHAUSTED, Refusal
from services.retriever.stores.shard import Bm25Settings, SearchSettings, Shard


class Catalog:
    """Opens every index at once; `close` closes them. One that cannot be opened answers why, and can be deleted."""

    def __init__(
        self, folder: Path, bm25: Bm25Settings, search: SearchSettings, max_indexes: int, hnsw_min_chunks: int
    ) -> None:
        self._folder = folder
        self._bm25 = bm25
        self._search = search
        self._max_indexes = max_indexes
        self._hnsw_min_chunks = hnsw_min_chunks
        self._shards: dict[str, Shard] = {}
        self._broken: dict[str, str] = {}
        self._written: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for path in folder.iterdir() if path.is_dir()):
            if path.name.startswith("."):
                # What a crash left of an index that was being made or deleted.
                shutil.rmtree(path)
            else:
                self._open(path)

    def do(self, operation: Operation) -> Any:
        """The operation's answer. Raises Refusal."""
        match operation:
            case Search(query, vector, fingerprint):
                return self._shard(query.index).search(query, vector, fingerprint, self._search)
            case FindRecord(index, document_id):
                return self._shard(index).record(document_id)
            case Add(index, model, record, chunks):
                return self._shard_for(index, model).add(record, chunks)
            case Commit(index, model, record, chunks):
                return self._shard_for(index, model).commit(record, chunks)
            case Abandon(index, document_id):
                return self._shard(index).abandon(document_id)
            case DeleteDocument(index, document_id):
                self._written.add(index)
                return self._shard(index).delete(document_id)
            case DeleteIndex(index):
                return self._delete(index)
            case ListIndexes():
                return [self._shards[name].info for name in sorted(self._shards)]
            case Flush():
                return self._flush()

    def close(self) -> None:
        """Flushes and closes every index."""
        for shard in self._shards.values():
            shard.close()

    def _open(self, path: Path) -> None:
        try:
            self._shards[path.name] = Shard(path, self._hnsw_min_chunks)
        except Exception as error:
            # One damaged index must not take the others along.
            self._broken[path.name] = str(error)
            print(f"index {path.name} cannot be opened: {error}", file=sys.stderr)  # noqa: T201 - the process's log

    def _shard(self, name: str) -> Shard:
        if shard := self._shards.get(name):
            return shard
        if name in self._broken:
            raise Refusal(
                INTERNAL,
                "INDEX_DAMAGED",
                f"the index {name} cannot be opened ({self._broken[name]}); delete it and ingest its documents anew",
                "index",
            )
        raise Refusal(NOT_FOUND, "INDEX_NOT_FOUND", f"there is no index {name}; ingest a document to make it", "index")

    def _shard_for(self, name: str, model: EmbeddingModel) -> Shard:
        """The index to write to, made if need be."""
        self._written.add(name)
        if name in self._shards or name in self._broken:
            shard = self._shard(name)
            shard.check_model(model.fingerprint)
            return shard
        if len(self._shards) + len(self._broken) >= self._max_indexes:
            raise Refusal(
                RESOURCE_EXHAUSTED,
                "TOO_MANY_INDEXES",
                f"there are {self._max_indexes} indexes already, which is the limit; delete one, or raise max_indexes",
                "index",
            )
        self._shards[name] = Shard.create(self._folder / name, model, self._bm25, self._hnsw_min_chunks)
        return self._shards[name]

    def _delete(self, name: str) -> int:
        documents = 0 if name in self._broken else self._shard(name).info.documents
        if shard := self._shards.pop(name, None):
            shard.close()
        self._broken.pop(name, None)
        doomed = self._folder / f".deleted-{name}"
        (self._folder / name).rename(doomed)
        shutil.rmtree(doomed)
        return documents

    def _flush(self) -> None:
        for name in self._written & self._shards.keys():
            self._shards[name].flush()
        self._written.clear()
