"""When requests are due."""

import random
from itertools import pairwise

import pytest

from loadtest.load import schedule
from loadtest.load.schedule import Phase, WrongSchedule


def test_steps_are_read() -> None:
    assert schedule.phases("10:20,0.5:4") == [Phase(10.0, 20.0, "1: 10/s"), Phase(0.5, 4.0, "2: 0.5/s")]


@pytest.mark.parametrize("text", ["", "10", "10:", "a:1", "10:0", "-1:5", "10:1:2", "1e9:1", "nan:1", "10:inf"])
def test_wrong_steps_say_what_to_write(text: str) -> None:
    with pytest.raises(WrongSchedule, match="RATE:SECONDS"):
        schedule.phases(text)


def test_constant_arrivals_are_equally_far_apart() -> None:
    times = [at_s for at_s, _ in schedule.constant([Phase(4.0, 2.0, "a"), Phase(1.0, 2.0, "b")])]
    assert times == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0]


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    times = [at_s for at_s, _ in schedule.poisson([Phase(100.0, 100.0)], random.Random(7))]
    gaps = [b - a for a, b in pairwise(times)]
    assert len(times) == pytest.approx(10_000, rel=0.05)
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    # An exponential distribution's deviation is its mean.
    assert deviation == pytest.approx(mean, rel=0.05)


def test_a_phase_without_requests_passes() -> None:
    times = schedule.poisson([Phase(0.0, 5.0), Phase(1000.0, 0.01)], random.Random(1))
    assert next(times)[0] >= 5.0
    assert list(schedule.constant([Phase(0.0, 5.0)])) == []


def test_bursts_come_at_the_beginning_of_each_second() -> None:
    times = [at_s for at_s, _ in schedule.burst([Phase(3.0, 2.5, "a"), Phase(2.0, 1.0, "b")])]
    assert times == [0.0] * 3 + [1.0] * 3 + [2.0] * 2 + [2.5] * 2
