"""Picking: one row per rule of filter and choose; the scores have their own file."""

import random

import pytest

from services.router.core.pick import (
    Chosen,
    Lost,
    Refusal,
    RefusalKind,
    Wanted,
    explain,
    pick,
    resolve_model,
)
from services.router.core.policies import POLICIES, Ask
from services.router.core.reason import reason
from services.router.core.worker import Worker, WorkerState
from tests.unit.router.rows import worker

ROWS = [
    pytest.param([worker("a", in_flight=2), worker("b", in_flight=1)], Wanted("m"), "b", id="fewer in flight"),
    pytest.param([worker("a"), worker("b")], Wanted("m"), "a", id="a tie goes by id"),
    pytest.param(
        [worker("a", running=3), worker("b", in_flight=1)], Wanted("m"), "b", id="what others placed counts too"
    ),
    pytest.param(
        [worker("a", in_flight=2, max_running=16), worker("b", in_flight=1, max_running=4)],
        Wanted("m"),
        "a",
        id="a larger worker takes more",
    ),
    pytest.param(
        [worker("a", in_flight=4), worker("b", in_flight=3)], Wanted("m"), "b", id="a place to run beats waiting"
    ),
    pytest.param([worker("a", model="x"), worker("b")], Wanted("m"), "b", id="another model is no candidate"),
    pytest.param([worker("a"), worker("b", in_flight=3)], Wanted("m", frozenset("a")), "b", id="tried ones are out"),
    pytest.param(
        [worker("a", state=WorkerState.DRAINING), worker("b", in_flight=3)], Wanted("m"), "b", id="draining is out"
    ),
    pytest.param(
        [worker("a", state=WorkerState.SUSPECT), worker("b", in_flight=3)], Wanted("m"), "b", id="suspect is out"
    ),
    pytest.param(
        [worker("a", fingerprint="x"), worker("b", in_flight=3)],
        Wanted("m", fingerprint="t"),
        "b",
        id="a resume needs an equal tokenizer",
    ),
    pytest.param([worker("a", in_flight=6), worker("b", in_flight=5)], Wanted("m"), "b", id="full is out"),
    pytest.param(
        [worker("a", adapters=("n",)), worker("b", adapters=("x", "y"), in_flight=3)],
        Wanted("y"),
        "b",
        id="an adapter goes to a worker that has it",
    ),
    pytest.param(
        [worker("a"), worker("b", structured_output=True, in_flight=3)],
        Wanted("m", structure=True),
        "b",
        id="a form needs a worker that can hold to it",
    ),
    pytest.param(
        [worker("a"), worker("b", logprobs=True, in_flight=3)],
        Wanted("m", logprobs=True),
        "b",
        id="log probabilities need a worker that has them",
    ),
    pytest.param(
        [worker("a", structured_output=True), worker("b", structured_output=True, replays_structure=True, in_flight=3)],
        Wanted("m", fingerprint="t", structure=True, replays_structure=True),
        "b",
        id="a form is resumed where it is replayed",
    ),
    pytest.param(
        [worker("a"), worker("b", replays_penalties=True, in_flight=3)],
        Wanted("m", fingerprint="t", replays_penalties=True),
        "b",
        id="penalties are resumed where they are counted",
    ),
    pytest.param(
        [worker("a", running=4, waiting=1, unreported=1, in_flight=1), worker("b", in_flight=5)],
        Wanted("m"),
        "b",
        id="full with what no report holds yet",
    ),
]


@pytest.mark.parametrize(("workers", "wanted", "expected"), ROWS)
def test_least_loaded_picks(workers: list[Worker], wanted: Wanted, expected: str) -> None:
    found = pick(workers, wanted, "least_loaded", Ask())
    assert isinstance(found, Chosen)
    assert found.worker.worker_id == expected
    explained = explain(workers, wanted, "least_loaded", Ask())
    assert explained.worker is found.worker
    assert explained.candidates[0].lost is Lost.CHOSEN
    assert {c.worker.worker_id for c in explained.candidates} == {w.worker_id for w in workers}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_passes_over_those_that_cannot_take_it(policy: str) -> None:
    workers = [
        worker("a", state=WorkerState.AWAY),
        worker("b", in_flight=6),
        worker("c", in_flight=5),
        worker("d", model="x"),
        worker("e"),
    ]
    wanted = Wanted("m", frozenset("e"))
    for seed in range(8):
        found = pick(workers, wanted, policy, Ask(session_id="s", last="c", rng=random.Random(seed)))
        assert isinstance(found, Chosen)
        assert found.worker.worker_id == "c"


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_explaining_is_the_same_pick_with_scores_in_order(policy: str) -> None:
    rng = random.Random(5)
    for seed in range(50):
        workers = [worker(f"w{i}", in_flight=rng.randrange(7), prefill_tokens=rng.randrange(9000)) for i in range(6)]
        cached = {f"w{i}": rng.randrange(1000) for i in range(0, 6, 2)}

        def ask(seed: int = seed, cached: dict[str, int] = cached) -> Ask:
            return Ask(1000, cached, session_id=f"s{seed}", last=f"w{seed % 6}", rng=random.Random(seed))

        found, explained = pick(workers, Wanted("m"), policy, ask()), explain(workers, Wanted("m"), policy, ask())
        scores = [c.score for c in explained.candidates]
        assert all(0.0 <= score <= 1.0 for score in scores)
        assert scores == sorted(scores, reverse=True)
        if isinstance(found, Chosen):
            assert explained.worker is found.worker
            assert explained.candidates[0].parts == found.parts
            assert reason(policy, found.parts).count(f"{found.worker.busy} in flight") == 1


@pytest.mark.parametrize(
    ("workers", "tried", "kind"),
    [
        pytest.param([worker("a", in_flight=6)], "", RefusalKind.FULL, id="full"),
        pytest.param([worker("a", state=WorkerState.AWAY)], "", RefusalKind.AWAY, id="away"),
        pytest.param([worker("a")], "a", RefusalKind.ALL_TRIED, id="all tried"),
        pytest.param([worker("a"), worker("b", in_flight=6)], "a", RefusalKind.FULL, id="full counts before tried"),
        pytest.param([], "", RefusalKind.AWAY, id="nobody"),
    ],
)
def test_refusals(workers: list[Worker], tried: str, kind: RefusalKind) -> None:
    wanted = Wanted("m", frozenset(tried))
    assert pick(workers, wanted, "least_loaded", Ask()) == Refusal(kind, "m", particular=bool(tried))
    assert explain(workers, wanted, "least_loaded", Ask()).worker is None


FORM = Wanted("m", structure=True)
RESUMED_FORM = Wanted("m", fingerprint="t", structure=True, replays_structure=True)


@pytest.mark.parametrize(
    ("workers", "wanted", "kind"),
    [
        pytest.param([worker("a"), worker("b", model="x")], FORM, RefusalKind.NO_STRUCTURE, id="no form"),
        pytest.param(
            [worker("a"), worker("b", structured_output=True, state=WorkerState.AWAY)],
            FORM,
            RefusalKind.AWAY,
            id="who could is away",
        ),
        pytest.param(
            [worker("a"), worker("b", structured_output=True, in_flight=6)],
            FORM,
            RefusalKind.FULL,
            id="who could is full",
        ),
        pytest.param([worker("a")], Wanted("m", logprobs=True), RefusalKind.NO_LOGPROBS, id="no log probabilities"),
        pytest.param(
            [worker("a"), worker("b", structured_output=True)],
            RESUMED_FORM,
            RefusalKind.CANNOT_REPLAY,
            id="nobody replays the form",
        ),
        pytest.param(
            [worker("a", structured_output=True, replays_structure=True, fingerprint="x")],
            RESUMED_FORM,
            RefusalKind.CANNOT_RESUME,
            id="another tokenizer",
        ),
        pytest.param(
            [worker("a", state=WorkerState.AWAY)],
            Wanted("m", fingerprint="t", replays_penalties=True),
            RefusalKind.CANNOT_REPLAY,
            id="nobody counts the penalties",
        ),
    ],
)
def test_what_no_worker_can_do_is_told_apart_from_what_none_can_now(
    workers: list[Worker], wanted: Wanted, kind: RefusalKind
) -> None:
    assert pick(workers, wanted, "least_loaded", Ask()) == Refusal(kind, "m", particular=True)


@pytest.mark.parametrize(
    ("model", "known", "expected"),
    [
        pytest.param("m", ["m", "n"], "m", id="named"),
        pytest.param("", ["m"], "m", id="the only one"),
        pytest.param("", ["m", "n"], Refusal(RefusalKind.MODEL_NOT_NAMED, ""), id="several"),
        pytest.param("", ["m", "adapter"], "m", id="the only one beside its adapters"),
        pytest.param("adapter", ["m", "adapter"], "adapter", id="an adapter"),
        pytest.param("", [], Refusal(RefusalKind.NO_WORKER, ""), id="none yet"),
        pytest.param("x", ["m"], Refusal(RefusalKind.UNKNOWN_MODEL, "x"), id="unknown"),
    ],
)
def test_models_are_resolved(model: str, known: list[str], expected: object) -> None:
    assert resolve_model(model, known, {"adapter"}) == expected
