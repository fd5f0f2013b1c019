"""Runs ingest jobs: lists what they were given, tries each document until it is done, and goes on after a restart."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential

from services.kit.errors import Exhausted, NotFound, Unavailable, WeftError
from services.kit.settings.ingest import IngestSettings
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.ingest import Ingested, failure_of
from services.retriever.jobs.fetch import Loaded, UriIngest, failed
from services.retriever.jobs.job import Item, Job, JobState, Said, Target
from services.retriever.jobs.journal import Journal
from services.retriever.sources.source import SourceAway
from services.retriever.sources.sources import Sources

_ITEMS = 200
# Watchers hear of changes at most this often.
_QUIET_S = 0.1
# A document that was begun so often and never done may be what ended the process each time.
_MAX_STARTS = 8
_RETRY_JOB_S = 30.0

T = TypeVar("T")


class Jobs:
    """`start` takes up the jobs that an earlier process left; `close` leaves what is unfinished to a later one."""

    def __init__(
        self,
        settings: IngestSettings,
        journal: Journal,
        sources: Sources,
        documents: UriIngest,
        wall_clock_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._sources = sources
        self._documents = documents
        self._wall_clock_s = wall_clock_s
        self._turns = asyncio.Semaphore(settings.max_running_jobs)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beginning = 0
        self._news: dict[str, asyncio.Event] = {}
        self._log = structlog.get_logger("jobs")

    def __repr__(self) -> str:
        return f"Jobs({len(self._tasks)} unfinished)"

    async def start(self) -> None:
        """Takes up unfinished jobs, the oldest first."""
        for job in reversed(await self._journal.jobs()):
            if job.state is JobState.RUNNING:
                self._launch(job)

    async def close(self) -> None:
        """Stops working; the journal knows how far each job is."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, index: str, uris: Sequence[str], metadata: Mapping[str, str]) -> Job:
        """Journals a job and starts it. Raises InvalidArgument for a URI, and Exhausted where there are too many."""
        for uri in uris:
            self._sources.require(uri)
        unfinished = len(self._tasks) + self._beginning
        if unfinished >= self._settings.max_unfinished_jobs:
            raise Exhausted(
                f"{unfinished} ingest jobs are unfinished; wait for one to end, or cancel one",
                reason="TOO_MANY_JOBS",
                retry_delay_s=self._settings.retry_delay_s,
            )
        job = Job(uuid.uuid4().hex, index, JobState.RUNNING, dict(metadata), self._wall_clock_s(), 0.0)
        # A caller that leaves now finds a job that was journalled, and so runs.
        self._beginning += 1
        await asyncio.shield(self._begin(job, list(dict.fromkeys(uris))))
        return job

    async def jobs(self) -> list[Job]:
        """Every job that is kept, newest first."""
        return await self._journal.jobs()

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        """The job now, when it changes, and last when it is over. Raises NotFound."""
        while True:
            news = self._news.setdefault(job_id, asyncio.Event())
            try:
                job = await self._find(job_id)
                yield job
            finally:
                if job_id not in self._tasks:
                    self._news.pop(job_id, None)
            if job.state is not JobState.RUNNING:
                return
            await news.wait()
            await asyncio.sleep(_QUIET_S)

    async def cancel(self, job_id: str) -> Job:
        """Stops it, and returns it as it is then; one that is over stays as it is. Raises NotFound."""
        await self._find(job_id)
        if task := self._tasks.get(job_id):
            # A caller that leaves now must not leave a job behind that neither runs nor has ended.
            await asyncio.shield(self._cancelled(job_id, task))
        return await self._find(job_id)

    async def cancel_all(self, indexes: Collection[str]) -> None:
        """Stops every job that ingests into one of them."""
        for job in await self._journal.jobs():
            if job.state is JobState.RUNNING and job.index in indexes:
                await self.cancel(job.job_id)

    async def _begin(self, job: Job, uris: list[str]) -> None:
        try:
            await self._journal.add_job(job, uris, self._settings.max_kept_jobs)
        finally:
            self._beginning -= 1
        self._launch(job)

    async def _cancelled(self, job_id: str, task: asyncio.Task[None]) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._end(job_id, JobState.CANCELLED)

    async def _find(self, job_id: str) -> Job:
        job = await self._journal.job(job_id)
        if job is None:
            raise NotFound(f"there is no ingest job {job_id[:80]!r}", reason="JOB_NOT_FOUND", field="job_id")
        return job

    def _launch(self, job: Job) -> None:
        task = self._tasks[job.job_id] = asyncio.create_task(self._run(job), name=f"ingest-{job.job_id}")
        task.add_done_callback(lambda _: self._over(job.job_id))

    def _over(self, job_id: str) -> None:
        del self._tasks[job_id]
        self._tell(job_id)

    def _tell(self, job_id: str) -> None:
        if news := self._news.pop(job_id, None):
            news.set()

    async def _end(self, job_id: str, state: JobState) -> None:
        await self._journal.end(job_id, state, self._wall_clock_s())
        self._tell(job_id)

    async def _run(self, job: Job) -> None:
        while True:
            try:
                async with self._turns:
                    await self._pass(job)
                return await self._end(job.job_id, JobState.DONE)
            except Exception:
                # What is left is a full disk or a fault of Weft's own; documents' faults are theirs alone.
                self._log.exception("the job stopped, and will be taken up again", job=job.job_id)
                await asyncio.sleep(_RETRY_JOB_S)

    async def _pass(self, job: Job) -> None:
        """Lists and ingests side by side, until everything that was listed is done."""
        more, free = asyncio.Event(), asyncio.Semaphore(self._settings.documents_in_flight)
        after = 0
        async with asyncio.TaskGroup() as group:
            listing = group.create_task(self._list(job, more))
            listing.add_done_callback(lambda _: more.set())
            while True:
                more.clear()
                listed = listing.done()
                items = await self._journal.items(job.job_id, after, _ITEMS)
                for item in items:
                    await free.acquire()
                    task = group.create_task(self._one(job, item))
                    task.add_done_callback(lambda _: free.release())
                    after = item.number
                if not items:
                    if listed:
                        return
                    await more.wait()

    async def _list(self, job: Job, more: asyncio.Event) -> None:
        for target in await self._journal.targets(job.job_id):
            room = True
            try:
                room = await self._retried(partial(self._pages, job, target, more))
            except (IngestFailure, SourceAway):
                # Taken for a document, it fails for the same reason, and that is where people look for it.
                await self._journal.add_items(
                    job.job_id, target.number, [target.uri], "", self._settings.max_job_documents
                )
            await self._journal.listed(target.number)
            more.set()
            if not room:
                self._log.warning("the job has as many documents as one may have", job=job.job_id)
                return

    async def _pages(self, job: Job, target: Target, more: asyncio.Event) -> bool:
        """Whether the job has room for more."""
        async for page in self._sources.pages(target.uri, target.cursor):
            cursor = page.cursor or target.cursor
            room = await self._journal.add_items(
                job.job_id, target.number, page.uris, cursor, self._settings.max_job_documents
            )
            more.set()
            self._tell(job.job_id)
            if not room:
                return False
        return True

    async def _one(self, job: Job, item: Item) -> None:
        said = Said(metadata=job.metadata)
        found = await self._tried(job, item, said)
        await self._documents.settle(job.index, item.uri, said, found)
        await self._journal.done(job, item, found.outcome)
        self._tell(job.job_id)

    async def _tried(self, job: Job, item: Item, said: Said) -> Ingested:
        if item.attempts >= _MAX_STARTS:
            why = f"{item.uri} was begun {item.attempts} times and never done; try it again by itself"
            return failed(IngestFailure(FailureCode.INTERNAL, "NEVER_DONE", why))
        await self._journal.tried(item.number)
        try:
            loaded = await self._retried(lambda: self._waited(lambda: self._documents.load(job.index, item.uri, said)))
            if isinstance(loaded, Loaded):
                return await self._waited(lambda: self._documents.store(job.index, loaded))
            return loaded
        except (IngestFailure, SourceAway) as error:
            return failed(error)
        except WeftError as error:
            return failed(failure_of(error))
        except Exception as error:
            self._log.exception("a document failed", job=job.job_id)
            why = f"{item.uri} failed: {type(error).__name__}; the retriever's log says more"
            return failed(IngestFailure(FailureCode.INTERNAL, "INGEST_FAILED", why))

    async def _retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """Tries again a few times while the source is away."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(SourceAway),
            stop=stop_after_attempt(self._settings.attempts),
            wait=self._pause_s,
            reraise=True,
        )
        return await _tried(retrying, work)

    async def _waited(self, work: Callable[[], Awaitable[T]]) -> T:
        """Tries until the embedder and the store are there: their absence is no fault of a document."""
        retrying = AsyncRetrying(retry=retry_if_exception_type((Unavailable, Exhausted)), wait=self._pause_s)
        return await _tried(retrying, work)

    def _pause_s(self, state: RetryCallState) -> float:
        """Doubles each time; a source that says when it wants to be asked again is believed, within the bound."""
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, SourceAway) else None
        usual_s: float = wait_exponential(multiplier=self._settings.retry_delay_s)(state)
        return min(max(usual_s, asked_s or 0.0), self._settings.max_retry_delay_s)


async def _tried(retrying: AsyncRetrying, work: Callable[[], Awaitable[T]]) -> T:
    async for attempt in retrying:
        with attempt:
            return await work()
    raise AssertionError("retrying ends with a result or raises")
