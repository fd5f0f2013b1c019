"""The simulated worker: when tokens come, who waits, and what its cache keeps."""

import math
import random

import pytest

from loadtest.sim_worker import BlockCache, Finished, FirstToken, Gpu, Job, SimWorker

GPU = Gpu(
    prefill_tokens_per_s=1000.0,
    step_s=0.01,
    sequence_s=0.001,
    step_tokens=100,
    max_running=2,
    max_waiting=2,
    block_tokens=10,
    cache_blocks=20,
)


def all_events(worker: SimWorker) -> list[FirstToken | Finished]:
    events = []
    while worker.next_s < math.inf:
        events += worker.advance(worker.next_s)
    return events


def test_times_of_one_answer() -> None:
    worker = SimWorker(GPU)
    assert worker.submit(Job(1, prompt_tokens=50, output_tokens=3), 1.0)
    # One step of prefill, which brings the first token, and two of decoding.
    first, last = all_events(worker)
    assert first == FirstToken(1, pytest.approx(1.0 + 0.01 + 0.05), 0)
    assert last == Finished(1, pytest.approx(1.06 + 2 * 0.011))
    assert worker.reading().step_count == 3


def test_speed_divides_every_time() -> None:
    fast, slow = SimWorker(GPU), SimWorker(Gpu(1000.0, 0.01, 0.001, 100, 2, 2, 10, 20, speed=0.25))
    for worker in (fast, slow):
        worker.submit(Job(1, 50, 3), 0.0)
    for quick, late in zip(all_events(fast), all_events(slow), strict=True):
        assert late.at_s == pytest.approx(4 * quick.at_s)


def test_a_long_prompt_is_prefilled_in_chunks_while_others_decode() -> None:
    worker = SimWorker(GPU)
    worker.submit(Job(1, 10, 100), 0.0)
    worker.advance(0.02)
    worker.submit(Job(2, 150, 1), 0.02)
    assert worker.produced(1) == 1
    worker.advance(0.4)
    # 10 ms of prefill, then steps of 99 and 51 prompt tokens beside the first answer's tokens.
    assert worker.produced(1) > 3
    assert worker.produced(2) == 0, "it has finished"


def test_tokens_under_way_are_counted_between_events() -> None:
    worker = SimWorker(GPU)
    worker.submit(Job(1, 10, 100), 0.0)
    assert worker.produced(1) == 0
    worker.advance(0.02)
    for steps in range(5):
        worker.advance(0.02 + steps * 0.011 + 1e-9)
        assert worker.produced(1) == 1 + steps


def test_places_and_bounds() -> None:
    worker = SimWorker(GPU)
    taken = [worker.submit(Job(key, 10, 5), 0.0) for key in range(5)]
    # The first has its place at once; the others wait for the step under way to end.
    assert taken == [True, True, True, False, False]
    worker.advance(0.03)
    assert (worker.reading().running, worker.reading().waiting) == (2, 1)
    assert not SimWorker(GPU).submit(Job(9, 190, 20), 0.0), "it would never fit"


def test_a_cancelled_job_frees_its_place() -> None:
    worker = SimWorker(GPU)
    for key in (1, 2, 3):
        worker.submit(Job(key, 10, 80 if key < 3 else 2), 0.0)
    events = worker.advance(0.5)
    assert {event.key for event in events} == {1, 2}
    worker.cancel(1, 0.5)
    assert Finished in {type(event) for event in worker.advance(1.0) if event.key == 3}
    assert worker.produced(1) == 0


def test_equal_prefixes_are_prefilled_once() -> None:
    worker = SimWorker(GPU)
    worker.submit(Job(1, 45, 1, (1, 2, 3, 4, 5)), 0.0)
    all_events(worker)
    worker.submit(Job(2, 45, 1, (1, 2, 3, 14, 15)), 1.0)
    first = all_events(worker)[0]
    assert first == FirstToken(2, pytest.approx(1.0 + 0.01 + 0.015), 30)


def test_a_prompt_that_is_cached_whole_still_computes_its_last_token() -> None:
    worker = SimWorker(GPU)
    for key in (1, 2):
        worker.submit(Job(key, 20, 1, (1, 2)), float(key))
        first = all_events(worker)[0]
    assert first == FirstToken(2, pytest.approx(2.0 + 0.01 + 0.001), 19)


def test_the_cache_evicts_the_least_recent_and_never_what_is_in_use() -> None:
    cache = BlockCache(6)
    assert cache.take((1, 2, 3), 0)
    cache.give_back((1, 2, 3), 3, 0)
    assert cache.take((11, 12), 1)
    assert cache.take((21,), 0)
    assert cache.matched((1, 2, 3)) == 2, "the end of the older prompt went first"
    assert not cache.take((31, 32, 33), 0), "four blocks are in use"
    assert cache.matched((11, 12)) == 2


def test_the_cache_keeps_its_bound_whatever_comes() -> None:
    for seed in range(20):
        rng, worker = random.Random(seed), SimWorker(GPU)
        now_s, ended, asked = 0.0, set[int](), set[int]()
        for key in range(200):
            now_s += rng.expovariate(20)
            ended |= {event.key for event in worker.advance(now_s) if isinstance(event, Finished)}
            start, blocks = rng.randrange(6) * 10, rng.randrange(1, 8)
            job = Job(key, blocks * 10, rng.randrange(1, 40), tuple(range(start, start + blocks)))
            if worker.submit(job, now_s):
                asked.add(key)
            if rng.random() < 0.1 and asked - ended:
                gone = rng.choice(sorted(asked - ended))
                worker.cancel(gone, now_s)
                asked.discard(gone)
            assert worker.cache.in_use <= len(worker.cache) <= GPU.cache_blocks
            assert worker.reading().running <= GPU.max_running
        ended |= {event.key for event in all_events(worker) if isinstance(event, Finished)}
        assert ended >= asked
        assert worker.cache.in_use == 0, "nothing is leaked"
