"""The queue: one test per rule, and seeded runs for what has to hold always."""

import random
from collections import Counter

import pytest

from services.router.core.admit import TENANTS_KEPT, AdmissionQueue, Joined, QueueFull, QueueLimits, Ticket, Why
from services.router.core.chat import Priority

N, B, I, R = Priority.NORMAL, Priority.BATCH, Priority.INTERACTIVE, Priority.RECOVERING  # noqa: E741 - a table's columns


def queue(requests: int = 100, tokens: int = 10_000, wait_s: float = 60.0) -> AdmissionQueue:
    return AdmissionQueue(QueueLimits(requests, tokens, wait_s))


def join(q: AdmissionQueue, tenant: str = "", priority: Priority = N, tokens: int = 10, now_s: float = 0.0) -> Ticket:
    found = q.join(priority, tenant, tokens, now_s, 1e9)
    assert isinstance(found, Joined), found
    return found.ticket


def order(q: AdmissionQueue) -> list[str]:
    """Who is served, in order."""
    served = []
    while len(q):
        ticket = next(iter(q))
        served.append(ticket.tenant)
        q.served(ticket, 0.0)
    return served


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        pytest.param([("a", N, 10), ("b", B, 10), ("c", I, 10), ("d", R, 10)], "dcab", id="a higher class goes first"),
        pytest.param([("a", N, 10)] * 3 + [("b", N, 10)] * 3, "ababab", id="equal tenants take turns"),
        pytest.param([("a", N, 30)] * 2 + [("b", N, 10)] * 4, "abbbab", id="turns are by tokens, not by requests"),
        pytest.param([("a", N, 10)] * 4, "aaaa", id="one tenant is first come, first served"),
    ],
)
def test_order(arrivals: list[tuple[str, Priority, int]], expected: str) -> None:
    q = queue()
    for tenant, priority, tokens in arrivals:
        join(q, tenant, priority, tokens)
    assert "".join(order(q)) == expected


def test_tenant_that_comes_late_is_not_owed_the_past() -> None:
    q = queue()
    for _ in range(6):
        join(q, "a")
    for _ in range(3):
        q.served(next(iter(q)), 0.0)
    for _ in range(3):
        join(q, "b")
    assert "".join(order(q)) == "bababa"


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        pytest.param({"requests": 2}, Why.REQUESTS, id="by requests"),
        pytest.param({"tokens": 25}, Why.TOKENS, id="by tokens"),
    ],
)
def test_full_queue_refuses(limits: dict[str, int], why: Why) -> None:
    q = queue(**limits)
    join(q)
    join(q)
    assert q.join(N, "", 10, 0.0, 1e9) == QueueFull(why, None)
    assert (len(q), q.tokens) == (2, 20)


def test_batch_work_gives_way_to_a_person() -> None:
    q = queue(requests=2)
    join(q, "old", B)
    newest = join(q, "new", B)
    found = q.join(I, "p", 10, 0.0, 1e9)
    assert isinstance(found, Joined)
    assert found.displaced == (newest,)
    assert order(q) == ["p", "old"]


def test_one_tenant_cannot_shut_others_out() -> None:
    q = queue(requests=3)
    tickets = [join(q, "greedy") for _ in range(3)]
    found = q.join(N, "modest", 10, 0.0, 1e9)
    assert isinstance(found, Joined)
    assert found.displaced == (tickets[-1],)
    assert isinstance(q.join(N, "greedy", 10, 0.0, 1e9), QueueFull)
    assert isinstance(q.join(N, "modest", 10, 0.0, 1e9), QueueFull), "two to one is as even as three places get"


def test_request_larger_than_the_bound_displaces_nobody() -> None:
    q = queue(tokens=100)
    for _ in range(5):
        join(q, "a", B, 10)
    assert isinstance(q.join(I, "p", 1000, 0.0, 1e9), QueueFull)
    assert len(q) == 5


def test_places_lapse_at_the_earlier_of_deadline_and_longest_wait() -> None:
    q = queue(wait_s=5.0)
    early = q.join(N, "a", 1, 0.0, 3.0)
    late = q.join(N, "b", 1, 0.0, 9.0)
    assert isinstance(early, Joined)
    assert isinstance(late, Joined)
    assert (early.ticket.expires_s, late.ticket.expires_s) == (3.0, 5.0)


def test_expected_wait_follows_the_pace() -> None:
    q = queue()
    tickets = [join(q) for _ in range(10)]
    assert q.expected_wait_s(1) is None
    for second in range(5):
        q.served(tickets[second], float(second))
    assert q.expected_wait_s(3) == pytest.approx(3.0)
    assert q.position(tickets[5].number) == 1
    assert q.position(tickets[0].number) == 0


def test_pace_is_not_learned_from_times_without_a_queue() -> None:
    q = queue()
    q.served(join(q), 0.0)
    q.served(join(q, now_s=100.0), 100.0)
    assert q.expected_wait_s(1) is None


@pytest.mark.parametrize("seed", range(5))
def test_backlogged_tenants_get_equal_tokens_within_two_requests(seed: int) -> None:
    chance = random.Random(seed)
    q = queue(requests=1000, tokens=10**9)
    largest, served = 50, Counter[str]()
    sizes = {"a": 50, "b": 10, "c": 30}
    for tenant, size in sizes.items():
        for _ in range(20):
            join(q, tenant, tokens=chance.randint(1, size))
    for _ in range(400):
        ticket = next(iter(q))
        q.served(ticket, 0.0)
        served[ticket.tenant] += ticket.tokens
        join(q, ticket.tenant, tokens=chance.randint(1, sizes[ticket.tenant]))
        assert max(served.values()) - min(served[t] for t in sizes) <= 2 * largest + largest


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_and_nothing_is_lost_or_served_twice(seed: int) -> None:
    chance = random.Random(seed)
    q, now_s = queue(requests=20, tokens=500, wait_s=10.0), 0.0
    inside: dict[int, Ticket] = {}
    for _ in range(3000):
        now_s += chance.random()
        match chance.randrange(4):
            case 0 | 1:
                found = q.join(
                    chance.choice(list(Priority)), chance.choice("abcd"), chance.randint(1, 80), now_s, now_s + 20
                )
                if isinstance(found, Joined):
                    inside[found.ticket.number] = found.ticket
                    for ticket in found.displaced:
                        del inside[ticket.number]
            case 2 if len(q):
                ticket = next(iter(q))
                q.served(ticket, now_s)
                del inside[ticket.number]
            case _:
                for ticket in [ticket for ticket in q if ticket.expires_s <= now_s]:
                    q.leave(ticket.number)
                    del inside[ticket.number]
        assert {t.number for t in q} == set(inside)
        assert len(q) == len(inside) <= 20
        assert q.tokens == sum(t.tokens for t in inside.values()) <= 500


def test_place_that_is_given_up_is_not_paid_for() -> None:
    q = queue()
    for _ in range(20):
        q.leave(join(q, "a", tokens=100).number)
    join(q, "b")
    join(q, "a")
    join(q, "b")
    assert "".join(order(q)) == "bab"


def test_what_is_kept_of_tenants_is_bounded() -> None:
    q = queue()
    for number in range(10_000):
        ticket = join(q, f"tenant {number}")
        q.leave(ticket.number) if number % 2 else q.served(ticket, 0.0)
    kept = q._classes[N].finish
    assert len(kept) <= 2 * TENANTS_KEPT + 1


def test_one_large_request_may_displace_many_at_once() -> None:
    q = queue(requests=1000, tokens=10_000)
    for _ in range(1000):
        join(q, "b", B, 10)
    found = q.join(I, "p", 5000, 0.0, 1e9)
    assert isinstance(found, Joined)
    assert len(found.displaced) == 500
    assert q.tokens == 10_000
