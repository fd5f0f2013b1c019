"""Reads what the worker needs of a GGUF file's head: name, context length and vocabulary. It loads no weights.

The format is documented at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.kit.errors import WeftError

# Bounds that no real file comes near; they keep a damaged one from taking all memory.
STRING_LIMIT = 64 * 1024 * 1024
COUNT_LIMIT = 16 * 1024 * 1024

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6


class ModelError(WeftError):
    """The model's file cannot be used; the worker does not start."""

    reason_default = "MODEL_UNUSABLE"


@dataclass(frozen=True, slots=True)
class GgufHead:
    """`pieces` are the bytes that each token adds to the text; tokens that only steer the model add none.

    `trap` is a control token that ends no answer; see StructureCheck.
    """

    context_tokens: int
    pieces: tuple[bytes, ...]
    has_template: bool
    fingerprint: str
    trap: int | None = None


def read_head(path: Path) -> GgufHead:
    """Raises ModelError where the file is missing, is no GGUF file, or has no vocabulary."""
    try:
        with path.open("rb") as file:
            fields = _read_fields(file)
        return _to_head(path, fields)
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, struct.error, LookupError, RecursionError) as error:
        raise ModelError(f"{path} is not a readable GGUF file: {error}") from error


def _to_head(path: Path, fields: dict[str, Any]) -> GgufHead:
    tokens = fields.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise ModelError(f"{path} has no vocabulary, so it cannot generate text")
    kinds = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    model = str(fields.get("tokenizer.ggml.model", ""))
    return GgufHead(
        context_tokens=int(fields.get(f"{fields.get('general.architecture')}.context_length", 0)),
        pieces=tuple(_piece(model, token, kind) for token, kind in zip(tokens, kinds, strict=True)),
        has_template="tokenizer.chat_template" in fields,
        fingerprint=_fingerprint(model, tokens, fields.get("tokenizer.ggml.merges") or []),
        trap=_trap(fields, kinds),
    )


def _trap(fields: dict[str, Any], kinds: list[int]) -> int | None:
    """The token that begins prompts, where it is a control token and does not end answers too."""
    begin = fields.get("tokenizer.ggml.bos_token_id")
    ends = {fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")}
    found = isinstance(begin, int) and begin not in ends and begin < len(kinds) and kinds[begin] == _CONTROL
    return begin if found else None


def _read_fields(file: BinaryIO) -> dict[str, Any]:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, _, count = struct.unpack("<IQQ", _take(file, 20))
    if version not in (2, 3):
        raise ValueError(f"version {version} of the format is not known")
    if count > COUNT_LIMIT:
        raise ValueError("its head is damaged")
    return {_read_string(file).decode(): _read_value(file, _read_int(file, "<I")) for _ in range(count)}


def _take(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends too early")
    return data


def _read_int(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(form, _take(file, struct.calcsize(form)))[0])


def _read_string(file: BinaryIO) -> bytes:
    size = _read_int(file, "<Q")
    if size > STRING_LIMIT:
        raise ValueError("its head is damaged")
    return _take(file, size)


def _read_value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _read_string(file).decode(errors="replace")
    if kind != _ARRAY:
        form = _SCALARS[kind]
        return struct.unpack(form, _take(file, struct.calcsize(form)))[0]
    inner, count = _read_int(file, "<I"), _read_int(file, "<Q")
    if count > COUNT_LIMIT:
        raise ValueError("its head is damaged")
    if inner in (_STRING, _ARRAY):
        return [_read_value(file, inner) for _ in range(count)]
    form = _SCALARS[inner]
    return list(struct.unpack(f"<{count}{form[1]}", _take(file, struct.calcsize(form) * count)))


def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: each byte as a printable character."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


_BYTES = _byte_of()


def _piece(model: str, token: str, kind: int) -> bytes:
    if kind in (_CONTROL, _UNKNOWN, _UNUSED):
        return b""
    if kind == _BYTE:
        return bytes([int(token[1:-1], 16)])
    if kind == _USER_DEFINED:
        return token.encode()
    if model == "gpt2":
        return b"".join(bytes([_BYTES[char]]) if char in _BYTES else char.encode() for char in token)
    return token.replace("\u2581", " ").encode()


def _fingerprint(model: str, tokens: list[str], merges: list[str]) -> str:
    digest = hashlib.blake2b(model.encode(), digest_size=12)
    for part in (*tokens, "", *merges):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()
