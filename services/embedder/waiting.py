"""The texts that wait for the model: two bounded lanes in order of arrival, queries before passages. Does no work."""

import asyncio
from dataclasses import dataclass
from itertools import islice

from services.embedder.batching import Waiting, next_batch, queries_next
from services.embedder.ports import Embedded, Tokens
from services.kit.errors import Exhausted

# Texts that one decision looks at: enough to find equals in length, few enough to sort in a fraction of a millisecond.
WINDOW_TEXTS = 512
# One batch of passages goes after this many of queries, so that a flood of queries cannot starve an ingest.
QUERY_BATCHES_IN_A_ROW = 8
# Streams leave this share of a lane to single calls, which cannot wait for room but are refused.
_STREAM_SHARE = 0.5


@dataclass(eq=False, slots=True)
class Job:
    """One tokenised text on its way, and where its vector goes."""

    number: int
    query: bool
    tokens: Tokens
    result: asyncio.Future[Embedded]


class Lane:
    """At most `limit` texts; `held` of them are reserved but not tokenised yet."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.jobs: dict[int, Job] = {}
        self.room_for_streams = asyncio.Event()
        self.changed()

    @property
    def depth(self) -> int:
        """Texts that wait, reserved ones included."""
        return self.held + len(self.jobs)

    def changed(self) -> None:
        """Wakes or holds the streams that wait for room."""
        if self.depth < max(1, self.limit * _STREAM_SHARE):
            self.room_for_streams.set()
        else:
            self.room_for_streams.clear()


class WaitingTexts:
    """Texts from their arrival until their batch begins. Belongs to one event loop."""

    def __init__(self, max_passages: int, max_queries: int) -> None:
        self.passages = Lane(max_passages)
        self.queries = Lane(max_queries)
        self._next_number = 0
        self._query_batches = 0
        self.some = asyncio.Event()

    def __repr__(self) -> str:
        return f"WaitingTexts(passages={self.passages.depth} queries={self.queries.depth})"

    @property
    def depth(self) -> int:
        """Texts of both lanes."""
        return self.passages.depth + self.queries.depth

    @property
    def tokens(self) -> int:
        """Tokens of what waits; a text that is not tokenised yet counts for none."""
        return sum(len(job.tokens.ids) for lane in (self.passages, self.queries) for job in lane.jobs.values())

    def reserve(self, texts: int, query: bool, retry_delay_s: float) -> None:
        """Holds room for all the texts or raises Exhausted; each is given back by `put` or `give_back`."""
        lane = self._lane(query)
        if lane.depth + texts > lane.limit:
            kind = "queries" if query else "passages"
            raise Exhausted(
                f"the embedder's queue has room for {lane.limit - lane.depth} more {kind} and this call brings "
                f"{texts}; try again in {retry_delay_s:.1f} s",
                reason="EMBEDDER_QUEUE_FULL",
                retry_delay_s=retry_delay_s,
            )
        lane.held += texts
        lane.changed()

    async def reserve_when_free(self, query: bool) -> None:
        """Holds room for one text of a stream, as soon as there is some."""
        lane = self._lane(query)
        while not lane.room_for_streams.is_set():
            await lane.room_for_streams.wait()
        lane.held += 1
        lane.changed()

    def give_back(self, texts: int, query: bool) -> None:
        """Frees room that was reserved and not used."""
        lane = self._lane(query)
        lane.held -= texts
        lane.changed()

    def put(self, tokens: Tokens, query: bool) -> Job:
        """Lets a text wait in the room that was reserved for it."""
        lane = self._lane(query)
        job = Job(self._next_number, query, tokens, asyncio.get_running_loop().create_future())
        self._next_number += 1
        lane.held -= 1
        lane.jobs[job.number] = job
        self.some.set()
        return job

    def withdraw(self, job: Job) -> None:
        """Takes the text out if its batch has not begun, and cancels its result if it has none."""
        lane = self._lane(job.query)
        if lane.jobs.pop(job.number, None) is not None:
            lane.changed()
        job.result.cancel()

    def take(self, batch_tokens: int) -> list[Job]:
        """The next batch; empty where nothing waits."""
        queries, passages = self.queries.jobs, self.passages.jobs
        query = queries_next(len(queries), len(passages), self._query_batches, QUERY_BATCHES_IN_A_ROW)
        self._query_batches = self._query_batches + 1 if query else 0
        lane = self._lane(query)
        seen = [Waiting(job.number, len(job.tokens.ids)) for job in islice(lane.jobs.values(), WINDOW_TEXTS)]
        batch = [lane.jobs.pop(number) for number in next_batch(seen, batch_tokens)]
        lane.changed()
        if not queries and not passages:
            self.some.clear()
        return batch

    def take_all(self) -> list[Job]:
        """Empties both lanes."""
        jobs = [*self.queries.jobs.values(), *self.passages.jobs.values()]
        for lane in (self.queries, self.passages):
            lane.jobs.clear()
            lane.changed()
        self.some.clear()
        return jobs

    def _lane(self, query: bool) -> Lane:
        return self.queries if query else self.passages
