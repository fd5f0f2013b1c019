"""One error tree; each class names its gRPC status and whether a retry may help. Only servers turn it into a status."""

import math
from contextlib import suppress
from typing import ClassVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "weft"
_DETAILS_KEY = "grpc-status-details-bin"


class WeftError(Exception):
    """An expected failure, in words for people (`message`) and one word for programs (`reason`, UPPER_SNAKE_CASE).

    `field` names the wrong field of the request. `retry_delay_s` says how long to wait before trying again; None where
    trying again does not help or nothing is known of it.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    retryable: ClassVar[bool] = False
    reason_default: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.reason_default
        self.field = field
        self.retry_delay_s = retry_delay_s

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason}: {self.message})"


class InvalidArgument(WeftError):
    """The caller's fault: the same request will never work. HTTP 400."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason_default = "INVALID_ARGUMENT"


class NotFound(WeftError):
    """What was named does not exist. HTTP 404."""

    code = grpc.StatusCode.NOT_FOUND
    reason_default = "NOT_FOUND"


class AlreadyExists(WeftError):
    """What was to be made is there already. HTTP 409."""

    code = grpc.StatusCode.ALREADY_EXISTS
    reason_default = "ALREADY_EXISTS"


class FailedPrecondition(WeftError):
    """The request is right, but not in the state that things are in. HTTP 400."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason_default = "FAILED_PRECONDITION"


class PermissionDenied(WeftError):
    """The caller may not do this. HTTP 403."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason_default = "PERMISSION_DENIED"


class Exhausted(WeftError):
    """A bound is reached: full. HTTP 429."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True
    reason_default = "FULL"


class Unavailable(WeftError):
    """What should answer is away for now. HTTP 503."""

    code = grpc.StatusCode.UNAVAILABLE
    retryable = True
    reason_default = "UNAVAILABLE"


class DeadlineExceeded(WeftError):
    """The caller's deadline passed. HTTP 504."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason_default = "DEADLINE_EXCEEDED"


class Cancelled(WeftError):
    """The caller left. HTTP 499."""

    code = grpc.StatusCode.CANCELLED
    reason_default = "CANCELLED"


class Unimplemented(WeftError):
    """This server does not do that. HTTP 501."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason_default = "UNIMPLEMENTED"


class DataLoss(WeftError):
    """What was kept is damaged. HTTP 500."""

    code = grpc.StatusCode.DATA_LOSS
    reason_default = "DATA_LOSS"


class Internal(WeftError):
    """A broken promise on our side. HTTP 500."""


_BY_CODE: dict[grpc.StatusCode, type[WeftError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        PermissionDenied,
        Exhausted,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unimplemented,
        DataLoss,
        Internal,
    )
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def error_for(
    code: int, message: str, *, reason: str = "", field: str = "", retry_delay_s: float | None = None
) -> WeftError:
    """The error that a `google.rpc.Code` number stands for; a code without a class of its own becomes Internal."""
    kind = _BY_CODE.get(_BY_NUMBER.get(code, grpc.StatusCode.INTERNAL), Internal)
    return kind(message, reason=reason, field=field, retry_delay_s=retry_delay_s)


def rpc_code(error: WeftError) -> code_pb2.Code.ValueType:
    """The error's status as a `google.rpc.Code`."""
    return code_pb2.Code.ValueType(error.code.value[0])


def to_status(error: WeftError) -> status_pb2.Status:
    """The error as `google.rpc.Status`: ErrorInfo always; BadRequest, RetryInfo and QuotaFailure where they apply."""
    details: list[Any] = []

    def add(detail: Message) -> None:
        packed = Any()
        packed.Pack(detail)
        details.append(packed)

    add(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        add(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_delay_s is not None:
        add(error_details_pb2.RetryInfo(retry_delay=seconds_to_duration(error.retry_delay_s)))
    if isinstance(error, Exhausted):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.reason, description=error.message)
        add(error_details_pb2.QuotaFailure(violations=[quota]))
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=details)


def trailers(error: WeftError) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata: the status details, and `retry-after` in whole seconds for HTTP callers."""
    found: list[tuple[str, str | bytes]] = [(_DETAILS_KEY, to_status(error).SerializeToString())]
    if error.retry_delay_s is not None:
        found.append(("retry-after", str(max(1, math.ceil(error.retry_delay_s)))))
    return tuple(found)


def from_rpc(error: grpc.aio.AioRpcError) -> WeftError:
    """The error that a peer's status stands for, with its details where it sent any that can be read."""
    reason, field, delay_s = "", "", None
    message = error.details() or f"the call ended with {error.code().name}"
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # the stubs know only the blocking kind of call
    except (ValueError, DecodeError):
        status = None
    for packed in status.details if status else ():
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        # A peer, or whatever stands in front of it, may send anything.
        with suppress(DecodeError):
            if packed.Unpack(info):
                reason = info.reason
            elif packed.Unpack(bad) and bad.field_violations:
                field = bad.field_violations[0].field
            elif packed.Unpack(retry):
                delay_s = duration_to_seconds(retry.retry_delay)
    return error_for(error.code().value[0], message, reason=reason, field=field, retry_delay_s=delay_s)


def seconds_to_duration(seconds: float) -> Duration:
    """A protobuf Duration; negative values become zero, anything over ten years is cut to that."""
    duration = Duration()
    duration.FromNanoseconds(int(min(max(seconds, 0.0), 315_360_000.0) * 1e9))
    return duration


def duration_to_seconds(duration: Duration) -> float:
    """Seconds of a protobuf Duration."""
    return duration.seconds + duration.nanos / 1e9
