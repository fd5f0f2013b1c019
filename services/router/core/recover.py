"""What to do when an answer ended on a worker: nothing, try another, resume on another, or give up."""

from dataclasses import dataclass, replace
from enum import Enum

from services.router.core.chat import FinishReason, Usage


class FailureKind(Enum):
    """How an answer failed on a worker; the value is its metric label."""

    LINK_LOST = "link_lost"
    UNAVAILABLE = "unavailable"
    FULL = "full"
    INTERNAL = "internal"
    WRONG_REQUEST = "wrong_request"
    UNKNOWN_MODEL = "unknown_model"
    DEADLINE = "deadline"
    SLOW_CLIENT = "slow_client"
    STALLED = "stalled"
    DRAINED = "drained"
    OVERTAKEN = "overtaken"
    BROKEN = "broken"


LOST = frozenset({FailureKind.LINK_LOST, FailureKind.STALLED, FailureKind.DRAINED, FailureKind.BROKEN})
"""The worker is gone, hung or leaving, or its engine is, whatever the request was."""
_ELSEWHERE = LOST | {FailureKind.UNAVAILABLE, FailureKind.FULL, FailureKind.INTERNAL}
"""Failures that another worker may not share."""
RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0
"""What a client is told to wait at least and at most, whatever a queue's pace or a worker suggests."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker ended the answer."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer failed on the worker; `message` is for people, `reason` for programs, `field` names what is wrong.

    `retry_delay_s` is how long the worker wants to be left alone; None where it said nothing of it.
    """

    kind: FailureKind
    message: str
    reason: str = ""
    field: str = ""
    retry_delay_s: float | None = None


Outcome = Ended | Failure


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete."""

    ended: Ended


@dataclass(frozen=True, slots=True)
class Retry:
    """No token was sent: start anew on another worker; the client notices nothing."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Tokens were sent: go on after them on another worker whose tokenizer has this fingerprint."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class History:
    """What an answer has been through: tokens that its client has, failures without a token between them, workers lost.

    Refusals for want of room are no failures: a worker that is full has done nothing to the request. `tokens_then` is
    what the client had at the last failure: whoever has gone on since then is not what breaks its workers.
    """

    tokens_sent: int = 0
    failures: int = 0
    losses: int = 0
    tokens_then: int = 0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing more can be tried."""

    failure: Failure


Step = Done | Retry | Resume | GiveUp


def recover(outcome: Outcome, history: History, fingerprint: str, failure_limit: int) -> Step:
    """Decides from how the answer ended and what it has been through, this failure not counted yet.

    A deadline that passes after the first token is an end, with what was produced. `fingerprint` is the failed
    worker's tokenizer; an empty one cannot be compared, so nothing can go on from its tokens.
    """
    if isinstance(outcome, Ended):
        return Done(outcome)
    if outcome.kind is FailureKind.DEADLINE and history.tokens_sent:
        return Done(Ended(FinishReason.DEADLINE, Usage(completion_tokens=history.tokens_sent)))
    if outcome.kind not in _ELSEWHERE:
        return GiveUp(outcome)
    if outcome.kind is not FailureKind.FULL and _failures(history) + 1 >= failure_limit:
        return GiveUp(outcome)
    if not history.tokens_sent:
        return Retry()
    return Resume(fingerprint) if fingerprint else GiveUp(outcome)


def _failures(history: History) -> int:
    return history.failures if history.tokens_sent == history.tokens_then else 0


def is_charged(failure: Failure, history: History) -> bool:
    """Whether going on after this failure takes from the retry budget.

    An answer's first lost worker does not: the loss is the worker's, each answer has it once, and a budget would turn
    one dead worker into many failed answers. A request that keeps losing workers may be what kills them. Being full
    costs nothing either, since the request then waits its turn.
    """
    if failure.kind is FailureKind.FULL:
        return False
    return failure.kind not in LOST or history.losses > 0


def after(failure: Failure, history: History) -> History:
    """The history with this failure in it."""
    if failure.kind is FailureKind.FULL:
        return history
    return replace(
        history,
        failures=_failures(history) + 1,
        losses=history.losses + (failure.kind in LOST),
        tokens_then=history.tokens_sent,
    )


def retry_delay_s(own_s: float | None, told_s: float | None, default_s: float) -> float:
    """How long the client is told to wait: the longer of what is known, from RETRY_FIRST_S to RETRY_LONGEST_S.

    `own_s` is the router's own estimate and `told_s` the worker's word, which may be over by now; None where there is
    none. Without either it is `default_s` as it is, which an operator chose.
    """
    known_s = [seconds for seconds in (own_s, told_s) if seconds is not None]
    return min(RETRY_LONGEST_S, max(RETRY_FIRST_S, *known_s)) if known_s else default_s
