"""Embeds texts of all callers with one model, in common batches. Knows neither gRPC nor HTTP."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

import structlog

from services.embedder.cache import TextKeys, VectorCache
from services.embedder.metrics import EmbedderMetrics
from services.embedder.pace import Pace
from services.embedder.ports import Embedded, Model
from services.embedder.waiting import Job, Ticket, WaitingTexts
from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, Internal, Unavailable, WeftError


class Batcher:
    """Owns the tasks that tokenise and embed. Use it as an async context manager; the model is its owner's.

    A text that is in the cache is answered from it; one that equals another under way waits for that one's vector.
    """

    def __init__(
        self,
        model: Model,
        waiting: WaitingTexts,
        cache: VectorCache,
        metrics: EmbedderMetrics,
        now: Now,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._waiting = waiting
        self._cache = cache
        self._metrics = metrics
        self._now = now
        self._changed = changed
        self._name = model.info.name
        self._keys = TextKeys(model.info)
        self._under_way: dict[tuple[bytes, bool], Job] = {}
        self.pace = Pace(model.batches.parallel)
        self.running = 0
        """Texts that are being embedded."""
        self.closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("batcher")
        metrics.watch_queue(self._name, lambda: waiting.depth)

    def __repr__(self) -> str:
        return f"Batcher({self._name} {self._waiting!r} running={self.running})"

    @property
    def model(self) -> Model:
        """What embeds."""
        return self._model

    @property
    def queued_texts(self) -> int:
        """Texts that wait."""
        return self._waiting.depth

    @property
    def queued_tokens(self) -> int:
        """Their tokens, in part estimated."""
        return self._waiting.tokens

    async def __aenter__(self) -> Self:
        parallel = self._model.batches.parallel
        self._tasks = [asyncio.create_task(self._work(), name=f"batches-{index}") for index in range(parallel)]
        self._tasks.append(asyncio.create_task(self._prepare(), name="tokenise"))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Answers what still waits with Unavailable."""
        self.closed = True
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._fail(self._waiting.take_all(), stopping())

    async def embed(self, texts: Sequence[str], *, query: bool, deadline_s: float | None = None) -> list[Embedded]:
        """Each text's vector, in order: all or an error. Raises Exhausted (the queue is full), Unavailable (closed) and
        DeadlineExceeded (`deadline_s`, on this batcher's clock, passed before its turn came).

        The call is one caller among others: they take turns. Cancelling it leaves nothing in the queue.
        """
        self._check_open()
        keys = [self._keys.key(text, query) for text in texts]
        cached = [self._cache.get(key) for key in keys]
        missing = {key for key, one in zip(keys, cached, strict=True) if one is None}
        new = [key for key in missing if (key, query) not in self._under_way]
        self._waiting.check_room(len(new), query, self.pace.retry_delay_s(self._waiting.depth))
        caller = object()
        tickets: list[Ticket] = []
        done = False
        try:
            claims = [
                one or self._claim(key, text, query, caller, deadline_s)
                for key, text, one in zip(keys, texts, cached, strict=True)
            ]
            tickets = [claim for claim in claims if isinstance(claim, Ticket)]
            found = [await claim.result if isinstance(claim, Ticket) else claim for claim in claims]
            done = True
            return found
        finally:
            if not done:
                for ticket in tickets:
                    self.withdraw(ticket)

    async def submit(self, text: str, *, query: bool, caller: object, deadline_s: float | None) -> Ticket:
        """Queues one text of a stream, waiting for room; the caller withdraws the ticket where it gives up on it."""
        self._check_open()
        key = self._keys.key(text, query)
        if cached := self._cache.get(key):
            ticket = Ticket(Job(-1, key, text, query, caller), asyncio.get_running_loop().create_future(), deadline_s)
            ticket.result.set_result(cached)
            return ticket
        if (key, query) not in self._under_way:
            await self._waiting.room_for_stream(query)
            self._check_open()
        return self._claim(key, text, query, caller, deadline_s)

    def withdraw(self, ticket: Ticket) -> None:
        """Gives up on a text; does nothing to one that is answered. It is not embedded if nobody else waits for it."""
        if ticket.result.done() and not ticket.result.cancelled():
            # Marks the error as seen: the caller has left or was told of another one.
            ticket.result.exception()
            return
        ticket.result.cancel()
        job = ticket.job
        if ticket in job.tickets:
            job.tickets.remove(ticket)
        if not job.tickets and self._waiting.drop(job):
            self._forget(job)
            self._changed()

    def _claim(self, key: bytes, text: str, query: bool, caller: object, deadline_s: float | None) -> Ticket:
        job = self._under_way.get((key, query))
        if job is None:
            job = self._under_way[key, query] = self._waiting.put(key, text, query, caller)
            self._changed()
        else:
            self._metrics.shared.inc()
        ticket = Ticket(job, asyncio.get_running_loop().create_future(), deadline_s)
        job.tickets.append(ticket)
        return ticket

    async def _prepare(self) -> None:
        """Tokenises what arrives, somewhat ahead of the batches."""
        while True:
            await self._waiting.some_raw.wait()
            if jobs := self._waiting.take_raw():
                await self._prepare_some([job for job in jobs if not self._late(job)])

    async def _prepare_some(self, jobs: list[Job]) -> None:
        """`jobs` are of one purpose or none."""
        if not jobs:
            return
        try:
            found = await self._model.prepare([job.text for job in jobs], query=jobs[0].query)
        except Exception as error:
            for job in jobs:
                self._waiting.drop(job)
            self._broken(jobs, error)
        else:
            self._waiting.prepared(jobs, found)

    async def _work(self) -> None:
        while True:
            await self._waiting.some_ready.wait()
            if batch := [job for job in self._waiting.take(self._model.batches) if not self._late(job)]:
                await self._run(batch)

    def _late(self, job: Job) -> bool:
        """Whether nobody waits for it any more; those whose deadline passed are told."""
        deadline_s = job.deadline_s if job.tickets else 0.0
        if deadline_s is None or self._now() < deadline_s:
            return False
        self._waiting.drop(job)
        self._metrics.texts.labels(self._name, "late").inc()
        late = "the deadline passed before the text's turn came; it was not embedded"
        self._fail([job], DeadlineExceeded(late, reason="DEADLINE_IN_QUEUE"))
        return True

    async def _run(self, batch: list[Job]) -> None:
        """Embeds one batch and answers each of its texts, with the error where it fails."""
        self.running += len(batch)
        self._changed()
        started_s = self._now()
        try:
            found = await self._model.embed([job.prepared for job in batch if job.prepared], self._limit_s(batch))
        except asyncio.CancelledError:
            self._fail(batch, stopping())
            raise
        except Exception as error:
            self._count(batch, "error", self._now() - started_s)
            self._broken(batch, error)
        else:
            self._count(batch, "ok", self._now() - started_s)
            for job, embedded in zip(batch, found, strict=True):
                if isinstance(embedded, WeftError):
                    self._fail([job], embedded)
                    continue
                self._forget(job)
                self._cache.put(job.key, embedded)
                job.answer(embedded)
        finally:
            self.running -= len(batch)
            self._changed()

    def _limit_s(self, batch: Sequence[Job]) -> float | None:
        """The time after which nobody waits for this batch any more; None: not known."""
        deadlines = [deadline_s for job in batch if (deadline_s := job.deadline_s) is not None]
        return max(deadlines) - self._now() if len(deadlines) == len(batch) else None

    def _broken(self, jobs: list[Job], error: Exception) -> None:
        """One bad batch must not end the service: its callers are told, and the next batch goes on."""
        if isinstance(error, WeftError):
            self._log.warning("batch refused", model=self._name, texts=len(jobs), reason=error.reason)
            self._fail(jobs, error)
            return
        self._log.error("batch failed", model=self._name, texts=len(jobs), exc_info=error)
        self._fail(jobs, Internal("the model failed on this batch; the embedder's log has why", reason="MODEL_FAILED"))

    def _fail(self, jobs: Sequence[Job], error: WeftError) -> None:
        for job in jobs:
            self._forget(job)
            job.fail(error)

    def _forget(self, job: Job) -> None:
        self._under_way.pop((job.key, job.query), None)

    def _count(self, batch: list[Job], outcome: str, elapsed_s: float) -> None:
        lengths = [job.tokens for job in batch]
        self._metrics.batches.labels(self._name, outcome).inc()
        self._metrics.texts.labels(self._name, outcome).inc(len(batch))
        self._metrics.batch_seconds.labels(self._name).observe(elapsed_s)
        if outcome == "ok":
            self._metrics.tokens.labels(self._name).inc(sum(lengths))
            self._metrics.padding.labels(self._name).inc(max(lengths) * len(lengths) - sum(lengths))
            self.pace.add(len(batch), sum(lengths), elapsed_s)

    def _check_open(self) -> None:
        if self.closed:
            raise stopping()


def stopping() -> Unavailable:
    """What callers are told while the service stops."""
    return Unavailable("the embedder is stopping; send the text again, elsewhere or later", reason="STOPPING")
