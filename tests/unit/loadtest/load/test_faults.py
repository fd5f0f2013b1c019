"""Faults on a timetable, and what clients noticed of them."""

import pytest

from loadtest.load.collect import Collector, Life, Objectives
from loadtest.load.faults import Fault, What, WrongFault, effects, parse
from loadtest.load.record import OK, Record, Request

WORKERS = ("worker-0", "worker-1")


def test_faults_are_read() -> None:
    assert parse("5:kill:worker-0", WORKERS) == Fault(5.0, What.KILL, "worker-0")
    assert parse("1.5:slow:worker-1:5:8", WORKERS) == Fault(1.5, What.SLOW, "worker-1", 5.0, 8.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("kill:worker-0", "AT:WHAT:WORKER"),
        ("5:explode:worker-0", "kill, hang, slow"),
        ("5:kill:worker-9", "worker-9"),
        ("-1:kill:worker-0", "above 0"),
        ("5:hang:worker-0:0", "above 0"),
        ("5:hang:worker-0:1:2:3", "five"),
    ],
)
def test_wrong_faults_say_what_to_write(text: str, word: str) -> None:
    with pytest.raises(WrongFault, match=word):
        parse(text, WORKERS)


def _life(due_s: float, ended_s: float, gap_at_s: float, gap_s: float, moves: int = 0, code: str = "OK") -> Life:
    return Life(due_s, ended_s, gap_at_s, gap_s, moves, code, lost=0, repeated=0)


def test_recovery_is_the_longest_silence_across_the_fault() -> None:
    lives = [
        *(_life(number, number + 2.0, number + 1.0, 0.02) for number in range(10)),
        _life(4.0, 8.0, 4.95, 0.30, moves=1),
        _life(4.5, 8.0, 4.99, 0.12, moves=1),
        # A silence that was over before the fault is none of its doing.
        _life(1.0, 5.5, 2.0, 0.50),
    ]
    (effect,) = effects([Fault(5.0, What.KILL, "worker-0")], lives)
    assert effect.recovery_s == 0.30
    assert effect.moved == 2
    assert effect.failed == 0


def test_a_fault_that_nobody_noticed() -> None:
    lives = [_life(number, number + 2.0, number + 1.0, 0.02) for number in range(10)]
    (effect,) = effects([Fault(5.0, What.DRAIN, "worker-0")], lives)
    assert (effect.recovery_s, effect.moved, effect.failed) == (0.0, 0, 0)


def test_each_fault_has_its_own_failures() -> None:
    lives = [_life(0.0, 3.0, 1.0, 0.02, code="UNAVAILABLE"), _life(5.0, 7.0, 6.0, 0.02, code="INTERNAL")]
    first, second = effects([Fault(6.0, What.KILL, "worker-0"), Fault(2.0, What.KILL, "worker-1")], lives)
    assert (first.fault.worker, first.failed) == ("worker-1", 1)
    assert (second.fault.worker, second.failed) == ("worker-0", 1)


def test_a_fault_is_noticed_by_the_answers_on_its_worker() -> None:
    calm = [_life(number, number + 2.0, number + 1.0, 0.02) for number in range(10)]
    cut = Life(4.0, 8.0, 4.95, 0.30, 1, "OK", 0, 0, ((4.1, "worker-0"), (5.3, "worker-1")))
    other = Life(4.0, 8.0, 4.90, 0.90, 0, "OK", 0, 0, ((4.1, "worker-1"),))
    late = Life(4.0, 8.0, 7.00, 0.80, 1, "OK", 0, 0, ((4.1, "worker-0"), (5.3, "worker-1")))
    named = [life._replace(hosts=((life.due_s, "worker-1"),)) for life in calm]
    fault = Fault(5.0, What.CUT, "worker-0")
    (effect,) = effects([fault], [*named, cut, other, late])
    assert (effect.under_way, effect.moved, effect.recovery_s) == (2, 2, 0.30)


@pytest.mark.parametrize(
    ("ended_by", "last"),
    [pytest.param("worker-1", "worker-1", id="named"), pytest.param("", "worker-0", id="not-named")],
)
def test_who_ended_an_answer_had_it_from_its_first_token_on(ended_by: str, last: str) -> None:
    """It went elsewhere before its first token, of which nobody is told; an end that names nobody says nothing."""
    record = Record(Request(1, 1.0, (("user", "x"),), 2), sent_s=1.0)
    record.hosted(1.1, "worker-0")
    for index, at_s in enumerate((2.0, 5.0)):
        record.token(at_s, index, 1)
    record.code, record.ended_s, record.worker = OK, 5.0, ended_by
    collector = Collector(Objectives())
    collector.take(record)
    (life,) = collector.lives
    assert [life.host_at(at_s) for at_s in (1.0, 1.5, 3.0)] == ["", "worker-0", last]
