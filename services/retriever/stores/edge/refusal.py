"""What the store cannot do, as an exception within its process; over the pipe it becomes `Refused`."""

from services.retriever.stores.edge.operations import Refused

INVALID_ARGUMENT = 3
NOT_FOUND = 5
RESOURCE_EXHAUSTED = 8
INTERNAL = 13
UNAVAILABLE = 14


class Refusal(Exception):
    """Carries the answer."""

    def __init__(self, code: int, reason: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.answer = Refused(code, reason, message, field)
