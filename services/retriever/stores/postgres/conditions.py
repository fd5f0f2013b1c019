"""Filters as SQL over the columns document_id, tags and numbers; every value is a parameter."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from services.retriever.core.filters import number_name, ranges_of, tag
from services.retriever.document import Condition, Filter


class Conditions:
    """`sql` is a condition, TRUE where everything may be found; `parameters` are its values by name."""

    def __init__(self, wanted: Filter) -> None:
        self.parameters: dict[str, Any] = {}
        self._numbers = count()
        self.sql = self._all(wanted)

    def _all(self, wanted: Filter) -> str:
        found = list(self._parts(wanted))
        return f"({' AND '.join(found)})" if found else "TRUE"

    def _parts(self, wanted: Filter) -> Iterator[str]:
        if wanted.document_ids:
            yield f"document_id = ANY({self._value(list(wanted.document_ids))})"
        for condition in wanted.conditions:
            yield self._condition(condition)
        if wanted.any_of:
            yield f"({' OR '.join(self._all(part) for part in wanted.any_of)})"
        for part in wanted.none_of:
            yield f"NOT coalesce({self._all(part)}, FALSE)"

    def _condition(self, condition: Condition) -> str:
        if ranges := ranges_of(condition):
            number = f"(numbers ->> {self._value(number_name(condition.key))})::float8"
            bounds = []
            for allowed in ranges:
                sides = [(">=", allowed.min), ("<=", allowed.max)]
                tests = [f"{number} {sign} {self._value(side)}" for sign, side in sides if side is not None]
                bounds.append(f"({' AND '.join(tests)})")
            return f"({' OR '.join(bounds)})"
        if condition.values:
            return f"tags && CAST({self._value([tag(condition.key, value) for value in condition.values])} AS text[])"
        prefix = self._value(tag(condition.key, condition.prefix))
        return f"EXISTS (SELECT FROM unnest(tags) AS one WHERE starts_with(one, {prefix}))"

    def _value(self, value: Any) -> str:
        name = f"filter_{next(self._numbers)}"
        self.parameters[name] = value
        return f":{name}"
