"""The quarantine: documents that could not be ingested, why, and, within bounds, their bytes to try them again."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, true, update

from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.jobs.database import QUARANTINE, Database
from services.retriever.jobs.job import Quarantined, Said

_PAGE = 1000


class Quarantine:
    """At most `max_documents` are remembered, and `max_bytes` of them kept: the oldest go. `start` before use."""

    def __init__(
        self, database: Database, folder: Path, max_documents: int, max_bytes: int, wall_clock_s: Callable[[], float]
    ) -> None:
        self._database = database
        self._folder = folder
        self._max_documents = max_documents
        self._max_bytes = max_bytes
        self._wall_clock_s = wall_clock_s
        # Most documents succeed and were never here: this spares each of them a look into the file.
        self._names: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"Quarantine({len(self._names)} documents in {self._folder})"

    async def start(self) -> None:
        """Makes the folder, and deletes files in it that nothing names: a process that died left them."""

        def work(connection: Connection) -> set[tuple[str, str]]:
            # What is in it was sent in confidence, and has no index to ask who may read it.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            rows = connection.execute(select(QUARANTINE)).all()
            named = {row.file for row in rows}
            for path in self._folder.iterdir():
                if path.name not in named:
                    path.unlink()
            return {(row.index_name, row.document_id) for row in rows}

        self._names = await self._database.do(work)

    async def keep(
        self,
        index: str,
        document_id: str,
        source: str,
        failure: IngestFailure,
        said: Said,
        *,
        content: bytes = b"",
        uri: str = "",
    ) -> None:
        """Notes a failure, in the place of the document's last one. Bytes are kept where they fit."""
        kept = content if 0 < len(content) <= self._max_bytes and not uri else b""
        file = hashlib.sha256(f"{index}\0{document_id}".encode()).hexdigest()[:40] if kept else ""

        def work(connection: Connection) -> None:
            here = _named(index, (document_id,))
            tries = connection.execute(select(QUARANTINE.c.attempts).where(here)).scalar() or 0
            before = connection.execute(select(QUARANTINE.c.file).where(here)).scalar() or ""
            if kept:
                self._write(file, kept)
            else:
                self._unlink(before)
            connection.execute(delete(QUARANTINE).where(here))
            row = insert(QUARANTINE).values(
                index_name=index,
                document_id=document_id,
                source=source,
                code=int(failure.code),
                reason=failure.reason,
                message=failure.message,
                failed_at_s=self._wall_clock_s(),
                attempts=tries + 1,
                uri=uri,
                file=file,
                size_bytes=len(kept),
                said=json.dumps(asdict(said)),
            )
            connection.execute(row)
            self._make_room(connection)

        await self._database.do(work)
        self._names.add((index, document_id))

    async def release(self, index: str, document_id: str) -> None:
        """The document has been ingested after all."""
        if (index, document_id) in self._names:
            await self.clear(index, (document_id,))

    async def page(
        self, index: str, count: int, before: int = 0, document_ids: Sequence[str] = ()
    ) -> list[Quarantined]:
        """Newest first, those with numbers under `before` (0: from the newest); an empty index means every index."""
        wanted = _named(index, document_ids)
        if before:
            wanted = and_(wanted, QUARANTINE.c.number < before)
        query = select(QUARANTINE).where(wanted).order_by(QUARANTINE.c.number.desc()).limit(count)
        return await self._database.do(lambda connection: [_entry(row) for row in connection.execute(query)])

    async def content(self, entry: Quarantined) -> bytes | None:
        """The bytes that are kept of it; None where they have gone meanwhile."""

        def work(_: Connection) -> bytes | None:
            try:
                return (self._folder / entry.file).read_bytes()
            except FileNotFoundError:
                return None

        return await self._database.do(work)

    async def clear(self, index: str, document_ids: Sequence[str]) -> int:
        """Forgets documents; an empty index means every index, no ids mean all. Returns how many."""

        def work(connection: Connection) -> list[Any]:
            rows = list(connection.execute(select(QUARANTINE).where(_named(index, document_ids))).all())
            self._drop(connection, rows)
            return rows

        gone = await self._database.do(work)
        self._names -= {(row.index_name, row.document_id) for row in gone}
        return len(gone)

    def _make_room(self, connection: Connection) -> None:
        """Drops the oldest bytes over the bound, then the oldest documents."""
        total = connection.execute(select(func.sum(QUARANTINE.c.size_bytes))).scalar() or 0
        oldest = select(QUARANTINE).where(QUARANTINE.c.file != "").order_by(QUARANTINE.c.number)
        for row in connection.execute(oldest).all() if total > self._max_bytes else ():
            if total <= self._max_bytes:
                break
            self._unlink(row.file)
            gone = update(QUARANTINE).where(QUARANTINE.c.number == row.number).values(file="", size_bytes=0)
            connection.execute(gone)
            total -= row.size_bytes
        over = select(QUARANTINE).order_by(QUARANTINE.c.number.desc()).offset(self._max_documents)
        rows = list(connection.execute(over).all())
        self._drop(connection, rows)
        # Called on the database's thread; the set is only a hint that spares a look, so no lock guards it.
        self._names -= {(row.index_name, row.document_id) for row in rows}

    def _drop(self, connection: Connection, rows: Sequence[Any]) -> None:
        for at in range(0, len(rows), _PAGE):
            numbers = [row.number for row in rows[at : at + _PAGE]]
            connection.execute(delete(QUARANTINE).where(QUARANTINE.c.number.in_(numbers)))
        for row in rows:
            self._unlink(row.file)

    def _write(self, file: str, content: bytes) -> None:
        whole = self._folder / f"{file}.part"
        whole.write_bytes(content)
        os.replace(whole, self._folder / file)

    def _unlink(self, file: str) -> None:
        if file:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / file).unlink()


def _named(index: str, document_ids: Sequence[str]) -> ColumnElement[bool]:
    wanted: ColumnElement[bool] = true()
    if index:
        wanted = and_(wanted, QUARANTINE.c.index_name == index)
    return and_(wanted, QUARANTINE.c.document_id.in_(document_ids)) if document_ids else wanted


def _entry(row: Any) -> Quarantined:
    return Quarantined(
        number=row.number,
        index=row.index_name,
        document_id=row.document_id,
        source=row.source,
        failure=IngestFailure(FailureCode(row.code), row.reason, row.message),
        failed_at_s=row.failed_at_s,
        attempts=row.attempts,
        uri=row.uri,
        file=row.file,
        said=Said(**json.loads(row.said)),
    )
