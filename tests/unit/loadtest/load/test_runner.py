"""The send loop: when requests leave, how a closed loop counts, and what a stop leaves."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from loadtest.load.client import Done
from loadtest.load.collect import Collector, Objectives
from loadtest.load.record import OK, UNANSWERED, Record, Request
from loadtest.load.runner import TURN, Clock, Runner


class Answers:
    """A client whose answers end after `length_s`; 0.0: never. Notes each when it was sent."""

    def __init__(self, now: Clock, length_s: float) -> None:
        self._now = now
        self._length_s = length_s
        self.sent: list[Record] = []
        self.arrived = asyncio.Event()

    async def open(self) -> None:
        """Nothing to connect."""

    def send(self, record: Record, done: Done) -> None:
        record.sent_s = self._now()
        self.sent.append(record)
        self.arrived.set()
        if self._length_s:
            asyncio.get_running_loop().call_later(self._length_s, self._end, record, done)

    def _end(self, record: Record, done: Done) -> None:
        record.token(self._now(), 0, 1)
        record.code, record.ended_s = OK, self._now()
        done(record)

    def cancel(self, record: Record) -> None:
        """It is left."""

    async def close(self) -> None:
        """Nothing to close."""


def _requests(count: int, every_s: float = 0.0) -> Iterator[Request]:
    for number in range(count):
        yield Request(number, number * every_s, (("user", "x"),), 1)


def _runner(length_s: float, drain_s: float = 5.0) -> tuple[Runner, Answers, Collector]:
    clock, collector = Clock(), Collector(Objectives())
    client = Answers(clock, length_s)
    return Runner(client, collector, clock, drain_s), client, collector


async def test_in_a_closed_loop_a_request_is_due_when_it_is_sent() -> None:
    runner, client, collector = _runner(0.02)
    await runner.closed_loop(2, _requests(10_000), 0.3)
    assert collector.whole.sent > 10
    assert collector.whole.ttft.max_s < 0.2
    assert collector.whole.lag.max_s < 0.05
    assert client.sent[-1].request.due_s > 0.2


async def test_what_the_first_request_takes_to_make_delays_nobody() -> None:
    def slow() -> Iterator[Request]:
        time.sleep(0.2)
        yield from _requests(3, 0.01)

    runner, _, collector = _runner(0.01)
    await runner.open_loop(slow())
    assert collector.whole.lag.max_s < 0.15


async def test_answers_are_read_while_a_schedule_is_behind() -> None:
    runner, client, collector = _runner(0.001)
    ended = []

    def watched() -> Iterator[Request]:
        for request in _requests(TURN * 4):
            ended.append(collector.whole.ok)
            time.sleep(0.0005)
            yield request

    await runner.open_loop(watched())
    assert ended[-1] > 0
    assert len(client.sent) == collector.whole.ok == TURN * 4


async def test_a_stop_sends_no_more_and_takes_what_is_under_way() -> None:
    runner, client, collector = _runner(0.1)
    task = asyncio.create_task(runner.open_loop(_requests(10_000, 0.06)))
    await client.arrived.wait()
    runner.stop()
    ran = await task
    assert collector.whole.ok == len(client.sent) < 10
    assert ran.unanswered == 0
    assert ran.stopped_s is not None


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
async def test_a_second_stop_leaves_what_is_under_way(closed: bool) -> None:
    runner, client, collector = _runner(0.0, drain_s=60.0)
    work = runner.closed_loop(3, _requests(99), 30.0) if closed else runner.open_loop(_requests(99, 0.06))
    task = asyncio.create_task(work)
    await client.arrived.wait()
    runner.stop()
    await asyncio.sleep(0)
    runner.stop()
    async with asyncio.timeout(5):
        ran = await task
    assert ran.unanswered == len(client.sent) == collector.whole.codes[UNANSWERED]
