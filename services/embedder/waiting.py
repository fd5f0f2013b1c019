"""The texts that wait for a model: two bounded lanes, queries before passages, fair between callers. Does no work."""

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

from services.embedder.batching import Waiting, next_batch, queries_next
from services.embedder.fair import FairQueue
from services.embedder.ports import BatchLimits, Embedded, Prepared
from services.kit.errors import Exhausted, WeftError

# Texts that one decision looks at: enough to find equals in length, few enough to sort in a fraction of a millisecond.
WINDOW_TEXTS = 512
# One batch of passages goes after this many of queries, so that a flood of queries cannot starve an ingest.
QUERY_BATCHES_IN_A_ROW = 8
# Texts of a lane that are tokenised ahead of their batches: what may still be cancelled is not worth more.
READY_TEXTS = 2 * WINDOW_TEXTS
# What is tokenised in one go: other callers' texts come in between. A longer text goes alone.
ENCODE_TEXTS = 64
ENCODE_CHARS = 256 * 1024
# Streams leave this share of a lane to single calls, which cannot wait for room but are refused.
_STREAM_SHARE = 0.5
# About what a text of unknown length comes to; only loads and delays are told from it.
_CHARS_PER_TOKEN = 4


@dataclass(eq=False, slots=True)
class Ticket:
    """One caller's claim on a text: where its vector goes, and when the caller stops waiting (None: never)."""

    job: "Job"
    result: "asyncio.Future[Embedded]"
    deadline_s: float | None


@dataclass(eq=False, slots=True)
class Job:
    """One text on its way. Equal texts of several callers are one job with several tickets."""

    number: int
    key: bytes
    text: str
    query: bool
    caller: object
    tickets: list[Ticket] = field(default_factory=list)
    prepared: Prepared | None = None

    @property
    def tokens(self) -> int:
        """Its length, estimated until it is tokenised."""
        return self.prepared.tokens if self.prepared else len(self.text) // _CHARS_PER_TOKEN + 2

    @property
    def deadline_s(self) -> float | None:
        """When the last of its callers stops waiting; None: never."""
        found = [ticket.deadline_s for ticket in self.tickets if ticket.deadline_s is not None]
        return max(found) if len(found) == len(self.tickets) else None

    def answer(self, embedded: Embedded) -> None:
        """Gives the vector to all that still wait for it."""
        for ticket in self.tickets:
            if not ticket.result.done():
                ticket.result.set_result(embedded)

    def fail(self, error: WeftError) -> None:
        """Tells all that still wait why there is none."""
        for ticket in self.tickets:
            if not ticket.result.done():
                # A copy for each: an error that is raised collects the frames that it passes.
                ticket.result.set_exception(copy(error))


class Lane:
    """At most `limit` texts: `raw` ones, and `ready` ones, which are tokenised."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.raw: FairQueue[Job] = FairQueue()
        self.ready: FairQueue[Job] = FairQueue()
        self.preparing: set[Job] = set()
        self.room_for_streams = asyncio.Event()
        self.changed()

    @property
    def depth(self) -> int:
        """Texts that wait."""
        return len(self.raw) + len(self.preparing) + len(self.ready)

    def changed(self) -> None:
        """Wakes or holds the streams that wait for room."""
        if self.depth < max(1, self.limit * _STREAM_SHARE):
            self.room_for_streams.set()
        else:
            self.room_for_streams.clear()

    def take_raw(self, texts: int) -> list[Job]:
        """Up to so many texts to tokenise, as far as there is room among the ready ones."""
        found: list[Job] = []
        chars = 0
        for job in self.raw.window(min(texts, max(0, READY_TEXTS - len(self.ready) - len(self.preparing)))):
            if found and chars + len(job.text) > ENCODE_CHARS:
                break
            chars += len(job.text)
            found.append(job)
        for job in found:
            self.raw.serve(job, len(job.text) + 1)
        self.preparing.update(found)
        return found

    def take_ready(self, limits: BatchLimits) -> list[Job]:
        """The next batch, which is not empty where a ready text waits."""
        window = {job.number: job for job in self.ready.window(WINDOW_TEXTS)}
        seen = [Waiting(job.number, job.tokens) for job in window.values()]
        batch = [window[number] for number in next_batch(seen, limits.tokens, limits.texts)]
        for job in batch:
            self.ready.serve(job, job.tokens)
        self.changed()
        return batch


class WaitingTexts:
    """Texts from their arrival until their batch begins. Belongs to one event loop."""

    def __init__(self, max_passages: int, max_queries: int) -> None:
        self.passages = Lane(max_passages)
        self.queries = Lane(max_queries)
        self.tokens = 0
        """Tokens of both lanes, estimated for texts that are not tokenised yet."""
        self._next_number = 0
        self._query_batches = 0
        self.some_raw = asyncio.Event()
        self.some_ready = asyncio.Event()

    def __repr__(self) -> str:
        return f"WaitingTexts(passages={self.passages.depth} queries={self.queries.depth})"

    @property
    def depth(self) -> int:
        """Texts of both lanes."""
        return self.passages.depth + self.queries.depth

    def check_room(self, texts: int, query: bool, retry_delay_s: float) -> None:
        """Raises Exhausted where a call with so many texts has to be refused."""
        lane = self._lane(query)
        if lane.depth + texts > lane.limit:
            kind = "queries" if query else "passages"
            raise Exhausted(
                f"the embedder's queue has room for {lane.limit - lane.depth} more {kind} and this call brings "
                f"{texts}; try again in {retry_delay_s:.1f} s",
                reason="EMBEDDER_QUEUE_FULL",
                retry_delay_s=retry_delay_s,
            )

    async def room_for_stream(self, query: bool) -> None:
        """Returns as soon as a stream may add one text."""
        lane = self._lane(query)
        while not lane.room_for_streams.is_set():
            await lane.room_for_streams.wait()

    def put(self, key: bytes, text: str, query: bool, caller: object) -> Job:
        """Lets a text wait."""
        lane = self._lane(query)
        job = Job(self._next_number, key, text, query, caller)
        self._next_number += 1
        lane.raw.put(job)
        self.tokens += job.tokens
        lane.changed()
        self.some_raw.set()
        return job

    def drop(self, job: Job) -> bool:
        """Takes a text out; False where its batch has begun."""
        lane = self._lane(job.query)
        gone = lane.raw.remove(job) or lane.ready.remove(job)
        if job in lane.preparing:
            lane.preparing.discard(job)
            gone = True
        if gone:
            self.tokens -= job.tokens
        lane.changed()
        self.some_raw.set()
        return gone

    def take_raw(self) -> list[Job]:
        """The next texts to tokenise, all of one purpose; empty where none waits or enough are ready."""
        lane = self.queries if len(self.queries.raw) else self.passages
        jobs = lane.take_raw(ENCODE_TEXTS) or self.passages.take_raw(ENCODE_TEXTS)
        if not jobs:
            self.some_raw.clear()
        return jobs

    def prepared(self, jobs: Sequence[Job], found: Sequence[Prepared]) -> None:
        """These texts are tokenised; those that were dropped meanwhile stay away."""
        for job, one in zip(jobs, found, strict=True):
            lane = self._lane(job.query)
            if job in lane.preparing:
                lane.preparing.discard(job)
                self.tokens += one.tokens - job.tokens
                job.prepared = one
                lane.ready.put(job)
                self.some_ready.set()

    def take(self, limits: BatchLimits) -> list[Job]:
        """The next batch; empty where nothing is ready."""
        queries, passages = self.queries.ready, self.passages.ready
        query = queries_next(len(queries), len(passages), self._query_batches, QUERY_BATCHES_IN_A_ROW)
        self._query_batches = self._query_batches + 1 if query else 0
        batch = self._lane(query).take_ready(limits)
        self.tokens -= sum(job.tokens for job in batch)
        self.some_raw.set()
        if not len(queries) and not len(passages):
            self.some_ready.clear()
        return batch

    def take_all(self) -> list[Job]:
        """Empties both lanes."""
        lanes = (self.queries, self.passages)
        jobs = [job for lane in lanes for queue in (lane.raw, lane.preparing, lane.ready) for job in list(queue)]
        for job in jobs:
            self.drop(job)
        self.some_ready.clear()
        return jobs

    def _lane(self, query: bool) -> Lane:
        return self.queries if query else self.passages
