"""Copies of indexes as files that any store can read back: made, listed, restored, deleted."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.kit.errors import DataLoss, Exhausted, Internal, InvalidArgument, NotFound
from services.retriever.absence import already_there
from services.retriever.core.naming import is_index_name
from services.retriever.document import Filter
from services.retriever.library import IndexLibrary
from services.retriever.shelf import Entry
from services.retriever.snapshot_file import SnapshotReader, SnapshotWriter
from services.retriever.stores.state_file import StateFile

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,127}")
_PAGE_DOCUMENTS = 200
_PAGE_CHUNKS = 256
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of one; `sha256` in hex is that of its file."""

    name: str
    index: str
    created_at_s: float
    size_bytes: int
    sha256: str
    documents: int
    chunks: int


class Snapshots:
    """Keeps them in one folder: for each a file, and beside it what is known of it, which is written last."""

    def __init__(
        self,
        folder: Path,
        library: IndexLibrary,
        limit: int,
        wall_clock_s: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._folder = folder
        self._library = library
        self._limit = limit
        self._wall_clock_s = wall_clock_s
        self._new_id = new_id
        self._making = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Snapshots({self._folder})"

    async def start(self) -> None:
        """Removes what a process that was killed left half written."""
        await asyncio.to_thread(self._tidy_up)

    async def create(self, index: str) -> Snapshot:
        """Copies an index as it is now; writers wait meanwhile. Raises NotFound, Exhausted."""
        name, _ = self._library.entry(index)
        async with self._making:
            if len(await self.list("")) >= self._limit:
                raise Exhausted(
                    f"there are {self._limit} snapshots already, which is the limit; delete one, or raise "
                    "max_snapshots",
                    reason="TOO_MANY_SNAPSHOTS",
                )
            async with self._library.alone(name):
                return await self._write(name)

    async def list(self, index: str) -> "list[Snapshot]":
        """Newest first; only those of an index where it is named."""
        found = [snapshot for snapshot in await asyncio.to_thread(self._known) if index in ("", snapshot.index)]
        return sorted(found, key=lambda snapshot: (-snapshot.created_at_s, snapshot.name))

    async def restore(self, name: str, index: str, *, replace: bool) -> str:
        """Makes an index of a snapshot; its name. Raises NotFound, AlreadyExists, DataLoss."""
        snapshot = await self._snapshot(name)
        target = index or snapshot.index
        if not replace and self._library.has(target):
            raise already_there(target)
        path = self._path(name)
        if await asyncio.to_thread(_sha256, path) != snapshot.sha256:
            raise DataLoss(
                f"the snapshot {name} is damaged: its SHA-256 is not what it was; restore another",
                reason="SNAPSHOT_DAMAGED",
                field="name",
            )
        entry = await self._read(path)
        try:
            async with self._library.alone(target):
                await self._library.put(target, entry, replace=replace)
        except BaseException:
            await asyncio.shield(self._library.discard(entry.collection))
            raise
        return target

    async def delete(self, name: str) -> None:
        """Deletes one. Raises NotFound."""
        await self._snapshot(name)
        # What is known of it goes first: a file without it is none.
        await asyncio.to_thread(self._facts(name).unlink)
        await asyncio.to_thread(self._path(name).unlink, missing_ok=True)

    async def _write(self, index: str) -> Snapshot:
        entry = self._library.entry(index)[1]
        created_at_s = self._wall_clock_s()
        at = datetime.fromtimestamp(created_at_s, UTC).strftime("%Y%m%d-%H%M%S")
        name = f"{index}-{at}-{self._new_id()[:6]}"
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        writer = await asyncio.to_thread(SnapshotWriter, self._path(name), index, entry)
        try:
            after = ""
            while page := await self._library.records(index, Filter(), after, _PAGE_DOCUMENTS):
                for record in page:
                    await asyncio.to_thread(writer.record, record)
                    last = ""
                    for _ in range(0, record.chunks, _PAGE_CHUNKS):
                        store = self._library.store
                        chunks = await store.chunks(entry.collection, record.document_id, last, _PAGE_CHUNKS)
                        await asyncio.to_thread(writer.chunks, chunks)
                        last = chunks[-1].chunk.chunk_id if chunks else last
                after = page[-1].document_id
            sha256, size_bytes = await asyncio.to_thread(writer.finish)
        except BaseException:
            await asyncio.to_thread(writer.abandon)
            raise
        snapshot = Snapshot(name, index, created_at_s, size_bytes, sha256, writer.documents, writer.chunk_count)
        await asyncio.to_thread(StateFile(self._facts(name)).save, json.dumps(asdict(snapshot)).encode())
        return snapshot

    async def _read(self, path: Path) -> Entry:
        reader = await asyncio.to_thread(SnapshotReader, path)
        try:
            collection = await self._library.collect(reader.spec)
            try:
                while (part := await asyncio.to_thread(reader.next)) is not None:
                    record, chunks, is_last = part
                    if is_last:
                        await self._library.store.commit(collection, record, chunks)
                    else:
                        await self._library.store.add(collection, record, chunks)
            except BaseException:
                await asyncio.shield(self._library.discard(collection))
                raise
        finally:
            reader.close()
        return Entry(collection, reader.spec, reader.options)

    async def _snapshot(self, name: str) -> Snapshot:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"a snapshot's name has 1 to 128 lower-case letters, digits, _ and -; {name[:80]!r} does not",
                reason="INVALID_SNAPSHOT",
                field="name",
            )
        for snapshot in await asyncio.to_thread(self._known):
            if snapshot.name == name:
                return snapshot
        raise NotFound(f"there is no snapshot {name}", reason="SNAPSHOT_NOT_FOUND", field="name")

    def _known(self) -> tuple[Snapshot, ...]:
        if not self._folder.is_dir():
            return ()
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                snapshot = Snapshot(**json.loads(path.read_bytes()))
            except (ValueError, TypeError) as error:
                raise Internal(f"{path} says nothing readable of its snapshot: {error}; remove it") from error
            if snapshot.name == path.stem and _NAME.fullmatch(snapshot.name) and is_index_name(snapshot.index):
                found.append(snapshot)
        return tuple(found)

    def _tidy_up(self) -> None:
        for draft in self._folder.glob(".*.new"):
            draft.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.weft"

    def _facts(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()
