"""HTTP/2 frames as bytes (RFC 9113, sections 4 and 6). It keeps no state."""

import struct
from enum import IntEnum
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
MAX_FRAME_BYTES = 16_384
"""The largest payload that either side may send unless it was allowed more; this side allows no more."""
MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535

_HEADER = struct.Struct(">BHBBI")
MESSAGE_HEAD = struct.Struct(">BHBBIBI").pack
"""A DATA frame's head (its size in two parts, type, flags, stream) and a gRPC message's (compressed or not, size)."""
_WORD = struct.Struct(">I")
_SETTING = struct.Struct(">HI")


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag(IntEnum):
    """Frame flags; ACK and END_STREAM share a bit, in frames of different types."""

    ACK = 1
    END_STREAM = 1
    END_HEADERS = 4
    PADDED = 8
    PRIORITY = 32


class Code(IntEnum):
    """Error codes."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """Settings that mean something here."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Frame(NamedTuple):
    """One frame as it came; `kind` may be a number that nobody knows."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes


class BrokenConnection(Exception):
    """The peer broke the protocol so that the connection cannot go on; `code` goes into GOAWAY."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def split(data: bytearray) -> list[Frame]:
    """Takes every complete frame from the front of `data`. Raises BrokenConnection where one is too large."""
    found, start, size = [], 0, len(data)
    while size - start >= HEADER_BYTES:
        high, low, kind, flags, stream_id = _HEADER.unpack_from(data, start)
        length = high << 16 | low
        if length > MAX_FRAME_BYTES:
            raise BrokenConnection(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes; {MAX_FRAME_BYTES} are allowed")
        end = start + HEADER_BYTES + length
        if end > size:
            break
        found.append(Frame(kind, flags, stream_id & MAX_WINDOW, bytes(data[start + HEADER_BYTES : end])))
        start = end
    del data[:start]
    return found


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    size = len(payload)
    return _HEADER.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of a SETTINGS frame whose length is a multiple of 6."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(Kind.WINDOW_UPDATE, 0, stream_id, _WORD.pack(increment))


def reset(stream_id: int, code: Code) -> bytes:
    """An RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream_id, _WORD.pack(code))


def goaway(last_stream_id: int, code: Code, message: str = "") -> bytes:
    """A GOAWAY frame."""
    return frame(Kind.GOAWAY, 0, 0, _WORD.pack(last_stream_id) + _WORD.pack(code) + message.encode()[:256])


def word(payload: bytes) -> int:
    """The first four bytes as a number, without the reserved bit."""
    return int(_WORD.unpack_from(payload)[0]) & MAX_WINDOW


def unpadded(found: Frame) -> bytes:
    """A DATA or HEADERS frame's payload without padding and priority. Raises BrokenConnection where it cannot be."""
    payload, start, end = found.payload, 0, len(found.payload)
    if found.flags & Flag.PADDED:
        if not payload:
            raise BrokenConnection(Code.FRAME_SIZE_ERROR, "a padded frame without its padding's length")
        start, end = 1, end - payload[0]
    if found.kind == Kind.HEADERS and found.flags & Flag.PRIORITY:
        start += 5
    if start > end:
        raise BrokenConnection(Code.PROTOCOL_ERROR, "more padding than there is frame")
    return payload[start:end]
