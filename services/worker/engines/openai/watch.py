"""Watches an upstream: whether it is well, the same as before, and how busy it says it is."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from services.kit.errors import WeftError
from services.worker.engines.http import HttpClient
from services.worker.engines.openai.dialect import Gauges
from services.worker.engines.openai.probe import Upstream


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. `moved` is whether its engine worked since the last one; without gauges, that it answered."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    moved: bool = False
    steps: float = 0.0


class Watch:
    """Looks every `every_s`. `read` hears of each good look, `broke` of each bad one, with the reason."""

    def __init__(
        self,
        client: HttpClient,
        upstream: Upstream,
        probe: Callable[[], Awaitable[Upstream]],
        *,
        every_s: float,
        timeout_s: float,
        read: Callable[[Reading], None],
        broke: Callable[[str], None],
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._probe = probe
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._read = read
        self._broke = broke
        self._away = False
        self._steps = 0.0
        self._log = structlog.get_logger("openai")

    def __repr__(self) -> str:
        return f"Watch({self._upstream.dialect.name} away={self._away})"

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                async with asyncio.timeout(self._timeout_s):
                    reading = await self._look()
            except TimeoutError:
                self._lost(f"the upstream did not answer within {self._timeout_s:g} s")
            except WeftError as error:
                self._lost(error.message)
            except Exception as caught:
                # Without its watch a worker that is broken would never work again.
                self._log.error("watching failed", exc_info=caught)
                self._lost("the upstream's health cannot be read; the worker's log has the details")
            else:
                self._read(reading)

    def _lost(self, why: str) -> None:
        self._away = True
        self._broke(why)

    async def _look(self) -> Reading:
        await self._client.get_text(self._upstream.dialect.health)
        if self._away:
            await self._meet_again()
        if not self._upstream.gauges:
            return Reading(moved=True)
        reading = read_gauges(await self._client.get_text("/metrics"), self._upstream.dialect.gauges, self._steps)
        self._steps = reading.steps
        return reading

    async def _meet_again(self) -> None:
        """Raises WeftError where what came back is another server: answers must not go on with another model."""
        found = await self._probe()
        if found.identity != self._upstream.identity:
            was, now = " ".join(self._upstream.identity), " ".join(found.identity)
            raise WeftError(f"another server has come back ({now} in place of {was}): start this worker again")
        self._away = False


def read_gauges(text: str, gauges: Gauges, steps_before: float) -> Reading:
    """Reads Prometheus' text format: series of several engines are added up, their cache usage is the highest."""
    running = waiting = steps = kv_usage = 0.0
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name == gauges.running:
            running += _value(line)
        elif name == gauges.waiting:
            waiting += _value(line)
        elif name == gauges.kv_usage:
            kv_usage = max(kv_usage, _value(line))
        elif name in gauges.steps:
            steps += _value(line)
    return Reading(int(running), int(waiting), min(1.0, kv_usage), steps != steps_before, steps)


def _value(line: str) -> float:
    """A series' value; the format allows a time after it, which none of these servers sends. 0 where it is no number.

    Prometheus writes NaN and +Inf too.
    """
    try:
        value = float(line.rsplit(" ", 1)[1])
    except (ValueError, IndexError):
        return 0.0
    return max(0.0, value) if math.isfinite(value) else 0.0
