"""Decides which waiting texts form the next batch. Pure: no clock, no queue, no model."""

from collections.abc import Sequence
from dataclasses import dataclass

# A text may be this much shorter than its batch's longest, or a quarter of it: padding costs as much as text.
_CLOSE_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """A text that waits: its number and its length in tokens."""

    number: int
    tokens: int


def next_batch(waiting: Sequence[Waiting], batch_tokens: int, batch_texts: int = 4096) -> list[int]:
    """Numbers of the texts to embed together, at most `batch_texts`; empty only where nothing waits.

    `waiting` is in the order in which they are due. The first always goes, so nothing starves; those nearest to it in
    length go with it, as long as the batch with its padding keeps to `batch_tokens` and no text is padded by more than
    a quarter. A text that is longer than `batch_tokens` goes alone.
    """
    if not waiting:
        return []
    first = waiting[0]
    chosen = [first.number]
    shortest = longest = first.tokens
    for text in sorted(waiting[1:], key=lambda text: (abs(text.tokens - first.tokens), text.number)):
        if len(chosen) == batch_texts:
            break
        short, long = min(shortest, text.tokens), max(longest, text.tokens)
        if (len(chosen) + 1) * long > batch_tokens or not _similar(short, long):
            continue
        chosen.append(text.number)
        shortest, longest = short, long
    return chosen


def queries_next(queries: int, passages: int, query_batches_in_a_row: int, limit: int) -> bool:
    """Whether the next batch is one of queries: they go first, but one batch of passages goes after `limit` of them."""
    if not passages:
        return queries > 0
    return queries > 0 and query_batches_in_a_row < limit


def _similar(short: int, long: int) -> bool:
    return long - short <= max(_CLOSE_TOKENS, long // 4)
