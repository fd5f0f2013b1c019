"""A request's class in the queue, by what it has been through."""

import pytest

from services.router.case import Case
from services.router.core.chat import Chat, Priority
from services.router.core.placer import Need
from services.router.core.recover import Failure, FailureKind, History, after


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        pytest.param([], Priority.BATCH, id="new"),
        pytest.param([FailureKind.FULL], Priority.BATCH, id="a full worker gives nobody a better place"),
        pytest.param([FailureKind.FULL, FailureKind.LINK_LOST], Priority.RECOVERING, id="a lost worker does"),
    ],
)
def test_class_follows_from_what_happened(kinds: list[FailureKind], expected: Priority) -> None:
    case = Case(Chat("m", (), priority=Priority.BATCH), 1.0, Need(1, ()))
    case.history = History()
    for kind in kinds:
        case.last = Failure(kind, "why")
        case.history = after(case.last, case.history)
    assert case.priority is expected
