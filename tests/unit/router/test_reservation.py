"""What is placed on a worker against what it reports: nothing is counted twice, forgotten, or below zero."""

import random

from services.router.core import reservation
from services.router.core.rates import Rates, Speed
from services.router.core.reservation import Reservation, Standing
from services.router.core.table import WorkerTable
from services.router.core.worker import Hello, Load, Worker

HELLO = Hello("w1", "one", "m", "fake", 4, 2, 100)


def table_with(hello: Hello = HELLO) -> tuple[WorkerTable, Worker]:
    table = WorkerTable(8)
    table.announce(hello.worker_id, "a:1", 0.0)
    row = table.link_up(hello.worker_id, hello, 0.0)
    assert isinstance(row, Worker)
    return table, row


def test_a_request_moves_from_the_routers_count_to_the_workers() -> None:
    table, row = table_with()
    table.report("w1", Load(running=2, queued_tokens=100))
    found = table.reserve("w1", uncached_tokens=50)
    assert (row.busy, row.pending_tokens) == (3, 150)
    table.report("w1", Load(running=2, queued_tokens=90))
    assert (row.busy, row.pending_tokens) == (3, 140), "a report without an acknowledgement does not hold it"
    reservation.started(found, 60)
    assert (row.busy, row.pending_tokens) == (3, 150), "the worker counted the prompt, and has not reported it yet"
    table.report("w1", Load(running=3, queued_tokens=60))
    assert (row.busy, row.pending_tokens) == (3, 60)
    table.release(found, finished=True)
    table.report("w1", Load(running=2))
    assert (row.busy, row.pending_tokens) == (2, 0)


def test_a_worker_that_counts_no_queue_is_counted_for() -> None:
    table, row = table_with()
    first, second = table.reserve("w1", 50), table.reserve("w1", 70)
    for found in (first, second):
        reservation.started(found, found.uncached_tokens)
    table.report("w1", Load(running=2))
    assert row.pending_tokens == 120
    reservation.first_token(first)
    assert row.pending_tokens == 70
    table.release(second, finished=False)
    assert row.pending_tokens == 0


def test_busy_is_never_less_than_what_the_router_placed() -> None:
    table, row = table_with()
    found = [table.reserve("w1") for _ in range(3)]
    for one in found:
        reservation.started(one, 0)
    table.report("w1", Load(running=1))
    assert row.busy == 3


def test_speed_is_learned_from_what_was_ahead_and_its_own_prompt() -> None:
    table, _ = table_with()
    first = table.reserve("w1", 1000, now_s=0.0)
    second = table.reserve("w1", 3000, now_s=0.0)
    assert reservation.first_token(first) == 1000
    assert reservation.first_token(second) == 4000
    assert reservation.first_token(second) == 0, "a first token comes once"


def test_a_wait_for_a_place_says_nothing_of_prefill() -> None:
    table, _ = table_with()
    for _ in range(4):
        table.reserve("w1", 10)
    assert reservation.first_token(table.reserve("w1", 1000)) == 0


def test_a_new_process_is_learned_anew() -> None:
    table, row = table_with()
    table.prefixes.store("w1", (1, 2))
    old = table.reserve("w1", 1000)
    reservation.first_token(old)
    row.rates.prefilled(1000, 1.0, 1.0, Speed(0.0, 1e-4))
    table.link_down("w1", "gone", 2.0)
    table.link_up("w1", HELLO, 3.0)
    assert table.prefixes.blocks("w1") == 2, "the same process on a new link still has its cache"
    table.link_down("w1", "gone", 4.0)
    table.link_up("w1", Hello("w1", "two", "m", "fake", 4, 2, 100), 5.0)
    assert (table.prefixes.blocks("w1"), row.rates) == (0, Rates())
    table.release(old, finished=False)
    assert (row.in_flight, row.busy, row.pending_tokens) == (0, 0, 0)


def test_counts_are_the_sum_of_what_is_held_whatever_the_order() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        table, row = table_with()
        held: list[Reservation] = []
        for step in range(400):
            match rng.randrange(7):
                case 0 | 1:
                    held.append(table.reserve("w1", rng.randrange(-5, 500), rng.randrange(500), step))
                case 2 if held:
                    reservation.started(rng.choice(held), rng.randrange(-5, 600))
                case 3 if held:
                    reservation.first_token(rng.choice(held))
                case 4:
                    table.report("w1", Load(rng.randrange(5), rng.randrange(3), rng.randrange(1000)))
                case 5 if held:
                    gone = held.pop(rng.randrange(len(held)))
                    for _ in range(rng.randrange(1, 3)):
                        table.release(gone, finished=rng.choice([True, False, None]))
                    reservation.started(gone, 100)
                    reservation.first_token(gone)
                case 6 if not rng.randrange(20):
                    table.link_down("w1", "cut", step)
                    table.link_up("w1", HELLO, step)
            unreported = [one for one in held if one.standing is not Standing.REPORTED]
            assert row.in_flight == len(held)
            assert row.unreported == len(unreported)
            assert row.unreported_tokens == sum(one.uncached_tokens for one in unreported if not one.prefilled)
            assert row.prefill_tokens == sum(one.uncached_tokens for one in held if not one.prefilled)
            assert row.output_tokens == sum(one.output_tokens for one in held)
            assert set(row.acknowledged) == {one for one in held if one.standing is Standing.ACKNOWLEDGED}
            assert row.busy >= row.in_flight
            assert row.pending_tokens >= 0
