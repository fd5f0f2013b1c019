"""One run from a scenario to its outcome: opens the client, looks at the mesh, sends, and closes everything."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from loadtest.load.client import Target
from loadtest.load.clients import open_client
from loadtest.load.collect import Collector
from loadtest.load.record import OK, Record, Request
from loadtest.load.results import Happening, Outcome
from loadtest.load.runner import Clock, OnTick, Runner
from loadtest.load.scenario import Scenario
from loadtest.load.watch import Watch
from services.cli.checks import raise_file_limit

WARM_REQUESTS = 8
WARM_TOKENS = 4
WARM_LIMIT_S = 30.0

Faults = Callable[[Clock, list[Happening]], Awaitable[None]]
"""Does things to the mesh while the load runs, and notes each; cancelled when the load is over."""


class NoTarget(RuntimeError):
    """The target does not answer; the message says what it said."""


async def drive(
    scenario: Scenario,
    target: Target,
    *,
    name: str = "run",
    requests: Iterable[Request] | None = None,
    pids: Mapping[str, int] | None = None,
    watch: str = "",
    faults: Faults | None = None,
    on_tick: OnTick | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Outcome:
    """Runs it. `requests` replace the scenario's own; `watch` is a gRPC address that knows workers and queues.

    Ctrl-C, SIGTERM or SIGHUP ends the sending, and what came so far is the outcome; a second one leaves the answers
    that are under way. Raises NoTarget where a few answers to warm up with do not come.
    """
    raise_file_limit()
    clock = Clock()
    collector = Collector(scenario.objectives)
    client = open_client(scenario.transport, target, clock)
    happenings: list[Happening] = []
    try:
        await client.open()
    except (OSError, TimeoutError) as error:
        raise NoTarget(f"nothing answers at {target.authority}: {error or type(error).__name__}") from error
    try:
        await warm(client.send, scenario)
        runner = Runner(client, collector, clock, scenario.drain_s)
        looking = Watch(watch, clock, pids or {}, target.headers)
        looking.start()
        try:
            with _stoppable(runner):
                async with _meanwhile(faults, clock, happenings):
                    source = scenario.requests() if requests is None else requests
                    if scenario.users:
                        ran = await runner.closed_loop(scenario.users, source, scenario.length_s, on_tick)
                    else:
                        ran = await runner.open_loop(source, on_tick)
        finally:
            seen = await looking.stop()
    finally:
        await client.close()
        # A transport closes in the loop's next turn.
        await asyncio.sleep(0)
    return Outcome(name, scenario, collector, ran, seen, target.authority, clock.wall_s, tuple(happenings), extra or {})


async def warm(send: Callable[[Record, Callable[[Record], None]], None], scenario: Scenario) -> None:
    """A few short answers that are not counted: connections are open then, and lazy things done."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[Record]] = []
    for number in range(WARM_REQUESTS):
        future: asyncio.Future[Record] = loop.create_future()
        waiting.append(future)
        send(Record(Request(-1 - number, 0.0, (("user", f"warm {number}"),), WARM_TOKENS)), future.set_result)
    try:
        async with asyncio.timeout(WARM_LIMIT_S):
            answers = await asyncio.gather(*waiting)
    except TimeoutError as error:
        raise NoTarget(f"the target gave no answer to warm up with in {WARM_LIMIT_S:g} s") from error
    failed: Sequence[Record] = [answer for answer in answers if answer.code != OK]
    if len(failed) == len(answers):
        raise NoTarget(f"the target answers with {failed[0].code}: {failed[0].detail}")


@contextmanager
def _stoppable(runner: Runner) -> Iterator[None]:
    """Signals stop the run rather than the program, so that it leaves what it has."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, runner.stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _meanwhile(faults: Faults | None, clock: Clock, happenings: list[Happening]) -> AsyncIterator[None]:
    if faults is None:
        yield
        return
    task: asyncio.Future[None] = asyncio.ensure_future(faults(clock, happenings))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
