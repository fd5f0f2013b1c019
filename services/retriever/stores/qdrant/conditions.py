"""Filters as conditions of Qdrant's client."""

from typing import Any

from qdrant_client import models

from services.retriever.core.filters import number_name, ranges_of, tag
from services.retriever.document import Condition, Filter


def match(field: str, value: str) -> models.FieldCondition:
    """The condition that a payload field has this value."""
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def conditions_of(wanted: Filter) -> list[Any]:
    """Conditions that must all hold; empty where everything may be found."""
    must: list[Any] = []
    if wanted.document_ids:
        must.append(models.FieldCondition(key="document_id", match=models.MatchAny(any=list(wanted.document_ids))))
    must += [_condition(condition) for condition in wanted.conditions]
    if wanted.any_of:
        must.append(models.Filter(should=[models.Filter(must=conditions_of(part)) for part in wanted.any_of]))
    if wanted.none_of:
        must.append(models.Filter(must_not=[models.Filter(must=conditions_of(part)) for part in wanted.none_of]))
    return must


def _condition(condition: Condition) -> Any:
    if ranges := ranges_of(condition):
        field = f"numbers.{number_name(condition.key)}"
        found = [models.FieldCondition(key=field, range=models.Range(gte=one.min, lte=one.max)) for one in ranges]
        return models.Filter(should=list(found))
    if condition.values:
        tags = [tag(condition.key, value) for value in condition.values]
        return models.FieldCondition(key="tags", match=models.MatchAny(any=tags))
    return models.FieldCondition(key="tags", match=models.MatchPrefix(prefix=tag(condition.key, condition.prefix)))
