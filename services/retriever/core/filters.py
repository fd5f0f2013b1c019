"""What filters mean: the facts of a chunk that they look at, and whether they hold. Stores translate the same facts."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.retriever.document import Condition, Filter, Range, Record

MAX_DEPTH = 4
PAGE = "$page"
INGESTED_AT = "$ingested_at"
NUMERIC_KEYS = (PAGE, INGESTED_AT)
SOURCE = "$source"
OWN_KEYS = (SOURCE, "$title", "$media_type", "$language", "$licence", *NUMERIC_KEYS)


@dataclass(frozen=True, slots=True)
class Facts:
    """`tags` hold every pair of texts, `numbers` every value that is a number, by `number_name` of its key."""

    document_id: str
    tags: tuple[str, ...]
    numbers: dict[str, float]


def tag(key: str, value: str) -> str:
    """How one pair is stored: any key can be filtered by over one field, and prefixes of values are prefixes of tags.

    The length keeps apart pairs that would read the same when joined.
    """
    return f"{len(key)} {key}={value}"


def number_name(key: str) -> str:
    """A key as a name of letters and digits, which no store's path syntax reads otherwise."""
    return f"k{key.encode().hex()}"


def facts_of(record: Record, page: int = 0) -> Facts:
    """What a filter may ask of a chunk on this page; page 0 is none."""
    texts = {
        **record.metadata,
        SOURCE: record.source,
        "$title": record.title,
        "$media_type": record.media_type,
        "$language": record.language,
        "$licence": record.licence,
    }
    numbers = {number_name(INGESTED_AT): record.ingested_at_s}
    if page:
        numbers[number_name(PAGE)] = float(page)
    for key, value in record.metadata.items():
        if (number := _number(value)) is not None:
            numbers[number_name(key)] = number
    return Facts(record.document_id, tuple(tag(key, value) for key, value in texts.items()), numbers)


def ranges_of(condition: Condition) -> list[Range]:
    """The ranges of which one must hold; empty where the condition is one on texts. Raises ValueError."""
    if condition.range is not None:
        return [condition.range]
    if condition.key not in NUMERIC_KEYS:
        return []
    return [Range(float(value), float(value)) for value in condition.values]


def compiled(wanted: Filter) -> Callable[[Facts], bool]:
    """Whether the filter lets a chunk with some facts pass: made once, and then cheap for each of many chunks."""
    ids = frozenset(wanted.document_ids)
    conditions = [_compiled_condition(condition) for condition in wanted.conditions]
    any_of, none_of = [compiled(part) for part in wanted.any_of], [compiled(part) for part in wanted.none_of]

    def passes(facts: Facts) -> bool:
        if ids and facts.document_id not in ids:
            return False
        if not all(condition(facts) for condition in conditions):
            return False
        if any_of and not any(part(facts) for part in any_of):
            return False
        return not any(part(facts) for part in none_of)

    return passes


def compiled_for_records(wanted: Filter) -> Callable[[Record], bool]:
    """Whether the filter lets a document pass. Its id and its source are looked at before any facts are collected."""
    if wanted.empty:
        return lambda record: True
    ids = frozenset(wanted.document_ids)
    named = [condition for condition in wanted.conditions if condition.key == SOURCE and condition.values]
    sources = [frozenset(condition.values) for condition in named]
    passes = compiled(wanted)

    def passes_record(record: Record) -> bool:
        if ids and record.document_id not in ids:
            return False
        return all(record.source in some for some in sources) and passes(facts_of(record))

    return passes_record


def parts(wanted: Filter, depth: int = 1) -> Iterator[tuple[Filter, int]]:
    """The filter and all that are nested in it, each with its depth from 1."""
    yield wanted, depth
    for part in (*wanted.any_of, *wanted.none_of):
        yield from parts(part, depth + 1)


def _compiled_condition(condition: Condition) -> Callable[[Facts], bool]:
    if ranges := ranges_of(condition):
        name = number_name(condition.key)
        return lambda facts: name in facts.numbers and any(_within(facts.numbers[name], one) for one in ranges)
    if condition.values:
        tags = frozenset(tag(condition.key, value) for value in condition.values)
        return lambda facts: not tags.isdisjoint(facts.tags)
    start = tag(condition.key, condition.prefix)
    return lambda facts: any(found.startswith(start) for found in facts.tags)


def _within(number: float, allowed: Range) -> bool:
    return (allowed.min is None or number >= allowed.min) and (allowed.max is None or number <= allowed.max)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
