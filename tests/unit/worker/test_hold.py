"""How long a server that is full is left alone: its own word within bounds, and what the load says meanwhile."""

import pytest

from services.kit.errors import Exhausted
from services.worker.engines.hold import HOLD_LIMIT_S, HOLD_S, Hold


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("said_s", "left_s"),
    [
        pytest.param(None, HOLD_S, id="it does not say"),
        pytest.param(0.0, HOLD_S, id="at once"),
        pytest.param(7.0, 7.0, id="its word"),
        pytest.param(3600.0, HOLD_LIMIT_S, id="an hour"),
    ],
)
def test_how_long(said_s: float | None, left_s: float) -> None:
    clock = Clock()
    hold = Hold("the server", "SERVER_FULL", 4, 8, clock)
    assert (hold.left_s, hold.fill(1, 2)) == (0.0, (1, 2))
    hold.refused(Exhausted("full", retry_delay_s=said_s))
    assert (hold.left_s, hold.fill(1, 2), hold.fill(9, 9)) == (left_s, (4, 8), (9, 9))
    error = hold.error()
    assert (error.reason, error.retry_delay_s) == ("SERVER_FULL", left_s)
    clock.now_s += left_s
    assert (hold.left_s, hold.fill(1, 2)) == (0.0, (1, 2))


def test_a_shorter_word_takes_nothing_back() -> None:
    hold = Hold("the server", "SERVER_FULL", 4, 8, Clock())
    hold.refused(Exhausted("full", retry_delay_s=9.0))
    hold.refused(Exhausted("full", retry_delay_s=1.0))
    assert hold.left_s == 9.0
