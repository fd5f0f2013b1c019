"""Runs a load test: sends each request when it is due, whatever the answers do, and collects what comes of them."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice

from loadtest.load.client import Client
from loadtest.load.collect import Collector
from loadtest.load.own_cost import OwnCost, Probe
from loadtest.load.record import UNANSWERED, Record, Request

TICK_S = 0.001
"""Requests that are due within this of each other leave together."""
TURN = 64
"""Requests that are late leave in groups of so many, between which answers are read."""
OnTick = Callable[[float, int], None]
"""Told a few times a second how far the run is (seconds), and how many answers are under way."""


class Clock:
    """Seconds since the run began, and what moment of the wall clock that was."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self.wall_s = time.time()

    def __call__(self) -> float:
        return time.perf_counter() - self.began_s

    def restart(self) -> None:
        """The run begins now."""
        self.began_s, self.wall_s = time.perf_counter(), time.time()


@dataclass(frozen=True, slots=True)
class Ran:
    """A run that is over: what it cost its generator, and how long it took from the first request to the last end.

    `stopped_s` is when it was told to send no more; None where it went on to its end.
    """

    cost: OwnCost
    elapsed_s: float
    unanswered: int
    stopped_s: float | None = None


class Runner:
    """One run. Answers that have not ended `drain_s` after the last request are left and counted as UNANSWERED."""

    def __init__(self, client: Client, collector: Collector, clock: Clock, drain_s: float = 60.0) -> None:
        self._client = client
        self._collector = collector
        self._clock = clock
        self._drain_s = drain_s
        self._under_way: dict[int, Record] = {}
        self._idle = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped_s: float | None = None

    def __repr__(self) -> str:
        return f"Runner(under_way={len(self._under_way)})"

    @property
    def under_way(self) -> int:
        """Answers that have not ended."""
        return len(self._under_way)

    def stop(self) -> None:
        """Sends no more; what is under way goes on. Told a second time, it leaves that too."""
        if self._stopped.is_set():
            self._idle.set()
            return
        self._stopped_s = self._clock()
        self._stopped.set()

    async def open_loop(self, requests: Iterable[Request], on_tick: OnTick | None = None) -> Ran:
        """Sends each request when it is due. They have to come in order of `due_s`; none waits for another."""
        source = _begun(requests, 1)
        async with self._measured(on_tick) as finish:
            clock, late = self._clock, 0
            for request in source:
                wait_s = request.due_s - clock()
                if wait_s > TICK_S:
                    await self._pause(wait_s)
                    late = 0
                elif (late := late + 1) % TURN == 0:
                    # A schedule that the generator cannot keep must not keep it from reading what comes.
                    await asyncio.sleep(0)
                if self._stopped.is_set():
                    break
                self._send(request)
            await finish()
        return self._ran

    async def closed_loop(
        self, users: int, requests: Iterable[Request], length_s: float, on_tick: OnTick | None = None
    ) -> Ran:
        """So many users, each with the next request as soon as it has its answer. `due_s` is then when it was sent.

        A closed loop hides slow answers, since it sends less while they last: for comparing with tools that do this.
        """
        source = _begun(requests, users)
        async with self._measured(on_tick) as finish:

            def again(record: Record) -> None:
                if self._ended(record) and self._clock() < length_s and not self._stopped.is_set():
                    follow()

            def follow() -> None:
                request = next(source, None)
                if request is not None:
                    self._send(replace(request, due_s=self._clock()), again)

            for _ in range(users):
                follow()
            await self._pause(length_s)
            await finish()
        return self._ran

    async def _pause(self, wait_s: float) -> None:
        """Waits, unless the run is stopped first."""
        if wait_s < 0.05:
            await asyncio.sleep(wait_s)
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._stopped.wait()
        except TimeoutError:
            return

    def _send(self, request: Request, done: Callable[[Record], object] | None = None) -> None:
        record = Record(request)
        self._under_way[request.number] = record
        self._idle.clear()
        self._client.send(record, done or self._ended)

    def _ended(self, record: Record) -> bool:
        """Takes an answer that has ended; False for one that was left before."""
        if self._under_way.pop(record.request.number, None) is None:
            return False
        self._collector.take(record)
        if not self._under_way:
            self._idle.set()
        return True

    @asynccontextmanager
    async def _measured(self, on_tick: OnTick | None) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Counts the cost, keeps the timeline, and ends what is left."""
        probe = Probe()
        gc.collect()
        gc.freeze()
        self._clock.restart()
        probe.start()
        ticker = asyncio.create_task(self._tick(on_tick))
        unanswered = 0

        async def finish() -> None:
            if self._under_way:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._drain_s):
                        await self._idle.wait()

        try:
            yield finish
        finally:
            if self._under_way:
                unanswered = self._abandon()
            elapsed_s = self._clock()
            ticker.cancel()
            await asyncio.wait([ticker])
            self._collector.slice_at(elapsed_s).in_flight = unanswered
            cost = await probe.stop()
            gc.unfreeze()
            self._ran = Ran(cost, elapsed_s, unanswered, self._stopped_s)

    def _abandon(self) -> int:
        left, self._under_way = list(self._under_way.values()), {}
        for record in left:
            self._client.cancel(record)
            record.code, record.detail = UNANSWERED, "it had not ended when the run did"
            record.ended_s = self._clock()
            self._collector.take(record)
        self._idle.set()
        return len(left)

    async def _tick(self, on_tick: OnTick | None) -> None:
        """Notes how many answers are under way, at the end of each slice and for whoever watches."""
        while True:
            await asyncio.sleep(0.25)
            now_s = self._clock()
            self._collector.slice_at(now_s).in_flight = len(self._under_way)
            if on_tick is not None:
                on_tick(now_s, len(self._under_way))


def _begun(requests: Iterable[Request], count: int) -> Iterator[Request]:
    """The same requests, the first of them made already: what that takes would else make them late."""
    source = iter(requests)
    first = list(islice(source, count))
    return chain(first, source)
