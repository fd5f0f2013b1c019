"""Puts a call's one request message together from DATA. It does not parse it."""

from services.kit.errors import Exhausted, Internal, InvalidArgument, Unimplemented, WeftError


class Request:
    """The bytes of a message with its five-byte prefix, at most `limit_bytes` of them; the rest is refused unread."""

    __slots__ = ("_data", "_limit_bytes", "_size")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()
        self._size: int | None = None

    def __repr__(self) -> str:
        return f"Request({len(self._data)} of {self._size} bytes)"

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> WeftError | None:
        """Takes what came; the error that the call ends with where it cannot be."""
        self._data += data
        if self._size is None:
            if len(self._data) < 5:
                return None
            if self._data[0]:
                return Unimplemented("the message is compressed, which this port does not read; send it plain")
            self._size = int.from_bytes(self._data[1:5], "big")
            if self._size > self._limit_bytes:
                text = f"the message has {self._size} bytes and at most {self._limit_bytes} are taken; send less"
                return Exhausted(text, reason="MESSAGE_TOO_LARGE")
        if len(self._data) > self._size + 5:
            return InvalidArgument("the call carries more than one message", reason="MORE_THAN_ONE_MESSAGE")
        return None

    def whole(self) -> bytes | WeftError:
        """The message, once the client has sent all that it wants to."""
        if self._size is None or len(self._data) != self._size + 5:
            return Internal("the call ended before its message was complete", reason="INCOMPLETE_MESSAGE")
        return bytes(self._data[5:])
