"""Recovery: one row per rule."""

from dataclasses import replace

import pytest

from services.router.core.chat import FinishReason, Usage
from services.router.core.recover import (
    Done,
    Ended,
    Failure,
    FailureKind,
    GiveUp,
    History,
    Outcome,
    Resume,
    Retry,
    Step,
    after,
    is_charged,
    recover,
    retry_delay_s,
)

ENDED = Ended(FinishReason.STOP, Usage(3, 0, 5))


def failed(kind: FailureKind) -> Failure:
    return Failure(kind, "why")


@pytest.mark.parametrize(
    ("outcome", "sent", "failures", "expected"),
    [
        pytest.param(ENDED, 5, 0, Done(ENDED), id="an end is an end"),
        pytest.param(failed(FailureKind.LINK_LOST), 0, 0, Retry(), id="lost before the first token"),
        pytest.param(failed(FailureKind.LINK_LOST), 2, 0, Resume("t"), id="lost after it"),
        pytest.param(failed(FailureKind.INTERNAL), 0, 0, Retry(), id="engine broke before the first token"),
        pytest.param(failed(FailureKind.UNAVAILABLE), 0, 0, Retry(), id="stopping"),
        pytest.param(failed(FailureKind.FULL), 0, 0, Retry(), id="full"),
        pytest.param(failed(FailureKind.FULL), 0, 2, Retry(), id="full is no failure that could be one too many"),
        pytest.param(failed(FailureKind.STALLED), 2, 0, Resume("t"), id="hung"),
        pytest.param(failed(FailureKind.DRAINED), 2, 0, Resume("t"), id="drained"),
        pytest.param(failed(FailureKind.BROKEN), 2, 0, Resume("t"), id="engine is started anew"),
        pytest.param(failed(FailureKind.BROKEN), 0, 0, Retry(), id="start met an engine that is started anew"),
        pytest.param(failed(FailureKind.LINK_LOST), 9, 2, Resume("t"), id="tokens since the last failure clear it"),
        pytest.param(
            failed(FailureKind.LINK_LOST), 0, 2, GiveUp(failed(FailureKind.LINK_LOST)), id="attempts are spent"
        ),
        pytest.param(
            failed(FailureKind.WRONG_REQUEST), 0, 0, GiveUp(failed(FailureKind.WRONG_REQUEST)), id="caller's fault"
        ),
        pytest.param(failed(FailureKind.SLOW_CLIENT), 9, 0, GiveUp(failed(FailureKind.SLOW_CLIENT)), id="slow client"),
        pytest.param(
            failed(FailureKind.DEADLINE), 0, 0, GiveUp(failed(FailureKind.DEADLINE)), id="deadline, nothing sent"
        ),
        pytest.param(
            failed(FailureKind.DEADLINE),
            4,
            0,
            Done(Ended(FinishReason.DEADLINE, Usage(completion_tokens=4))),
            id="deadline, something sent",
        ),
    ],
)
def test_rules(outcome: Outcome, sent: int, failures: int, expected: Step) -> None:
    assert recover(outcome, History(sent, failures), "t", failure_limit=3) == expected


def test_tokens_of_an_unnamed_tokenizer_cannot_be_continued() -> None:
    lost = failed(FailureKind.LINK_LOST)
    assert recover(lost, History(tokens_sent=2), "", failure_limit=3) == GiveUp(lost)


@pytest.mark.parametrize(
    ("kind", "losses", "charged"),
    [
        pytest.param(FailureKind.LINK_LOST, 0, False, id="the first lost worker is free"),
        pytest.param(FailureKind.STALLED, 0, False, id="so is the first hung one"),
        pytest.param(FailureKind.DRAINED, 0, False, id="and the first drained one"),
        pytest.param(FailureKind.BROKEN, 0, False, id="and the first whose engine broke"),
        pytest.param(FailureKind.LINK_LOST, 1, True, id="a request that loses workers may be what kills them"),
        pytest.param(FailureKind.UNAVAILABLE, 0, True, id="a worker that says no"),
        pytest.param(FailureKind.INTERNAL, 0, True, id="a worker that breaks"),
        pytest.param(FailureKind.FULL, 0, False, id="being full costs a turn, not a retry"),
    ],
)
def test_what_the_retry_budget_pays_for(kind: FailureKind, losses: int, charged: bool) -> None:
    assert is_charged(failed(kind), History(losses=losses)) is charged


def test_history_counts_failures_and_losses_but_not_refusals() -> None:
    history = History()
    for kind in (FailureKind.FULL, FailureKind.LINK_LOST, FailureKind.INTERNAL):
        history = after(failed(kind), history)
    assert history == History(failures=2, losses=1)


def test_failures_count_only_where_no_token_came_between_them() -> None:
    history = after(failed(FailureKind.LINK_LOST), History(tokens_sent=3))
    history = after(failed(FailureKind.LINK_LOST), replace(history, tokens_sent=7))
    assert history == History(7, failures=1, losses=2, tokens_then=7)
    history = after(failed(FailureKind.LINK_LOST), history)
    assert history == History(7, failures=2, losses=3, tokens_then=7)


@pytest.mark.parametrize(
    ("own_s", "told_s", "expected_s"),
    [
        pytest.param(None, None, 2.0, id="nothing is known"),
        pytest.param(5.0, None, 5.0, id="the queue's pace"),
        pytest.param(None, 20.0, 20.0, id="the worker's word"),
        pytest.param(5.0, 20.0, 20.0, id="the worker is the slower"),
        pytest.param(5.0, 3.0, 5.0, id="the queue is the slower"),
        pytest.param(None, 0.0, 1.0, id="no client comes back at once"),
        pytest.param(None, 3600.0, 60.0, id="or waits for an hour"),
    ],
)
def test_how_long_a_client_is_to_wait(own_s: float | None, told_s: float | None, expected_s: float) -> None:
    assert retry_delay_s(own_s, told_s, 2.0) == expected_s


def test_an_operators_own_delay_is_not_bounded() -> None:
    assert retry_delay_s(None, None, 120.0) == 120.0
    assert retry_delay_s(None, None, 0.2) == 0.2
