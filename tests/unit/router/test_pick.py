"""Picking: one row per rule of filter, score and choose."""

from typing import Any

import pytest

from services.router.core.pick import (
    Lost,
    Refusal,
    RefusalKind,
    Wanted,
    least_loaded,
    pick,
    refusal,
    resolve_model,
)
from services.router.core.worker import Hello, Load, Worker, WorkerState


def worker(worker_id: str = "w1", **fields: Any) -> Worker:
    hello = Hello(
        worker_id,
        "i",
        fields.pop("model", "m"),
        "fake",
        max_running=fields.pop("max_running", 4),
        max_waiting=fields.pop("max_waiting", 2),
        context_tokens=100,
        tokenizer_fingerprint=fields.pop("fingerprint", "t"),
    )
    load = Load(running=fields.pop("running", 0), waiting=fields.pop("waiting", 0))
    return Worker(worker_id, "a:1", fields.pop("state", WorkerState.SERVING), hello=hello, load=load, **fields)


ROWS = [
    pytest.param([worker("a", in_flight=2), worker("b", in_flight=1)], Wanted("m"), "b", id="fewer in flight"),
    pytest.param([worker("b"), worker("a")], Wanted("m"), "a", id="a tie goes by id"),
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
        [worker("a", fingerprint="x"), worker("b", in_flight=3)],
        Wanted("m", fingerprint="t"),
        "b",
        id="a resume needs an equal tokenizer",
    ),
    pytest.param([worker("a", in_flight=6), worker("b", in_flight=5)], Wanted("m"), "b", id="full is out"),
]


@pytest.mark.parametrize(("workers", "wanted", "expected"), ROWS)
def test_least_loaded_picks(workers: list[Worker], wanted: Wanted, expected: str) -> None:
    found = pick(workers, wanted, "least_loaded", 0)
    assert found.worker is not None
    assert found.worker.worker_id == expected
    assert found.candidates[0].lost is Lost.CHOSEN
    assert {c.worker.worker_id for c in found.candidates} == {w.worker_id for w in workers}


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
    found = pick(workers, wanted, "least_loaded", 0)
    assert found.worker is None
    assert refusal(found, wanted) == Refusal(kind, "m")


def test_round_robin_goes_round_those_that_fit() -> None:
    workers = [worker("a"), worker("b", state=WorkerState.AWAY), worker("c"), worker("d")]
    served = [pick(workers, Wanted("m"), "round_robin", turn).worker for turn in range(6)]
    assert [w.worker_id for w in served if w] == ["a", "c", "d"] * 2


def test_scores_fall_from_idle_to_full() -> None:
    scores = [least_loaded(worker(in_flight=n), 0) for n in range(7)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0
    assert scores[3] > 0.5 > scores[4] > scores[5] > scores[6] >= 0.0


@pytest.mark.parametrize(
    ("model", "known", "expected"),
    [
        pytest.param("m", ["m", "n"], "m", id="named"),
        pytest.param("", ["m"], "m", id="the only one"),
        pytest.param("", ["m", "n"], Refusal(RefusalKind.MODEL_NOT_NAMED, ""), id="several"),
        pytest.param("", [], Refusal(RefusalKind.NO_WORKER, ""), id="none yet"),
        pytest.param("x", ["m"], Refusal(RefusalKind.UNKNOWN_MODEL, "x"), id="unknown"),
    ],
)
def test_models_are_resolved(model: str, known: list[str], expected: object) -> None:
    assert resolve_model(model, known) == expected
