"""Recovery: one row per rule."""

import pytest

from services.router.core.chat import FinishReason, Usage
from services.router.core.recover import (
    Done,
    Ended,
    Failure,
    FailureKind,
    GiveUp,
    Outcome,
    Resume,
    Retry,
    Step,
    recover,
)

ENDED = Ended(FinishReason.STOP, Usage(3, 0, 5))


def failed(kind: FailureKind) -> Failure:
    return Failure(kind, "why")


@pytest.mark.parametrize(
    ("outcome", "sent", "attempts", "expected"),
    [
        pytest.param(ENDED, 5, 1, Done(ENDED), id="an end is an end"),
        pytest.param(failed(FailureKind.LINK_LOST), 0, 1, Retry(), id="lost before the first token"),
        pytest.param(failed(FailureKind.LINK_LOST), 2, 1, Resume("t"), id="lost after it"),
        pytest.param(failed(FailureKind.INTERNAL), 0, 1, Retry(), id="engine broke before the first token"),
        pytest.param(failed(FailureKind.UNAVAILABLE), 0, 1, Retry(), id="stopping"),
        pytest.param(failed(FailureKind.FULL), 0, 1, Retry(), id="full"),
        pytest.param(
            failed(FailureKind.LINK_LOST), 0, 3, GiveUp(failed(FailureKind.LINK_LOST)), id="attempts are spent"
        ),
        pytest.param(
            failed(FailureKind.WRONG_REQUEST), 0, 1, GiveUp(failed(FailureKind.WRONG_REQUEST)), id="caller's fault"
        ),
        pytest.param(failed(FailureKind.SLOW_CLIENT), 9, 1, GiveUp(failed(FailureKind.SLOW_CLIENT)), id="slow client"),
        pytest.param(
            failed(FailureKind.DEADLINE), 0, 1, GiveUp(failed(FailureKind.DEADLINE)), id="deadline, nothing sent"
        ),
        pytest.param(
            failed(FailureKind.DEADLINE),
            4,
            1,
            Done(Ended(FinishReason.DEADLINE, Usage(completion_tokens=4))),
            id="deadline, something sent",
        ),
    ],
)
def test_rules(outcome: Outcome, sent: int, attempts: int, expected: Step) -> None:
    found = recover(outcome, tokens_sent=sent, fingerprint="t", attempts=attempts, max_attempts=3)
    assert found == expected


def test_tokens_of_an_unnamed_tokenizer_cannot_be_continued() -> None:
    lost = failed(FailureKind.LINK_LOST)
    assert recover(lost, tokens_sent=2, fingerprint="", attempts=1, max_attempts=3) == GiveUp(lost)
