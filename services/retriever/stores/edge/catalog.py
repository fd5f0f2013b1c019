"""Every collection of a data folder, and what is done for each operation. Runs in the store's process."""

import shutil
import sys
from pathlib import Path
from typing import Any

from services.retriever.document import Spec
from services.retriever.stores.edge.operations import (
    Abandon,
    Add,
    BeginGraph,
    Commit,
    Create,
    Delete,
    Drop,
    DueGraph,
    EndGraph,
    FindRecord,
    Flush,
    FollowGraph,
    ListCollections,
    ListRecords,
    Operation,
    ReadChunks,
    Search,
)
from services.retriever.stores.edge.packing import packed
from services.retriever.stores.edge.refusal import INTERNAL, NOT_FOUND, Refusal
from services.retriever.stores.edge.shard import Shard
from services.retriever.stores.edge.start import StoreStart
from services.retriever.stores.words import Bm25Settings


class Catalog:
    """Opens every collection at once; `close` closes them. One that cannot be opened says why, and can be deleted."""

    def __init__(self, start: StoreStart) -> None:
        self._start = start
        self._folder = Path(start.folder)
        self._shards: dict[str, Shard] = {}
        self._broken: dict[str, str] = {}
        self._written: set[str] = set()
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            if path.name.startswith("."):
                # What a crash left of a collection that was being made or deleted.
                shutil.rmtree(path)
            else:
                self._open(path)

    def do(self, operation: Operation) -> Any:
        """The operation's answer. Raises Refusal."""
        match operation:
            case Search(collection, probe):
                return packed(self._shard(collection).search(probe))
            case FindRecord(collection, document_id):
                return self._shard(collection).record(document_id)
            case ListRecords(collection, wanted, after, limit):
                return self._shard(collection).records(wanted, after, limit)
            case ReadChunks(collection, document_id, after, limit):
                return self._shard(collection).chunks(document_id, after, limit)
            case Add() | Commit() | Abandon() | Delete():
                self._written.add(operation.collection)
                return self._write(self._shard(operation.collection), operation)
            case Create(collection, spec):
                return self._create(collection, spec)
            case Drop(collection):
                return self._drop(collection)
            case ListCollections():
                return {name: shard.counts for name, shard in self._shards.items()}
            case Flush():
                return self._flush()
            case DueGraph():
                return next((name for name, shard in self._shards.items() if shard.wants_graph), "")
            case BeginGraph(collection):
                return self._shard(collection).begin_graph()
            case FollowGraph(collection):
                return self._shard(collection).follow_graph()
            case EndGraph(collection):
                return self._shards[collection].end_graph() if collection in self._shards else None

    def close(self) -> None:
        """Flushes and closes every collection."""
        for shard in self._shards.values():
            shard.close()

    def _write(self, shard: Shard, operation: Add | Commit | Abandon | Delete) -> Any:
        match operation:
            case Add(_, record, chunks):
                return shard.add(record, chunks)
            case Commit(_, record, chunks):
                return shard.commit(record, chunks)
            case Abandon(_, document_id):
                return shard.abandon(document_id)
            case Delete(_, document_id):
                return shard.delete(document_id)

    def _open(self, path: Path) -> None:
        try:
            self._shards[path.name] = Shard(path, self._start.hnsw_min_chunks)
        except Exception as error:
            # One damaged collection must not take the others along.
            self._broken[path.name] = str(error)
            print(f"index {path.name} cannot be opened: {error}", file=sys.stderr)  # noqa: T201 - the process's log

    def _shard(self, name: str) -> Shard:
        if shard := self._shards.get(name):
            return shard
        if name in self._broken:
            raise Refusal(
                INTERNAL,
                "INDEX_DAMAGED",
                f"the index cannot be opened ({self._broken[name]}); delete it and ingest its documents anew",
                "index",
            )
        raise Refusal(NOT_FOUND, "COLLECTION_GONE", f"there is no collection {name}")

    def _create(self, name: str, spec: Spec) -> None:
        bm25 = Bm25Settings(spec.bm25_language, self._start.bm25_k, self._start.bm25_b, self._start.bm25_average_words)
        self._shards[name] = Shard.create(self._folder / name, spec, bm25, self._start.hnsw_min_chunks)

    def _drop(self, name: str) -> None:
        if shard := self._shards.pop(name, None):
            shard.close()
        self._broken.pop(name, None)
        if (self._folder / name).exists():
            doomed = self._folder / f".deleted-{name}"
            (self._folder / name).rename(doomed)
            shutil.rmtree(doomed)

    def _flush(self) -> None:
        for name in self._written & self._shards.keys():
            self._shards[name].flush()
        self._written.clear()
