"""Breaker, retry budget and pulse: timelines of what happens and what follows."""

import pytest

from services.router.core.breaker import TRANSITIONS, Breaker, BreakerLimits, BreakerState
from services.router.core.budget import RetryBudget
from services.router.core.health import Heartbeat, Pulse, PulseLimits


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(BreakerLimits(failures=2, open_s=1.0, longest_open_s=3.0))
    breaker.failed(now_s)
    breaker.failed(now_s)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_failures_in_a_row_open_it_and_a_success_starts_the_count_anew() -> None:
    breaker = Breaker(BreakerLimits(failures=2))
    for _ in range(5):
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.lets_through(0.0)


def test_half_open_lets_one_through() -> None:
    breaker = opened()
    assert not breaker.lets_through(0.9)
    assert breaker.lets_through(1.0)
    breaker.placed(1.0)
    assert not breaker.lets_through(1.1)
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_failed_probes_double_the_time_up_to_the_longest() -> None:
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(4):
        opened_s = now_s
        while not breaker.lets_through(now_s):
            now_s += 0.25
        waits.append(now_s - opened_s)
        breaker.placed(now_s)
        breaker.failed(now_s)
    assert waits == [1.0, 2.0, 3.0, 3.0]


def test_probe_that_proves_nothing_leaves_room_for_the_next() -> None:
    breaker = opened()
    assert breaker.lets_through(1.0)
    breaker.placed(1.0)
    breaker.neither()
    assert breaker.lets_through(1.0)


def test_probe_that_never_ends_makes_way_for_another() -> None:
    breaker = opened()
    assert breaker.lets_through(1.0)
    breaker.placed(1.0)
    assert not breaker.lets_through(3.9)
    assert breaker.lets_through(4.0)


def test_every_state_has_a_way_out() -> None:
    assert {state for state, _ in TRANSITIONS} == set(BreakerState)


def test_budget_is_a_share_of_recent_requests() -> None:
    budget = RetryBudget(share=0.25, per_s=0.0, window_s=10.0)
    for _ in range(40):
        budget.request(0.0)
    assert sum(budget.retry(0.0) for _ in range(50)) == 10
    for _ in range(8):
        budget.request(1.0)
    assert sum(budget.retry(1.0) for _ in range(50)) == 2


def test_budget_has_a_floor_for_quiet_times() -> None:
    budget = RetryBudget(share=0.2, per_s=1.0, window_s=10.0)
    assert sum(budget.retry(0.0) for _ in range(50)) == 10
    assert sum(budget.retry(3.0) for _ in range(50)) == 3


def test_budget_does_not_save_up_the_distant_past() -> None:
    budget = RetryBudget(share=0.2, per_s=1.0, window_s=10.0)
    for _ in range(1000):
        budget.request(0.0)
    assert sum(budget.retry(60.0) for _ in range(500)) == 10


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([(0, 5, True), (4.9, 5, True)], Pulse.WELL, id="work and no step for less than the limit"),
        pytest.param([(0, 5, True), (5.1, 5, True)], Pulse.STALLED, id="work and no step for longer"),
        pytest.param([(0, 5, True), (4, 6, True), (8, 7, True)], Pulse.WELL, id="slow is not hung"),
        pytest.param([(0, 5, False), (50, 5, False)], Pulse.WELL, id="idle steps need not move"),
        pytest.param([(0, 5, False), (50, 5, True)], Pulse.WELL, id="the clock starts with the work"),
        pytest.param([(0, 5, True), (5.1, 5, True), (5.2, 6, True)], Pulse.WELL, id="well again once it steps"),
        pytest.param([(0, 5, True), (5.1, 5, True), (6, 5, False)], Pulse.STALLED, id="suspect until it steps"),
        pytest.param([(0, 5, True), (5.1, 5, True), (35.2, 5, False)], Pulse.WELL, id="may prove itself later"),
        pytest.param([(0, 5, True), (6, None, True), (7, 5, False)], Pulse.WELL, id="back after silence, idle"),
        pytest.param([(0, 5, True), (6, None, True), (7, 5, True)], Pulse.WELL, id="back after silence, at work"),
        pytest.param(
            [(0, 5, True), (6, None, True), (7, 5, True), (12.1, 5, True)], Pulse.STALLED, id="back and hung again"
        ),
        pytest.param([(0, 5, True), (3, None, True)], Pulse.SILENT, id="not heard from"),
        pytest.param([(0, 5, True), (6, None, True)], Pulse.STALLED, id="silence with work is a stall in the end"),
    ],
)
def test_pulse(events: list[tuple[float, int | None, bool]], expected: Pulse) -> None:
    heart = Heartbeat(PulseLimits(silent_s=1.0, stall_s=5.0), 0.0, 0.0)
    found = Pulse.WELL
    for now_s, steps, has_work in events:
        if steps is not None:
            heart.stepped(steps, now_s)
        found = heart.check(has_work, now_s)
    assert found is expected


def test_engine_that_takes_long_steps_is_given_the_time() -> None:
    heart = Heartbeat(PulseLimits(stall_s=5.0), longest_step_s=60.0, now_s=0.0)
    heart.stepped(1, 0.0)
    heart.check(True, 0.0)
    heart.stepped(1, 50.0)
    assert heart.check(True, 50.0) is Pulse.WELL
    assert heart.check(True, 60.0) is Pulse.STALLED
