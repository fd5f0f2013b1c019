"""Hits as they cross the store's pipe: plain tuples, which are pickled in a fraction of the time that values take."""

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from services.retriever.document import Chunk, Hit, Record

_RECORD = attrgetter(*(field.name for field in fields(Record)))
_CHUNK = attrgetter(*(field.name for field in fields(Chunk)))
_REST = attrgetter("score", "dense_score", "bm25_score", "vector")

Packed = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]
"""The records, each once, and for each hit the place of its record, its chunk, and the rest."""


def packed(hits: Sequence[Hit]) -> Packed:
    """Hits for the pipe."""
    places: dict[str, int] = {}
    records: list[tuple[Any, ...]] = []
    rows: list[tuple[Any, ...]] = []
    for hit in hits:
        place = places.setdefault(hit.record.document_id, len(records))
        if place == len(records):
            records.append(_RECORD(hit.record))
        rows.append((place, _CHUNK(hit.chunk), *_REST(hit)))
    return records, rows


def unpacked(answer: Packed) -> list[Hit]:
    """The inverse of `packed`; hits of one document share its record."""
    records = [Record(*row) for row in answer[0]]
    return [Hit(records[place], Chunk(*chunk), *rest) for place, chunk, *rest in answer[1]]
