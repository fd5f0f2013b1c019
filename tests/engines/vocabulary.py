"""What token ids spell, where the suite knows the vocabulary: the bytes that all of an answer's ids make."""

from collections.abc import Callable, Sequence
from functools import cache

from services.worker.engines.sim.request import VOCABULARY
from services.worker.engines.sim.words import WORDS
from tests.fakes.tiny_gguf import SPECIAL, VOCAB, train_tokenizer

Spelling = Callable[[Sequence[int]], bytes]

SIM_VOCABULARY = VOCABULARY
TINY_VOCABULARY = VOCAB


def spell_sim(ids: Sequence[int]) -> bytes:
    """The sim engine's words, each with a space before it."""
    return "".join(f" {WORDS[token]}" for token in ids).encode()


def spell_tiny(ids: Sequence[int]) -> bytes:
    """The tiny model's byte-level tokens; those that steer the conversation spell nothing."""
    pieces = _tiny_pieces()
    return b"".join([pieces[token] for token in ids])


@cache
def _tiny_pieces() -> list[bytes]:
    tokenizer, letters = train_tokenizer(), _byte_letters()
    names = [tokenizer.id_to_token(token) for token in range(VOCAB)]
    return [b"" if name in SPECIAL else bytes(letters[letter] for letter in name) for name in names]


def _byte_letters() -> dict[str, int]:
    """GPT-2's way to write bytes as letters: printable ones stand for themselves, the others for U+0100 and on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    return letters | {chr(256 + at): byte for at, byte in enumerate(others)}
