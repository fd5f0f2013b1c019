"""What a refusal or a failure says to the caller: one error class and one sentence for each."""

from services.kit.errors import (
    DeadlineExceeded,
    Exhausted,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    WeftError,
)
from services.router.core.pick import Refusal, RefusalKind
from services.router.core.recover import Failure, FailureKind


def refused(refusal: Refusal, known: list[str], retry_s: float, why: str = "") -> WeftError:
    """The error for a request that no worker can take.

    `known` are the models that there are, and `why` is what the model's workers suffer from, where it is known.
    """
    names = ", ".join(known) or "none yet"
    match refusal.kind:
        case RefusalKind.UNKNOWN_MODEL:
            text = f"no worker ever served the model {refusal.model!r}; there are: {names}"
            return NotFound(text, reason="UNKNOWN_MODEL", field="model")
        case RefusalKind.MODEL_NOT_NAMED:
            return InvalidArgument(f"name a model; there are: {names}", reason="MODEL_NOT_NAMED", field="model")
        case RefusalKind.NO_WORKER:
            text = "no worker is connected; start one, and it announces itself"
            return Unavailable(text, reason="NO_WORKER", retry_delay_s=retry_s)
        case RefusalKind.FULL:
            text = f"every worker of {refusal.model} is full; try again in {retry_s:g} s, or add workers"
            return Exhausted(text, reason="WORKERS_FULL", retry_delay_s=retry_s)
        case RefusalKind.SUSPECT:
            text = f"no worker of {refusal.model} is well ({why or 'they do not respond'}); try again in {retry_s:g} s"
            return Unavailable(text, reason="WORKERS_SUSPECT", retry_delay_s=retry_s)
        case RefusalKind.CANNOT_RESUME:
            text = f"no other worker of {refusal.model} can go on with this answer's tokens; ask again from the start"
            return Unavailable(text, reason="CANNOT_RESUME", retry_delay_s=retry_s)
        case RefusalKind.CANNOT_REPLAY:
            text = (
                f"no other worker of {refusal.model} can go on within an answer that has a form or penalties; "
                "ask again from the start"
            )
            return Unavailable(text, reason="CANNOT_RESUME", retry_delay_s=retry_s)
        case RefusalKind.NO_STRUCTURE:
            text = f"no worker of {refusal.model} can hold an answer to a form; leave sampling.structure out"
            return InvalidArgument(text, reason="UNSUPPORTED", field="sampling.structure")
        case RefusalKind.NO_LOGPROBS:
            text = f"no worker of {refusal.model} has log probabilities; leave sampling.logprobs out"
            return InvalidArgument(text, reason="UNSUPPORTED", field="sampling.logprobs")
        case RefusalKind.AWAY | RefusalKind.ALL_TRIED:
            text = f"the workers of {refusal.model} are away; try again in {retry_s:g} s, or start one"
            return Unavailable(text, reason="WORKERS_AWAY", retry_delay_s=retry_s)


def gave_up(failure: Failure, retry_s: float) -> WeftError:
    """The error for an answer that failed on its last worker."""
    reason, text = failure.reason or failure.kind.name, failure.message
    match failure.kind:
        case FailureKind.WRONG_REQUEST:
            return InvalidArgument(text, reason=reason, field=failure.field)
        case FailureKind.UNKNOWN_MODEL:
            return NotFound(text, reason=reason, field="model")
        case FailureKind.FULL:
            return Exhausted(text, reason=reason, retry_delay_s=retry_s)
        case FailureKind.SLOW_CLIENT:
            return Exhausted(text, reason=reason)
        case FailureKind.DEADLINE:
            return DeadlineExceeded(text, reason=reason)
        case (
            FailureKind.LINK_LOST
            | FailureKind.UNAVAILABLE
            | FailureKind.STALLED
            | FailureKind.DRAINED
            | FailureKind.BROKEN
        ):
            return Unavailable(text, reason=reason, retry_delay_s=retry_s)
        case FailureKind.INTERNAL | FailureKind.OVERTAKEN:
            return Internal(text, reason=reason)
