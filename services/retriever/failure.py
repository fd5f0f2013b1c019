"""Why one document could not be ingested. Light enough for the parser's process, so it knows no gRPC."""

from enum import IntEnum


class FailureCode(IntEnum):
    """Numbers of `google.rpc.Code`."""

    INVALID_ARGUMENT = 3
    RESOURCE_EXHAUSTED = 8
    INTERNAL = 13
    UNAVAILABLE = 14


class IngestFailure(Exception):
    """One document's failure; the others go on. `message` is a sentence that says what to do."""

    def __init__(self, code: FailureCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message

    def __repr__(self) -> str:
        return f"IngestFailure({self.reason}: {self.message})"


def unreadable(reason: str, message: str) -> IngestFailure:
    """The document itself is at fault."""
    return IngestFailure(FailureCode.INVALID_ARGUMENT, reason, message)


def too_large(reason: str, message: str) -> IngestFailure:
    """The document is over a bound."""
    return IngestFailure(FailureCode.RESOURCE_EXHAUSTED, reason, message)
