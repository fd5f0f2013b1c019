"""The SQLite file behind jobs, quarantine and signatures: its tables, and one thread that does all work on it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import OperationalError

from services.kit.errors import Internal, Unavailable

_VERSION = 1
_BUSY_MS = 30_000
_RETRY_DELAY_S = 5.0

_metadata = MetaData()

JOBS = Table(
    "jobs",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", String, nullable=False, unique=True),
    Column("index_name", String, nullable=False),
    Column("state", String, nullable=False),
    Column("metadata", String, nullable=False),
    Column("started_at_s", Float, nullable=False),
    Column("ended_at_s", Float, nullable=False),
    *(
        Column(name, Integer, nullable=False)
        for name in ("found", "indexed", "replaced", "unchanged", "duplicate", "failed")
    ),
)
TARGETS = Table(
    "targets",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", String, nullable=False, index=True),
    Column("uri", String, nullable=False),
    Column("cursor", String, nullable=False),
    Column("done", Integer, nullable=False),
)
ITEMS = Table(
    "items",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("job_id", String, nullable=False),
    Column("uri", String, nullable=False),
    Column("done", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    UniqueConstraint("job_id", "uri"),
    Index("items_to_do", "job_id", "done", "number"),
)
FETCHED = Table(
    "fetched",
    _metadata,
    Column("index_name", String, primary_key=True),
    Column("uri", String, primary_key=True),
    Column("etag", String, nullable=False),
    Column("last_modified", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("media_type", String, nullable=False),
)
QUARANTINE = Table(
    "quarantine",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("index_name", String, nullable=False),
    Column("document_id", String, nullable=False),
    Column("source", String, nullable=False),
    Column("code", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("message", String, nullable=False),
    Column("failed_at_s", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    # Where its bytes can be had again: a URI, or a file in the quarantine's folder; one of them or none.
    Column("uri", String, nullable=False),
    Column("file", String, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("said", String, nullable=False),
    UniqueConstraint("index_name", "document_id"),
)
SIGNATURES = Table(
    "signatures",
    _metadata,
    Column("index_name", String, primary_key=True),
    Column("document_id", String, primary_key=True),
    Column("signature", LargeBinary, nullable=False),
)
BANDS = Table(
    "bands",
    _metadata,
    Column("index_name", String, primary_key=True),
    # The band's number and a hash of its values.
    Column("band", LargeBinary, primary_key=True),
    Column("document_id", String, primary_key=True),
    sqlite_with_rowid=False,
)

T = TypeVar("T")


class Database:
    """One writer, one thread. `open` makes the file where there is none; `close` ends the thread and the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Errors are logged: what people ingest, and from where, stays out of them.
        self._engine = create_engine(
            f"sqlite:///{path}", connect_args={"check_same_thread": False}, hide_parameters=True
        )
        event.listen(self._engine, "connect", _set_up)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingest-journal")

    def __repr__(self) -> str:
        return f"Database({self._path})"

    async def open(self) -> None:
        """Opens the file. Raises Internal where a later version of Weft wrote it."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def do(self, work: Callable[[Connection], T]) -> T:
        """Does `work` in one transaction. Once this has returned, what it did survives the process's death.

        Work once begun is finished even where its caller is cancelled. Raises Unavailable where the file cannot be
        read or written now, as on a full disk.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)

    async def close(self) -> None:
        """Finishes what was begun, and closes the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown()

    def _do(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except (OperationalError, OSError) as error:
            why = error.orig if isinstance(error, OperationalError) else error.strerror
            raise Unavailable(
                f"the journal {self._path} cannot be used now: {why}; see whether its disk is full",
                reason="JOURNAL_AWAY",
                retry_delay_s=_RETRY_DELAY_S,
            ) from error

    def _open(self) -> None:
        # URIs may carry keys of their own.
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._engine.begin() as connection:
            found = connection.execute(text("PRAGMA user_version")).scalar_one()
            if found > _VERSION:
                raise Internal(
                    f"{self._path} was written by a later version of Weft ({found}, and this one knows {_VERSION}); "
                    "start that version, or move the file away to begin anew",
                    reason="JOURNAL_TOO_NEW",
                )
            _metadata.create_all(connection)
            connection.execute(text(f"PRAGMA user_version = {_VERSION}"))


def _set_up(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"busy_timeout = {_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")
