"""The bytes that each token adds to a text, and the tokenizer's fingerprint, read from a tokenizer's own description.

It knows byte-level BPE and SentencePiece with byte fallback, which nearly all models have; of others it says so.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

_SPACE = "\u2581"
# Parts of the description that a process may have changed, and that change no token.
_RUNTIME = ("truncation", "padding")


def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: each byte as a printable character."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


def pieces_of(description: Mapping[str, Any], vocabulary: Mapping[str, int], size: int) -> tuple[bytes, ...] | None:
    """For each of `size` ids its bytes; ids of special tokens and of no token have none. None: an unknown kind.

    `description` is what tokenizer.json holds, `vocabulary` every token's id, added ones included.
    """
    decoders = _names(description.get("decoder"))
    added = {item["id"]: item for item in description.get("added_tokens", ())}
    special: Collection[int] = {token for token, item in added.items() if item.get("special")}
    if "ByteLevel" in decoders:
        alphabet = _byte_of()
    elif "ByteFallback" in decoders:
        alphabet = None
    else:
        return None
    pieces = [b""] * max(size, 1 + max(vocabulary.values(), default=-1))
    for text, token in vocabulary.items():
        if token in special:
            continue
        if token in added:
            pieces[token] = text.encode()
        elif alphabet is not None:
            pieces[token] = b"".join(bytes([alphabet[c]]) if c in alphabet else c.encode() for c in text)
        elif len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            pieces[token] = bytes([int(text[3:5], 16)])
        else:
            pieces[token] = text.replace(_SPACE, " ").encode()
    return tuple(pieces)


def _names(decoder: Any) -> set[str]:
    if not isinstance(decoder, Mapping):
        return set()
    inner = decoder.get("decoders") or ()
    return {str(decoder.get("type"))}.union(*(_names(part) for part in inner))


def fingerprint_of(description: Mapping[str, Any], *identity: object) -> str:
    """Equal for workers whose token ids mean the same. `identity` is what else has to agree, such as its end marks."""
    kept = {name: part for name, part in description.items() if name not in _RUNTIME}
    text = json.dumps([kept, [str(part) for part in identity]], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
