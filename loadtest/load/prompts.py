"""Prompts of a wanted length, made of common words; equal beginnings where requests are to share a prefix."""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate

_TEXT = (
    "the of and to in is that it was for on are as with his they be at one have this from or had by hot "
    "but some what there we can out other were all your when up use word how said an each she which do "
    "their time if will way about many then them would write like so these her long make thing see him "
    "two has look more day could go come did my sound no most number who over know water than call first "
    "people may down side been now find any new work part take get place made live where after back "
    "little only round man year came show every good me give our under name "
)
WORDS = tuple(_TEXT.split())


POOL_WORDS = 1 << 17
"""Words from which prompts are cut, so that a long one costs no more than a copy."""


class Pool:
    """One long text of random words; every prompt is a stretch of it that begins at a place of its own."""

    def __init__(self, seed: int) -> None:
        chosen = random.Random(seed).choices(WORDS, k=POOL_WORDS)
        self._text = " ".join(chosen) + " "
        self._starts = [0, *accumulate(len(word) + 1 for word in chosen)]

    def __repr__(self) -> str:
        return f"Pool({POOL_WORDS} words)"

    def words(self, count: int, at: int) -> str:
        """So many words, of which most tokenizers make a token each; equal places give equal texts."""
        at %= POOL_WORDS
        parts, left = [], max(1, count)
        while left:
            end = min(POOL_WORDS, at + left)
            parts.append(self._text[self._starts[at] : self._starts[end]])
            left -= end - at
            at = 0
        return "".join(parts).rstrip()


Messages = tuple[tuple[str, str], ...]


def synthetic(pool: Pool, shared_tokens: int, seed: int) -> Callable[[int, int], Messages]:
    """Prompts by number and about so many tokens; the first `shared_tokens` of each are the same, a system prompt."""
    system = pool.words(shared_tokens, seed) if shared_tokens else ""

    def prompt(number: int, tokens: int) -> Messages:
        own = f"{number}: {pool.words(max(1, tokens - shared_tokens), seed + 7919 * (number + 1))}"
        return (("system", system), ("user", own)) if system else (("user", own),)

    return prompt


def from_blocks(pool: Pool, blocks: Sequence[int], tokens: int, block_tokens: int, number: int) -> Messages:
    """The prompt of a trace's request: equal block ids are equal text, so that prefixes are really shared."""
    parts, left = [], tokens
    for block in blocks:
        size = min(left, block_tokens)
        if size <= 0:
            break
        parts.append(f"{block} {pool.words(size - 1, 104_729 * (block + 1))}" if size > 1 else str(block))
        left -= size
    if left > 0 or not parts:
        parts.append(f"own {number} {pool.words(left, 15_485_863 * (number + 1))}")
    return (("user", " ".join(parts)),)
