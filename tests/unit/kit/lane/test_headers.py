"""Headers: which requests are calls, what their deadline is, and blocks that any HPACK decoder reads."""

import pytest
from hpack import Decoder

from services.kit.errors import WeftError
from services.kit.lane.headers import ANSWER, Head, Malformed, NotGrpc, block, percent, read_head, read_timeout
from services.kit.lane.message import Request
from tests.unit.kit.lane.peer import HEADERS


def fields(**changes: str | None) -> list[tuple[bytes, bytes]]:
    """The usual headers with some changed, or taken out (None); `_x` stands for `:x`, `a_b` for `a-b`."""
    named = dict(HEADERS) | {(":" + k[1:] if k[0] == "_" else k.replace("_", "-")): v for k, v in changes.items()}
    return [(name.encode(), value.encode()) for name, value in named.items() if value is not None]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param(fields(), Head("/weft.test.v1.TestService/Call"), id="plain"),
        pytest.param(fields(grpc_timeout="250m", x="y"), Head("/weft.test.v1.TestService/Call", 0.25), id="timeout"),
        pytest.param(
            fields(content_type="application/grpc+proto"), Head("/weft.test.v1.TestService/Call"), id="+proto"
        ),
        pytest.param(
            fields(traceparent="00-1"),
            Head("/weft.test.v1.TestService/Call", None, {"traceparent": "00-1"}),
            id="trace context",
        ),
        pytest.param(fields(content_type="application/json"), NotGrpc(415), id="not gRPC"),
        pytest.param(fields(content_type=None), NotGrpc(415), id="no type"),
        pytest.param(fields(content_type="application/grpc-web"), NotGrpc(415), id="gRPC-Web"),
        pytest.param(fields(content_type="application/grpc+json"), NotGrpc(415), id="another codec"),
        pytest.param(fields(_method="GET"), NotGrpc(405), id="GET"),
        pytest.param(fields(_path=None), Malformed(), id="no path"),
        pytest.param(fields(te="gzip"), Malformed(), id="te"),
        pytest.param(fields(connection="close"), Malformed(), id="connection"),
        pytest.param([*fields(), (b":path", b"/")], Malformed(), id="pseudo-header after others"),
        pytest.param([(b":path", b"/"), *fields()], Malformed(), id="pseudo-header twice"),
        pytest.param(fields(_status="200"), Malformed(), id="a response's"),
        pytest.param([*fields(), (b"Upper", b"x")], Malformed(), id="upper case"),
        pytest.param([*fields(), (b"", b"x")], Malformed(), id="no name"),
    ],
)
def test_requests(given: list[tuple[bytes, bytes]], found: object) -> None:
    assert read_head(given) == found


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1H", 3600.0), ("2M", 120.0), ("3S", 3.0), ("4m", 0.004), ("5u", 5e-6), ("99999999n", 0.099999999), ("0S", 0.0)],
)
def test_timeouts(value: str, seconds: float) -> None:
    assert read_timeout(value.encode()) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ["", "S", "1", "-1S", "999999999S", "1.5S", "1s", "1S ", "\xff"])
def test_wrong_timeouts_are_told(value: str) -> None:
    assert isinstance(read_timeout(value.encode("latin-1")), WeftError)
    assert isinstance(read_head(fields(grpc_timeout=value)), WeftError)


def test_missing_te_is_told_as_a_status() -> None:
    assert isinstance(read_head(fields(te=None)), WeftError)


def test_any_decoder_reads_our_blocks() -> None:
    long = "x" * 70_000
    found = Decoder(max_header_list_size=200_000).decode(
        b"\x20"
        + ANSWER
        + block([("grpc-message", percent("50 % ünd\n")), ("long", long), ("details-bin", b"\0\xff\x10")])
    )
    assert found == [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-message", "50 %25 %C3%BCnd%0A"),
        ("long", long),
        ("details-bin", "AP8Q"),
    ]


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        pytest.param([b"\0\0\0\0\x02hi"], b"hi", id="whole"),
        pytest.param([b"\0", b"\0\0\0", b"\x02h", b"i"], b"hi", id="in parts"),
        pytest.param([b"\0\0\0\0\0"], b"", id="empty"),
        pytest.param([], "INCOMPLETE_MESSAGE", id="nothing"),
        pytest.param([b"\0\0\0\0\x02h"], "INCOMPLETE_MESSAGE", id="too short"),
        pytest.param([b"\0\0\0\0\x01hi"], "MORE_THAN_ONE_MESSAGE", id="too long"),
        pytest.param([b"\x01\0\0\0\x01h"], "UNIMPLEMENTED", id="compressed"),
        pytest.param([b"\0\0\0\0\x65"], "MESSAGE_TOO_LARGE", id="too large, refused before it comes"),
    ],
)
def test_bodies(parts: list[bytes], end: bytes | str) -> None:
    request = Request(100)
    found: object = next((error for part in parts if (error := request.feed(part))), None) or request.whole()
    assert (found.reason if isinstance(found, WeftError) else found) == end
