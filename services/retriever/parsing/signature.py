"""A MinHash of a text's word runs, by which near duplicates are found. See `jobs.twins` for the finding."""

import re
import struct
from itertools import islice

from rensa import RMinHash  # type: ignore[import-untyped] # it ships none

_VALUES = 128
_SEED = 1
_RUN_WORDS = 5
# Fewer runs than this make chance and a single word count for too much.
_MIN_WORDS = 24
# Words that count: a longer text is judged by its beginning, which bounds time and memory.
_MAX_WORDS = 200_000
_WORD = re.compile(r"\w+")


def signature_of(text: str) -> bytes:
    """128 numbers of 32 bits, little endian; empty where the text has under 24 words. Case and signs do not count."""
    words = [found.group().casefold() for found in islice(_WORD.finditer(text), _MAX_WORDS)]
    if len(words) < _MIN_WORDS:
        return b""
    runs = {" ".join(words[at : at + _RUN_WORDS]) for at in range(len(words) - _RUN_WORDS + 1)}
    minhash = RMinHash(num_perm=_VALUES, seed=_SEED)
    minhash.update(list(runs))
    return struct.pack(f"<{_VALUES}I", *minhash.digest())
