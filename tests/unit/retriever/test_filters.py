"""What filters mean."""

import pytest

from services.retriever.core.filters import facts_of, holds, tag
from services.retriever.document import Condition, Filter, Range, Record

RECORD = Record(
    "x", "a.md", "Herons", "text/markdown", "hash", "1", 1, 1_700_000_000.0, {"year": "1990", "n": "nan"}, "en"
)


def only(key: str, **said: object) -> Filter:
    return Filter(conditions=(Condition(key, **said),))  # type: ignore[arg-type] # each row says what it is


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Filter(), True),
        (Filter(document_ids=("x",)), True),
        (Filter(document_ids=("y",)), False),
        (only("year", values=("1989", "1990")), True),
        (only("year", values=("199",)), False),
        (only("year", prefix="199"), True),
        (only("ear", prefix="199"), False),
        (only("year", range=Range(1990, 1990)), True),
        (only("year", range=Range(min=1990.5)), False),
        (only("n", range=Range(min=0)), False),
        (only("missing", range=Range(min=0)), False),
        (only("$title", values=("Herons",)), True),
        (only("$page", values=("3",)), True),
        (only("$page", range=Range(max=2)), False),
        (only("$ingested_at", range=Range(min=1_600_000_000)), True),
        (Filter(any_of=(Filter(document_ids=("y",)), only("year", prefix="19"))), True),
        (Filter(any_of=(Filter(document_ids=("y",)),)), False),
        (Filter(none_of=(Filter(document_ids=("y",)),)), True),
        (Filter(none_of=(Filter(document_ids=("x",)),)), False),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else None,
)
def test_a_filter(wanted: Filter, passes: bool) -> None:
    assert holds(wanted, facts_of(RECORD, page=3)) is passes


def test_pairs_that_read_the_same_are_told_apart() -> None:
    assert tag("a", "b=c") != tag("a=b", "c")
