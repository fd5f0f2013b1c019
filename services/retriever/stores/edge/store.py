"""The store as the service sees it: owns Qdrant's process, queues what it is asked, and starts it again if it dies."""

import asyncio
import contextlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from services.kit.clock import Now
from services.kit.errors import Exhausted, Unavailable, error_for
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.child import Child, ChildGone, ChildSlow
from services.retriever.document import Counts, Filter, Hit, Probe, Record, Spec, Vectored
from services.retriever.stores.edge.folder import shelf_of
from services.retriever.stores.edge.graph import GraphBuilder
from services.retriever.stores.edge.operations import (
    READS,
    Abandon,
    Add,
    Commit,
    Create,
    Delete,
    Drop,
    FindRecord,
    Flush,
    ListCollections,
    ListRecords,
    Operation,
    ReadChunks,
    Refused,
    Search,
    Write,
)
from services.retriever.stores.edge.packing import unpacked
from services.retriever.stores.edge.start import StoreStart
from services.retriever.stores.state_file import StateFile

_MODULE = "services.retriever.stores.edge.process"
# Opening large indexes and replaying their logs happen before it is ready.
_START_TIMEOUT_S = 300.0
_STOP_GRACE_S = 10.0
_RESTART_DELAY_S = 0.2
_MAX_RESTART_DELAY_S = 5.0
_RETRY_DELAY_S = 1.0
# Searches overtake writes that came up to this much before them: longer than all that wait from one ingest take.
_WRITE_HANDICAP_S = 0.2
_FLUSH_AFTER_IDLE_S = 1.0


@dataclass(order=True, slots=True)
class _Waiting:
    due_s: float
    number: int
    operation: Operation | None = field(compare=False)
    answer: asyncio.Future[Any] = field(compare=False)


class EdgeStore:
    """Implements the port Store. `start` before use, `close` after. Graphs are built by processes of their own."""

    def __init__(self, data_dir: Path, settings: RetrieverSettings, now: Now, on_restart: Callable[[], None]) -> None:
        self._settings = settings
        self._now = now
        self._on_restart = on_restart
        folder = self._folder = (data_dir / "indexes").resolve()
        self._arguments = [_start_of(folder, settings).to_json()]
        self._state = StateFile(folder / "library.json")
        self._graphs = GraphBuilder(self._do, folder)
        # Bounded by store_queue_limit in `_do`; a death's notice must always find room.
        self._queue: asyncio.PriorityQueue[_Waiting] = asyncio.PriorityQueue()
        self._numbers = count()
        self._child: Child | None = None
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._away = ""
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("store")

    def __repr__(self) -> str:
        return f"EdgeStore({self._child!r} waiting={self._queue.qsize()})"

    @property
    def ready(self) -> bool:
        """Whether its process answers."""
        return self._up.is_set()

    async def until(self, *, ready: bool) -> None:
        """Waits until its process answers, or until it does not."""
        await (self._up if ready else self._down).wait()

    async def start(self) -> None:
        """Starts the process. Raises Unavailable where it does not come up."""
        try:
            self._child = await self._open()
        except (ChildGone, ChildSlow) as error:
            raise Unavailable(f"the store does not start: {error}; its log says why", reason="STORE_AWAY") from error
        self._set_ready(True)
        self._task = asyncio.create_task(self._run(self._child), name="store")
        self._graphs.start()

    async def close(self) -> None:
        """Lets the process write everything down and end."""
        self._set_ready(False)
        await self._graphs.close()
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._child:
            await self._child.stop(_STOP_GRACE_S)
            self._child = None
        self._refuse_all("the store is closed")

    async def load_state(self) -> bytes:
        """What `save_state` kept last; where nothing ever was, every collection under its own name."""
        return await asyncio.to_thread(lambda: self._state.load() or shelf_of(self._folder))

    async def save_state(self, state: bytes) -> None:
        """Keeps the library's state."""
        await asyncio.to_thread(self._state.save, state)

    async def collections(self) -> Mapping[str, Counts]:
        """Every collection's numbers."""
        found: dict[str, Counts] = await self._do(ListCollections())
        return found

    async def create(self, collection: str, spec: Spec) -> None:
        """Makes an empty one."""
        await self._do(Create(collection, spec))

    async def drop(self, collection: str) -> None:
        """Deletes it."""
        await self._do(Drop(collection))

    async def record(self, collection: str, document_id: str) -> Record | None:
        """A document's record."""
        found: Record | None = await self._do(FindRecord(collection, document_id))
        return found

    async def records(self, collection: str, wanted: Filter, after: str, limit: int) -> list[Record]:
        """Documents by id."""
        found: list[Record] = await self._do(ListRecords(collection, wanted, after, limit))
        return found

    async def chunks(self, collection: str, document_id: str, after: str, limit: int) -> list[Vectored]:
        """A document's chunks by id."""
        found: list[Vectored] = await self._do(ReadChunks(collection, document_id, after, limit))
        return found

    async def add(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> None:
        """Keeps chunks unseen until `commit`."""
        await self._write(Add(collection, record, tuple(chunks)))

    async def commit(self, collection: str, record: Record, chunks: Sequence[Vectored]) -> bool:
        """Keeps the last chunks and the record, on disk when it returns. Returns whether it replaced a document."""
        replaced: bool = await self._write(Commit(collection, record, tuple(chunks)))
        self._graphs.look()
        return replaced

    async def abandon(self, collection: str, document_id: str) -> None:
        """Drops what was added and not committed."""
        await self._write(Abandon(collection, document_id))

    async def delete(self, collection: str, document_id: str) -> int:
        """Deletes it; returns its chunks. Raises NotFound."""
        chunks: int = await self._write(Delete(collection, document_id))
        return chunks

    async def search(self, collection: str, probe: Probe) -> list[Hit]:
        """What was found, best first."""
        return unpacked(await self._do(Search(collection, probe)))

    async def _write(self, operation: Write) -> Any:
        await self._graphs.writable(operation.collection)
        return await self._do(operation)

    async def _do(self, operation: Operation) -> Any:
        if self._away:
            raise _unavailable(self._away)
        if self._queue.qsize() >= self._settings.store_queue_limit:
            raise Exhausted(
                f"{self._settings.store_queue_limit} requests wait for the store; try again",
                reason="STORE_QUEUE_FULL",
                retry_delay_s=_RETRY_DELAY_S,
            )
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        due_s = self._now() + (0.0 if isinstance(operation, READS) else _WRITE_HANDICAP_S)
        self._queue.put_nowait(_Waiting(due_s, next(self._numbers), operation, answer))
        found = await answer
        if isinstance(found, Refused):
            raise error_for(found.code, found.message, reason=found.reason, field=found.field)
        return found

    async def _open(self) -> Child:
        return await Child.start(_MODULE, self._arguments, _START_TIMEOUT_S)

    async def _run(self, child: Child) -> None:
        """Serves the queue with one process after the other."""
        while True:
            notice = asyncio.create_task(self._watch(child))
            try:
                await self._serve(child)
            finally:
                notice.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await notice
            self._log.error("the store's process ended, starting it again", child=repr(child))
            self._set_ready(False)
            self._on_restart()
            await child.kill()
            child = self._child = await self._reopen()
            self._set_ready(True)

    def _set_ready(self, ready: bool) -> None:
        now, before = (self._up, self._down) if ready else (self._down, self._up)
        before.clear()
        now.set()

    async def _watch(self, child: Child) -> None:
        """Puts a notice at the head of the queue when the process ends while nothing is asked of it."""
        await child.wait()
        self._queue.put_nowait(_Waiting(0.0, next(self._numbers), None, asyncio.get_running_loop().create_future()))

    async def _reopen(self) -> Child:
        delay_s = _RESTART_DELAY_S
        while True:
            try:
                child = await self._open()
            except (ChildGone, ChildSlow, OSError) as error:
                self._away = f"the store does not start: {error}"
                self._refuse_all(self._away)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, _MAX_RESTART_DELAY_S)
            else:
                self._away = ""
                return child

    async def _serve(self, child: Child) -> None:
        """Asks the process one thing after the other; returns when it has ended."""
        written = False
        while child.running:
            waiting = await self._next(_FLUSH_AFTER_IDLE_S if written else None)
            if waiting is None:
                written = not await self._exchange(child, Flush(), None)
            elif waiting.operation is not None and not waiting.answer.done():
                await self._exchange(child, waiting.operation, waiting.answer)
                written = written or not isinstance(waiting.operation, READS)

    async def _next(self, timeout_s: float | None) -> _Waiting | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def _exchange(self, child: Child, operation: Operation, answer: asyncio.Future[Any] | None) -> bool:
        try:
            frame = await child.ask(pickle.dumps(operation, pickle.HIGHEST_PROTOCOL), self._settings.store_timeout_s)
        except (ChildGone, ChildSlow) as error:
            await child.kill()
            if answer is not None and not answer.done():
                answer.set_exception(_unavailable(f"the store went away: {error}"))
            return False
        if answer is not None and not answer.done():
            # The other end of this pipe is Weft's own code, in a process that Weft started.
            answer.set_result(pickle.loads(frame))  # noqa: S301
        return True

    def _refuse_all(self, why: str) -> None:
        while not self._queue.empty():
            waiting = self._queue.get_nowait()
            if waiting.operation is not None and not waiting.answer.done():
                waiting.answer.set_exception(_unavailable(why))


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"{why}; try again", reason="STORE_AWAY", retry_delay_s=_RETRY_DELAY_S)


def _start_of(folder: Path, settings: RetrieverSettings) -> StoreStart:
    return StoreStart(
        folder=str(folder),
        hnsw_min_chunks=settings.hnsw_min_chunks,
        bm25_k=settings.bm25_k,
        bm25_b=settings.bm25_b,
        bm25_average_words=settings.bm25_average_words,
    )
