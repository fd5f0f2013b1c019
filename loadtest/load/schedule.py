"""When requests are to be sent: pure functions from a rate to moments in time."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile


class WrongSchedule(ValueError):
    """A schedule that cannot be; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run at one rate. `group` names it in the figures."""

    rate_per_s: float
    length_s: float
    group: str = ""


def phases(text: str) -> list[Phase]:
    """`20:30` is 20 requests a second for 30 s; several with commas between are steps: `10:20,40:20,10:20`."""
    found = []
    for number, part in enumerate(text.split(","), 1):
        rate, colon, length = part.partition(":")
        try:
            phase = Phase(float(rate), float(length), f"{number}: {float(rate):g}/s")
        except ValueError:
            phase = None
        if phase is None or not colon or not (0 <= phase.rate_per_s <= 1e6 and 0 < phase.length_s <= 86_400):
            raise WrongSchedule(f"{part!r} is no RATE:SECONDS, such as 20:30 for 20 requests a second during 30 s")
        found.append(phase)
    return found


def constant(steps: list[Phase]) -> Iterator[tuple[float, str]]:
    """Requests at equal distances: the time of each in seconds, and its phase's name."""
    start_s = 0.0
    for phase in steps:
        for number in range(round(phase.rate_per_s * phase.length_s)):
            yield start_s + number / phase.rate_per_s, phase.group
        start_s += phase.length_s


def poisson(steps: list[Phase], rng: random.Random) -> Iterator[tuple[float, str]]:
    """Requests of many callers who know nothing of each other: exponential distances, the rate on average."""
    start_s = 0.0
    for phase in steps:
        if phase.rate_per_s:
            times_s = _exponential(phase.rate_per_s, rng)
            for at_s in takewhile(lambda at_s, end_s=phase.length_s: at_s < end_s, times_s):  # type: ignore[misc]
                yield start_s + at_s, phase.group
        start_s += phase.length_s


def _exponential(rate_per_s: float, rng: random.Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        at_s += rng.expovariate(rate_per_s)
        yield at_s


def burst(steps: list[Phase]) -> Iterator[tuple[float, str]]:
    """All requests of each second at its beginning, at once."""
    start_s = 0.0
    for phase in steps:
        sent = 0
        for second in range(math.ceil(phase.length_s)):
            until = round(phase.rate_per_s * min(phase.length_s, second + 1))
            for _ in range(sent, until):
                yield start_s + second, phase.group
            sent = until
        start_s += phase.length_s
