"""Filters as conditions of Qdrant embedded."""

from typing import Any

import qdrant_edge as qdrant

from services.retriever.core.filters import number_name, ranges_of, tag
from services.retriever.document import Condition, Filter


def match(field: str, value: str) -> Any:
    """The condition that a payload field has this value."""
    return qdrant.FieldCondition(field, match=qdrant.MatchValue(value))


def conditions_of(wanted: Filter) -> list[Any]:
    """Conditions that must all hold; empty where everything may be found."""
    must: list[Any] = []
    if wanted.document_ids:
        must.append(qdrant.FieldCondition("document_id", match=qdrant.MatchAny(list(wanted.document_ids))))
    must += [_condition(condition) for condition in wanted.conditions]
    if wanted.any_of:
        must.append(qdrant.Filter(should=[qdrant.Filter(must=conditions_of(part)) for part in wanted.any_of]))
    if wanted.none_of:
        must.append(qdrant.Filter(must_not=[qdrant.Filter(must=conditions_of(part)) for part in wanted.none_of]))
    return must


def _condition(condition: Condition) -> Any:
    if ranges := ranges_of(condition):
        field = f"numbers.{number_name(condition.key)}"
        found: list[Any] = [
            qdrant.FieldCondition(field, range=qdrant.RangeFloat(gte=one.min, lte=one.max)) for one in ranges
        ]
        return qdrant.Filter(should=found)
    if condition.values:
        tags = [tag(condition.key, value) for value in condition.values]
        return qdrant.FieldCondition("tags", match=qdrant.MatchAny(tags))
    return qdrant.FieldCondition("tags", match=qdrant.MatchPrefix(tag(condition.key, condition.prefix)))
