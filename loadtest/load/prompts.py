"""Prompts of a wanted length, made of common words; equal beginnings where requests are to share a prefix."""

import random
from collections.abc import Callable, Sequence

_TEXT = (
    "the of and to in is that it was for on are as with his they be at one have this from or had by hot "
    "but some what there we can out other were all your when up use word how said an each she which do "
    "their time if will way about many then them would write like so these her long make thing see him "
    "two has look more day could go come did my sound no most number who over know water than call first "
    "people may down side been now find any new work part take get place made live where after back "
    "little only round man year came show every good me give our under name "
)
WORDS = tuple(_TEXT.split())


def words(count: int, rng: random.Random) -> str:
    """So many words; most tokenizers make a token of each."""
    return " ".join(rng.choices(WORDS, k=max(1, count)))


def synthetic(tokens: int, shared_tokens: int, seed: int) -> Callable[[int], Sequence[tuple[str, str]]]:
    """Prompts of about `tokens` tokens by number; the first `shared_tokens` of each are the same (a system prompt)."""
    system = words(shared_tokens, random.Random(seed)) if shared_tokens else ""

    def prompt(number: int) -> Sequence[tuple[str, str]]:
        rng = random.Random(f"{seed}-{number}")
        own = ("user", words(tokens - shared_tokens, rng))
        return (("system", system), own) if system else (own,)

    return prompt


def from_blocks(blocks: Sequence[int], tokens: int, block_tokens: int, number: int) -> Sequence[tuple[str, str]]:
    """The prompt of a trace's request: equal block ids are equal text, so that prefixes are really shared."""
    parts, left = [], tokens
    for block in blocks:
        size = min(left, block_tokens)
        if size <= 0:
            break
        parts.append(words(size, random.Random(f"block-{block}")))
        left -= size
    if left > 0 or not parts:
        parts.append(words(max(1, left), random.Random(f"own-{number}")))
    return (("user", " ".join(parts)),)
