"""gRPC's headers: a request's read and checked, an answer's as blocks that stand alone (RFC 7541, section 6.2.2)."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.kit.errors import Internal, InvalidArgument, WeftError

_TIMEOUT = re.compile(r"^(\d{1,8})([HMSmun])$")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NAME = re.compile(rb"^[!#$%&'*+\-.^_`|~0-9a-z]+$")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_KEPT = frozenset({b"traceparent", b"tracestate"})
"""Metadata that the server itself reads; no handler is given any."""
KEPT_BYTES = 512
"""Longer metadata is left out: it is kept for as long as the request is incomplete."""
MESSAGE_CHARACTERS = 2048
"""A status message is cut to this: clients refuse headers that are too large, and the details hold it whole."""

Fields = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Head:
    """A request's headers as far as anybody needs them."""

    path: str
    timeout_s: float | None = None
    """Time that the caller gives it, None for as long as it takes."""
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Malformed:
    """The headers are no HTTP request: its stream is reset with PROTOCOL_ERROR."""


@dataclass(frozen=True, slots=True)
class NotGrpc:
    """An HTTP request that is no gRPC call; `status` is its HTTP status."""

    status: int


def read_head(fields: Fields) -> Head | NotGrpc | Malformed | WeftError:
    """What these request headers ask for."""
    pseudo: dict[bytes, bytes] = {}
    plain: dict[bytes, bytes] = {}
    for name, value in fields:
        if name.startswith(b":"):
            if plain or name in pseudo or name not in _PSEUDO:
                return Malformed()
            pseudo[name] = value
        elif not _NAME.match(name) or name in _HOP:
            return Malformed()
        else:
            plain[name] = value
    if not {b":method", b":scheme", b":path"} <= pseudo.keys() or plain.get(b"te", b"trailers") != b"trailers":
        return Malformed()
    if pseudo[b":method"] != b"POST":
        return NotGrpc(405)
    kind = plain.get(b"content-type", b"")
    if kind != b"application/grpc" and not kind.startswith((b"application/grpc+proto", b"application/grpc;")):
        return NotGrpc(415)
    if b"te" not in plain:
        return Internal("the call came without `te: trailers`, so a proxy on its way drops trailers", reason="NO_TE")
    timeout_s = read_timeout(plain.get(b"grpc-timeout"))
    if isinstance(timeout_s, WeftError):
        return timeout_s
    kept = {
        name.decode(): plain[name].decode("latin-1") for name in _KEPT & plain.keys() if len(plain[name]) <= KEPT_BYTES
    }
    return Head(pseudo[b":path"].decode("latin-1"), timeout_s, kept)


def read_timeout(value: bytes | None) -> float | WeftError | None:
    """Seconds of a grpc-timeout header; None where there is none."""
    if value is None:
        return None
    found = _TIMEOUT.match(value.decode("latin-1"))
    if found is None:
        return InvalidArgument("grpc-timeout is no number of at most 8 digits and a unit", reason="WRONG_TIMEOUT")
    return int(found[1]) * _UNIT_S[found[2]]


def block(fields: Iterable[tuple[str, str | bytes]]) -> bytes:
    """A header block of literals that enter no table; values of `-bin` names are base64."""
    return b"".join(_literal(name, value) for name, value in fields)


def _literal(name: str, value: str | bytes) -> bytes:
    raw = name.encode()
    if name.endswith("-bin"):
        text = base64.b64encode(value.encode() if isinstance(value, str) else value).rstrip(b"=")
    else:
        text = value.encode("latin-1", "replace") if isinstance(value, str) else value
    return b"\x00" + _size(len(raw)) + raw + _size(len(text)) + text


def _size(number: int) -> bytes:
    """An integer with a prefix of 7 bits, the first bit clear: the string that follows is not Huffman coded."""
    if number < 127:
        return bytes((number,))
    found, number = bytearray((127,)), number - 127
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def percent(text: str) -> str:
    """A status message as grpc-message carries it."""
    raw = text[:MESSAGE_CHARACTERS].encode()
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in raw)


ANSWER = block([(":status", "200"), ("content-type", "application/grpc")])
"""An answer's first headers."""
DONE = block([("grpc-status", "0")])
"""The trailers of a call that went well."""


def status_block(code: int, message: str, metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Trailers of a call that failed; after `ANSWER` in one block they are a whole answer."""
    return block([("grpc-status", str(code)), ("grpc-message", percent(message)), *metadata])


def http_block(status: int) -> bytes:
    """The whole answer to a request that is no gRPC call."""
    return block([(":status", str(status))])
