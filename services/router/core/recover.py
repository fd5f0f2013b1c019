"""What to do when an answer ended on a worker: nothing, try another, resume on another, or give up."""

from dataclasses import dataclass
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


_ELSEWHERE = frozenset({FailureKind.LINK_LOST, FailureKind.UNAVAILABLE, FailureKind.FULL, FailureKind.INTERNAL})
"""Failures that another worker may not share."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker ended the answer."""

    reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer failed on the worker; `message` is for people, `reason` for programs, `field` names what is wrong."""

    kind: FailureKind
    message: str
    reason: str = ""
    field: str = ""


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
class GiveUp:
    """Nothing more can be tried."""

    failure: Failure


Step = Done | Retry | Resume | GiveUp


def recover(outcome: Outcome, *, tokens_sent: int, fingerprint: str, attempts: int, max_attempts: int) -> Step:
    """Decides from how the answer ended, how many of its tokens the client has, and how many workers were tried.

    A deadline that passes after the first token is an end, with what was produced. `fingerprint` is the failed
    worker's tokenizer; an empty one cannot be compared, so nothing can go on from its tokens.
    """
    if isinstance(outcome, Ended):
        return Done(outcome)
    if outcome.kind is FailureKind.DEADLINE and tokens_sent:
        return Done(Ended(FinishReason.DEADLINE, Usage(completion_tokens=tokens_sent)))
    if outcome.kind not in _ELSEWHERE or attempts >= max_attempts:
        return GiveUp(outcome)
    if not tokens_sent:
        return Retry()
    return Resume(fingerprint) if fingerprint else GiveUp(outcome)
