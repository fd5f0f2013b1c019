"""What a StreamChat request looks like on the wire, and what the codes and statuses of its answers stand for."""

from loadtest.load.client import Target
from loadtest.load.record import Record
from services.kit.lane.frames import Code
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

METHOD = b"/weft.router.v1.RouterService/StreamChat"
CODES = {
    0: "OK",
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
RESETS: dict[int, str] = {
    Code.REFUSED_STREAM: "UNAVAILABLE",
    Code.CANCEL: "CANCELLED",
    Code.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
}
"""The codes that resets stand for; every other one is INTERNAL (gRPC over HTTP/2, "Errors")."""
STATUSES = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
}
"""The codes that HTTP statuses without a grpc-status stand for (gRPC's http-grpc-status-mapping); else UNKNOWN."""
_ROLES = {
    "system": chat_pb2.ROLE_SYSTEM,
    "user": chat_pb2.ROLE_USER,
    "assistant": chat_pb2.ROLE_ASSISTANT,
    "tool": chat_pb2.ROLE_TOOL,
}


def message(record: Record, target: Target) -> bytes:
    """The request as StreamChat takes it."""
    request = record.request
    return router_pb2.StreamChatRequest(
        model=target.model,
        messages=[chat_pb2.Message(role=_ROLES[role], content=content) for role, content in request.messages],
        sampling=chat_pb2.Sampling(max_tokens=request.max_tokens, seed=request.seed),
        session_id=request.session,
    ).SerializeToString()


def header_block(target: Target, method: bytes = METHOD) -> bytes:
    """The same for every request, so it is made once: fields without a table, which HPACK allows anybody (RFC 7541)."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + _string(name) + _string(value)

    scheme = b"\x87" if target.tls or target.ca_file else b"\x86"
    fixed = b"\x83" + scheme + b"\x04" + _string(method) + b"\x01" + _string(target.authority.encode())
    fields = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"weft-load")]
    fields.append((b"grpc-timeout", b"%dm" % int(target.timeout_s * 1e3)))
    fields += [(name.lower().encode(), value.encode()) for name, value in target.headers]
    return fixed + b"".join([literal(name, value) for name, value in fields])


def _string(value: bytes) -> bytes:
    if len(value) < 127:
        return bytes((len(value),)) + value
    rest, digits = len(value) - 127, bytearray((127,))
    while rest > 0x7F:
        digits.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*digits, rest)) + value
