"""Embeds texts of all callers in common batches, in worker threads. Knows neither gRPC nor HTTP."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Self

import structlog

from services.embedder.load import Load, LoadBoard
from services.embedder.metrics import EmbedderMetrics
from services.embedder.ports import Embedded, Model, Vectors
from services.embedder.waiting import Job, WaitingTexts
from services.kit.clock import Now
from services.kit.errors import Internal, Unavailable, WeftError

# What is tokenised in one go: other callers' texts come in between. A longer text goes alone.
_ENCODE_TEXTS = 64
_ENCODE_CHARS = 256 * 1024
# What a first caller is told before anything was measured, and how fast the measure follows.
_FIRST_TEXT_S = 0.01
_SMOOTHING = 0.1
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 30.0


class Batcher:
    """Runs `workers` batches side by side, each in a thread of its own. Use it as an async context manager."""

    def __init__(
        self, model: Model, waiting: WaitingTexts, batch_tokens: int, workers: int, metrics: EmbedderMetrics, now: Now
    ) -> None:
        self._model = model
        self._waiting = waiting
        self._batch_tokens = batch_tokens
        self._metrics = metrics
        self._now = now
        self._workers = workers
        self._text_s = _FIRST_TEXT_S
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._embedders = ThreadPoolExecutor(workers, thread_name_prefix="embed")
        # Tokenising has a thread of its own, so that it goes on while every worker is busy.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._log = structlog.get_logger("batcher")
        self._running = 0
        self._tokens_per_s = 0.0
        self.load = LoadBoard(self._reading)
        metrics.watch_queue(lambda: waiting.depth)

    def __repr__(self) -> str:
        return f"Batcher({self._workers} workers, {self._waiting!r})"

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(), name=f"batches-{index}") for index in range(self._workers)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Answers what still waits with Unavailable, and ends the threads once their batches are done."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        _fail(self._waiting.take_all(), stopping())
        for pool in (self._embedders, self._encoder):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)

    async def embed(self, texts: Sequence[str], *, query: bool) -> list[Embedded]:
        """Each text's vector, in order: all or an error. Raises Exhausted (the queue is full) and Unavailable (closed).

        Cancelling it leaves nothing in the queue.
        """
        self._check_open()
        self._waiting.reserve(len(texts), query, self._retry_delay_s())
        jobs: list[Job] = []
        try:
            for part in _parts(texts):
                jobs += await self._put(part, query)
            return [await job.result for job in jobs]
        finally:
            self._waiting.give_back(len(texts) - len(jobs), query)
            for job in jobs:
                self.withdraw(job)

    async def submit(self, text: str, *, query: bool) -> Job:
        """Queues one text of a stream, waiting for room; the caller withdraws the job where it gives up on it."""
        await self._waiting.reserve_when_free(query)
        jobs: list[Job] = []
        try:
            self._check_open()
            jobs = await self._put([text], query)
            return jobs[0]
        finally:
            self._waiting.give_back(1 - len(jobs), query)

    def withdraw(self, job: Job) -> None:
        """Gives up on a text; does nothing to one that is answered."""
        self._waiting.withdraw(job)
        if job.result.done() and not job.result.cancelled():
            # Marks the error as seen: the caller has left or was told of another one.
            job.result.exception()

    async def _put(self, texts: Sequence[str], query: bool) -> list[Job]:
        encoded = await asyncio.get_running_loop().run_in_executor(self._encoder, self._model.encode, texts)
        self._check_open()
        return [self._waiting.put(tokens, query) for tokens in encoded]

    async def _work(self) -> None:
        while True:
            await self._waiting.some.wait()
            if batch := self._waiting.take(self._batch_tokens):
                await self._run(batch)

    async def _run(self, batch: list[Job]) -> None:
        """Embeds one batch and answers each of its texts, with the error where it fails."""
        self._running += len(batch)
        self.load.changed()
        try:
            await self._embed(batch)
        finally:
            self._running -= len(batch)
            self.load.changed()

    async def _embed(self, batch: list[Job]) -> None:
        tokens = [job.tokens for job in batch]
        started_s = self._now()
        try:
            loop = asyncio.get_running_loop()
            vectors = await loop.run_in_executor(self._embedders, self._model.embed, tokens)
        except asyncio.CancelledError:
            _fail(batch, stopping())
            raise
        except Exception as error:
            # One bad batch must not end the service: its callers are told, and the next batch goes on.
            self._log.error("batch failed", texts=len(batch), exc_info=error)
            self._count(batch, "error", started_s)
            _fail(batch, Internal("the model failed on this batch; the embedder's log has why", reason="MODEL_FAILED"))
        else:
            self._count(batch, "ok", started_s)
            _answer(batch, vectors)

    def _count(self, batch: list[Job], outcome: str, started_s: float) -> None:
        elapsed_s = self._now() - started_s
        lengths = [len(job.tokens.ids) for job in batch]
        self._metrics.batches.labels(outcome).inc()
        self._metrics.texts.labels(outcome).inc(len(batch))
        if outcome == "ok":
            self._metrics.tokens.inc(sum(lengths))
            self._metrics.padding.inc(max(lengths) * len(lengths) - sum(lengths))
        self._metrics.batch_seconds.observe(elapsed_s)
        rate = self._workers * sum(lengths) / max(elapsed_s, 1e-6)
        self._tokens_per_s += (_SMOOTHING if self._tokens_per_s else 1.0) * (rate - self._tokens_per_s)
        self._text_s += _SMOOTHING * (elapsed_s / len(batch) - self._text_s)

    def _reading(self) -> Load:
        tokens = self._waiting.tokens
        return Load(self._waiting.depth, tokens, self._running, self._tokens_per_s, self._closed)

    def _retry_delay_s(self) -> float:
        """The time in which half of what waits will be done."""
        half_s = self._waiting.depth * self._text_s / self._workers / 2
        return min(max(half_s, _RETRY_MIN_S), _RETRY_MAX_S)

    def _check_open(self) -> None:
        if self._closed:
            raise stopping()


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    chars = 0
    for text in texts:
        if part and (len(part) == _ENCODE_TEXTS or chars + len(text) > _ENCODE_CHARS):
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    yield part


def stopping() -> Unavailable:
    """What callers are told while the service stops."""
    return Unavailable("the embedder is stopping; send the text again, elsewhere or later", reason="STOPPING")


def _answer(batch: list[Job], vectors: Vectors) -> None:
    for job, vector in zip(batch, vectors, strict=True):
        if not job.result.done():
            job.result.set_result(Embedded(vector, len(job.tokens.ids), job.tokens.truncated))


def _fail(batch: list[Job], error: WeftError) -> None:
    for job in batch:
        if not job.result.done():
            job.result.set_exception(error)
