"""Scores: one row per rule of each policy, and what holds for all of them."""

import math
import random
from collections import Counter

import pytest

from services.router.core.pick import Chosen, Wanted, pick
from services.router.core.policies import POLICIES, Ask, Weights, free_share
from services.router.core.rates import HALF_LIFE_S, Rates, Speed
from services.router.core.worker import Worker
from tests.unit.router.rows import worker

FAST, SLOW = Speed(0.01, 1e-4), Speed(0.04, 4e-4)


def at(speed: Speed, **fields: float) -> Rates:
    """Evidence of this speed, seen at time 0."""
    return Rates(speed, count=1.0, **fields)


def chosen(policy: str, workers: list[Worker], ask: Ask) -> str:
    found = pick(workers, Wanted("m"), policy, ask)
    assert isinstance(found, Chosen)
    return found.worker.worker_id


@pytest.mark.parametrize(
    ("policy", "workers", "ask", "expected"),
    [
        pytest.param("round_robin", [worker("a"), worker("b")], Ask(last="a"), "b", id="round_robin: the next id"),
        pytest.param("round_robin", [worker("a"), worker("b")], Ask(last="b"), "a", id="round_robin: and round again"),
        pytest.param(
            "round_robin", [worker("a"), worker("c")], Ask(last="b"), "c", id="round_robin: though the last one left"
        ),
        pytest.param(
            "power_of_two",
            [worker("a", in_flight=2), worker("b", in_flight=1)],
            Ask(),
            "b",
            id="power_of_two: the less loaded of two",
        ),
        pytest.param(
            "token_aware",
            [worker("a", in_flight=1, queued_tokens=9000), worker("b", in_flight=3, queued_tokens=100)],
            Ask(500),
            "b",
            id="token_aware: tokens count, not requests",
        ),
        pytest.param(
            "token_aware",
            [worker("a", prefill_tokens=500), worker("b", prefill_tokens=400)],
            Ask(500),
            "b",
            id="token_aware: the router's own count where none is reported",
        ),
        pytest.param(
            "token_aware",
            [worker("a", queued_tokens=1000), worker("b")],
            Ask(4000, {"a": 3500}),
            "a",
            id="token_aware: what is cached need not be waited for",
        ),
        pytest.param(
            "token_aware",
            [worker("a", rates=at(SLOW)), worker("b", queued_tokens=1000, rates=at(FAST))],
            Ask(1000),
            "b",
            id="token_aware: a slow worker is slower than a short queue",
        ),
        pytest.param(
            "token_aware",
            [
                worker("a", in_flight=5, output_tokens=2500, rates=Rates(step_time_s=0.1)),
                worker("b", in_flight=3, queued_tokens=9000),
            ],
            Ask(100),
            "b",
            id="token_aware: waiting for a place to run is a wait",
        ),
        pytest.param(
            "prefix_aware",
            [worker("a", queued_tokens=5000), worker("b")],
            Ask(4000, {"a": 3500}),
            "a",
            id="prefix_aware: a cached prefix is worth a longer wait",
        ),
        pytest.param(
            "prefix_aware",
            [worker("a", queued_tokens=15_000), worker("b")],
            Ask(4000, {"a": 3500}),
            "b",
            id="prefix_aware: but not any wait",
        ),
        pytest.param(
            "prefix_aware",
            [worker("a", queued_tokens=1300), worker("b")],
            Ask(300, {"a": 300}),
            "b",
            id="prefix_aware: a short prompt is soon computed again",
        ),
        pytest.param(
            "prefix_aware",
            [worker("a", rates=at(SLOW)), worker("b", rates=at(FAST))],
            Ask(4000, {"a": 2000}),
            "b",
            id="prefix_aware: a slow worker's half is no gain",
        ),
        pytest.param(
            "session",
            [worker("a", in_flight=1), worker("b")],
            Ask(),
            "b",
            id="session: without a session the least loaded",
        ),
    ],
)
def test_policies_choose(policy: str, workers: list[Worker], ask: Ask, expected: str) -> None:
    assert chosen(policy, workers, ask) == expected


@pytest.mark.parametrize("policy", ["token_aware", "prefix_aware"])
def test_answers_go_where_fewer_are_under_way_though_no_prompt_waits(policy: str) -> None:
    workers = [worker("a", in_flight=2), worker("b", in_flight=1), worker("c", in_flight=3)]
    assert chosen(policy, workers, Ask(10)) == "b"


@pytest.mark.parametrize("policy", ["token_aware", "prefix_aware"])
@pytest.mark.parametrize(
    ("later_s", "expected"),
    [
        pytest.param(0.015, "a", id="within what first tokens vary by: the less crowded"),
        pytest.param(0.060, "b", id="beyond it: the shorter wait"),
    ],
)
def test_a_little_slower_at_its_first_answers_is_not_left_alone(policy: str, later_s: float, expected: str) -> None:
    slower = worker("a", max_running=64, rates=at(Speed(0.05 + later_s, 1e-4)))
    faster = worker("b", in_flight=5, max_running=64, rates=at(Speed(0.05, 1e-4)))
    ask = Ask(10, fleet=Speed(0.05, 1e-4), weights=Weights(crowding=0.0))
    assert chosen(policy, [slower, faster], ask) == expected


@pytest.mark.parametrize(("crowding", "expected"), [(0.0, "b"), (1.0, "a")])
def test_crowding_weighs_others_share_of_the_steps(crowding: float, expected: str) -> None:
    slower = worker("a", max_running=64, rates=at(Speed(0.10, 1e-4), step_time_s=0.02))
    faster = worker("b", in_flight=24, max_running=64, rates=at(Speed(0.05, 1e-4), step_time_s=0.02))
    ask = Ask(10, fleet=Speed(0.05, 1e-4), weights=Weights(crowding=crowding))
    assert chosen("token_aware", [slower, faster], ask) == expected


def test_scores_fall_from_idle_to_full() -> None:
    scores = [free_share(worker(in_flight=n)) for n in range(7)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0
    assert scores[3] > 0.5 > scores[4] > scores[5] > scores[6] >= 0.0


def test_chance_is_even_and_the_generators_own() -> None:
    workers = [worker(f"w{i}") for i in range(4)]
    served = Counter(chosen("random", workers, Ask(rng=random.Random(seed))) for seed in range(4000))
    assert all(abs(count - 1000) < 150 for count in served.values())
    assert chosen("random", workers, Ask(rng=random.Random(3))) == chosen("random", workers, Ask(rng=random.Random(3)))


def test_power_of_two_never_takes_the_worst() -> None:
    workers = [worker("a"), worker("b", in_flight=1), worker("c", in_flight=2)]
    assert {chosen("power_of_two", workers, Ask(rng=random.Random(seed))) for seed in range(99)} == {"a", "b"}


def test_slow_evidence_fades_so_that_a_worker_is_tried_again() -> None:
    workers = [worker("a", rates=at(Speed(0.0, 1e-3))), worker("b", prefill_tokens=600)]
    assert chosen("token_aware", workers, Ask(1000)) == "b"
    assert chosen("token_aware", workers, Ask(1000, now_s=10 * HALF_LIFE_S)) == "a"


def homes(workers: list[Worker], sessions: int = 2000) -> dict[str, str]:
    return {f"s{i}": chosen("session", workers, Ask(session_id=f"s{i}")) for i in range(sessions)}


def test_sessions_spread_by_what_workers_can_run() -> None:
    workers = [worker(f"w{i}") for i in range(7)] + [worker("w7", max_running=8)]
    counts = Counter(homes(workers, 9000).values())
    assert all(abs(count - 1000) < 150 for name, count in counts.items() if name != "w7"), counts
    assert abs(counts["w7"] - 2000) < 200, counts


@pytest.mark.parametrize("gone", range(8))
def test_only_the_sessions_of_a_worker_that_leaves_move(gone: int) -> None:
    workers = [worker(f"w{i}") for i in range(8)]
    before, after = homes(workers), homes(workers[:gone] + workers[gone + 1 :])
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {name for name in before if before[name] == f"w{gone}"}
    assert len(Counter(after[name] for name in moved)) == 7, "they spread over all that are left"


@pytest.mark.parametrize("bound", [1.0, 1.25, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_worker_holds_more_sessions_than_its_bound(seed: int, bound: float) -> None:
    rng = random.Random(seed)
    workers = [worker(f"w{i}", max_running=10_000) for i in range(8)]
    weights = Weights(session_bound=bound)
    for turn in range(1, 2001):
        # A few sessions that ask most of the time, which would crowd on their homes.
        ask = Ask(session_id=f"s{int(rng.paretovariate(0.7))}", weights=weights)
        name = chosen("session", workers, ask)
        row = next(w for w in workers if w.worker_id == name)
        row.in_flight += 1
        assert row.in_flight <= math.ceil(bound * turn / 8)


def test_every_score_is_from_0_to_1_whatever_the_workers_say() -> None:
    rng = random.Random(1)
    for _ in range(300):
        workers = [
            worker(
                f"w{i}",
                in_flight=rng.randrange(9),
                max_running=rng.randrange(5),
                max_waiting=6,
                queued_tokens=rng.randrange(10**6),
                rates=at(Speed(rng.random(), rng.random()), step_time_s=rng.random()),
            )
            for i in range(rng.randrange(1, 9))
        ]
        prompt_tokens = rng.randrange(1, 10**5)
        ask = Ask(prompt_tokens, {"w1": rng.randrange(prompt_tokens)}, "s", now_s=rng.random() * 1e4, rng=rng)
        for policy, scores in POLICIES.items():
            fit = [w for w in workers if w.busy < w.places]
            if fit:
                assert all(0.0 <= score <= 1.0 for score in scores(fit, ask)), policy
