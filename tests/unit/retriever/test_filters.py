"""What filters mean."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from services.retriever.core.filters import compiled, compiled_for_records, facts_of, tag
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
    assert compiled(wanted)(facts_of(RECORD, page=3)) is passes


def test_pairs_that_read_the_same_are_told_apart() -> None:
    assert tag("a", "b=c") != tag("a=b", "c")


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        pytest.param(Filter(), True, id="nothing asked"),
        pytest.param(Filter(document_ids=("x", "y")), True, id="id"),
        pytest.param(Filter(document_ids=("y",)), False, id="another id"),
        pytest.param(only("$source", values=("b.md", "a.md")), True, id="source"),
        pytest.param(only("$source", values=("b.md",)), False, id="another source"),
        pytest.param(only("$source", prefix="a"), True, id="beginning of the source"),
        pytest.param(only("$source", prefix="b"), False, id="beginning of another source"),
        pytest.param(Filter(("x",), (Condition("year", ("1991",)),)), False, id="id, and another year"),
        pytest.param(Filter(none_of=(only("$source", values=("a.md",)),)), False, id="not this source"),
    ],
)
def test_a_filter_of_documents(wanted: Filter, passes: bool) -> None:
    assert compiled_for_records(wanted)(RECORD) is passes


def test_documents_are_told_apart_by_source_without_reading_more_of_them() -> None:
    class Unread(Mapping[str, str]):
        def __getitem__(self, key: str) -> str:
            raise AssertionError("it was read")

        def __iter__(self) -> Iterator[str]:
            raise AssertionError("it was read")

        def __len__(self) -> int:
            return 1

    passes = compiled_for_records(only("$source", values=("b.md",)))
    assert not passes(replace(RECORD, metadata=Unread()))
