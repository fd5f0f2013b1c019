"""The lane's protocol without sockets: what a client may do, what it may not, and what it is sent."""

import struct

import pytest

from services.kit.lane.connection import (
    FAREWELL,
    Broken,
    Cancelled,
    Completed,
    Connection,
    Moved,
    Opened,
    Received,
)
from services.kit.lane.frames import (
    MAX_WINDOW,
    PREFACE,
    Code,
    Flag,
    Kind,
    Setting,
    frame,
    goaway,
    read_settings,
    reset,
    settings,
    window_update,
    word,
)
from services.kit.lane.limits import Limits
from tests.unit.kit.lane.peer import HEADERS, MESSAGE, Peer


def test_server_speaks_first_and_acknowledges_settings() -> None:
    peer = Peer()
    peer.read()
    values = dict(read_settings(peer.of(Kind.SETTINGS)[0].payload))
    assert values[Setting.MAX_CONCURRENT_STREAMS] == peer.limits.max_streams
    assert word(peer.of(Kind.WINDOW_UPDATE)[0].payload) == peer.limits.connection_window_bytes - 65_535
    assert peer.send(PREFACE + settings({})) == []
    assert peer.frames[-1] == (Kind.SETTINGS, Flag.ACK, 0, b"")


def test_request_comes_out_however_it_is_cut() -> None:
    peer = Peer()
    data = PREFACE + settings({}) + peer.request()
    events = [event for byte in data for event in peer.send(bytes((byte,)))]
    assert [type(event) for event in events] == [Opened, Received, Completed]
    assert dict(events[0].fields)[b":path"] == HEADERS[2][1].encode()
    assert events[1].data == MESSAGE


def test_padding_and_priority_are_taken_off() -> None:
    peer = Peer().greet()
    block = peer.encoder.encode(HEADERS)
    flags = Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY
    head = frame(Kind.HEADERS, flags, 1, b"\x03" + b"\0\0\0\0\x10" + block + b"\0\0\0")
    body = frame(Kind.DATA, Flag.PADDED | Flag.END_STREAM, 1, b"\x02" + MESSAGE + b"\0\0")
    events = peer.send(head + body)
    assert [type(event) for event in events] == [Opened, Received, Completed]
    assert events[1].data == MESSAGE


def test_headers_may_go_on_in_continuations_and_end_in_trailers() -> None:
    peer = Peer().greet()
    block = peer.encoder.encode(HEADERS)
    parts = frame(Kind.HEADERS, 0, 1, block[:5]) + frame(Kind.CONTINUATION, 0, 1, block[5:9])
    events = peer.send(parts + frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, block[9:]))
    assert [type(event) for event in events] == [Opened]
    events = peer.send(frame(Kind.DATA, 0, 1, MESSAGE) + peer.head(headers=[("x", "y")], end=True))
    assert [type(event) for event in events] == [Received, Completed]


def break_with(*frames: bytes) -> bytes:
    return b"".join(frames)


FIRST = frame(Kind.HEADERS, 0, 1, b"\x88")
BROKEN = {
    "no preface": (None, b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR),
    "no settings": (None, PREFACE + frame(Kind.PING, 0, 0, b"12345678"), Code.PROTOCOL_ERROR),
    "frame too large": ("", b"\xff\xff\xff\0\0\0\0\0\x01", Code.FRAME_SIZE_ERROR),
    "data on no stream": ("", frame(Kind.DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data on an idle stream": ("", frame(Kind.DATA, 0, 7, b"x"), Code.PROTOCOL_ERROR),
    "even stream": ("", frame(Kind.HEADERS, Flag.END_HEADERS, 2, b"\x88"), Code.PROTOCOL_ERROR),
    "continuation of nothing": ("", frame(Kind.CONTINUATION, Flag.END_HEADERS, 1, b""), Code.PROTOCOL_ERROR),
    "another frame among headers": ("", FIRST + frame(Kind.PING, 0, 0, b"12345678"), Code.PROTOCOL_ERROR),
    "another stream's continuation": ("", FIRST + frame(Kind.CONTINUATION, 4, 3, b""), Code.PROTOCOL_ERROR),
    "headers that are none": ("", frame(Kind.HEADERS, Flag.END_HEADERS, 1, b"\xff" * 9), Code.COMPRESSION_ERROR),
    "padding over the frame": ("", frame(Kind.HEADERS, Flag.END_HEADERS | 8, 1, b"\x09x"), Code.PROTOCOL_ERROR),
    "padding without a length": ("", frame(Kind.HEADERS, Flag.END_HEADERS | 8, 1), Code.FRAME_SIZE_ERROR),
    "push": ("", frame(Kind.PUSH_PROMISE, 4, 1, b"\0\0\0\x02"), Code.PROTOCOL_ERROR),
    "settings on a stream": ("", frame(Kind.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "settings cut": ("", frame(Kind.SETTINGS, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR),
    "settings answered with some": ("", frame(Kind.SETTINGS, Flag.ACK, 0, b"123456"), Code.FRAME_SIZE_ERROR),
    "window over 2^31-1": ("", settings({Setting.INITIAL_WINDOW_SIZE: 2**31}), Code.FLOW_CONTROL_ERROR),
    "frame size": ("", settings({Setting.MAX_FRAME_SIZE: 100}), Code.PROTOCOL_ERROR),
    "push setting": ("", settings({Setting.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "ping on a stream": ("", frame(Kind.PING, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
    "ping cut": ("", frame(Kind.PING, 0, 0, b"1234"), Code.FRAME_SIZE_ERROR),
    "reset of an idle stream": ("", reset(9, Code.CANCEL), Code.PROTOCOL_ERROR),
    "reset cut": ("", frame(Kind.RST_STREAM, 0, 1, b"1"), Code.FRAME_SIZE_ERROR),
    "window by nothing": ("", window_update(0, 0), Code.PROTOCOL_ERROR),
    "window of the connection": ("", window_update(0, MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
    "window of an idle stream": ("", window_update(5, 1), Code.PROTOCOL_ERROR),
    "window cut": ("", frame(Kind.WINDOW_UPDATE, 0, 0, b"1"), Code.FRAME_SIZE_ERROR),
    "goaway on a stream": ("", frame(Kind.GOAWAY, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
    "priority without a stream": ("", frame(Kind.PRIORITY, 0, 0, b"12345"), Code.PROTOCOL_ERROR),
    "priority cut": ("", frame(Kind.PRIORITY, 0, 1, b"1234"), Code.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize(("greeted", "data", "code"), BROKEN.values(), ids=BROKEN)
def test_broken_rule_of_the_connection_ends_it(greeted: str | None, data: bytes, code: Code) -> None:
    peer = Peer() if greeted is None else Peer().greet()
    events = peer.send(data)
    assert isinstance(events[-1], Broken)
    assert peer.code(Kind.GOAWAY) == code
    assert peer.frames[-1].kind == Kind.GOAWAY
    assert peer.send(peer.request()) == [], "nothing is heard any more"


FAILED = {
    "data after the end": (frame(Kind.DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
    "headers after the end": (frame(Kind.HEADERS, Flag.END_HEADERS | 1, 1, b"\x88"), Code.STREAM_CLOSED),
    "window by nothing": (window_update(1, 0), Code.PROTOCOL_ERROR),
    "window over 2^31-1": (window_update(1, MAX_WINDOW), Code.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("data", "code"), FAILED.values(), ids=FAILED)
def test_broken_rule_of_a_stream_ends_it_alone(data: bytes, code: Code) -> None:
    peer = Peer().greet()
    peer.send(peer.request(1) + peer.request(3))
    (event,) = peer.send(data)
    assert isinstance(event, Cancelled)
    assert event.stream.stream_id == 1
    assert peer.code(Kind.RST_STREAM) == code
    assert list(peer.server.streams) == [3]
    assert peer.send(frame(Kind.DATA, 0, 1, b"late")) == [], "what was on its way is let go"


def test_messages_of_one_moment_are_one_run_of_bytes() -> None:
    peer = Peer().greet()
    for stream_id in (1, 3, 5):
        peer.open(stream_id)
    for stream in peer.server.streams.values():
        assert stream.push(b"token")
    peer.read()
    assert [(f.stream_id, f.payload) for f in peer.frames] == [(i, b"\0\0\0\0\x05token") for i in (1, 3, 5)]


def test_what_no_window_has_room_for_waits_in_order() -> None:
    peer = Peer().greet(initial_window_size=12)
    peer.open()
    stream = peer.server.streams[1]
    stream.send(b"abcde")
    assert not stream.push(b"fghij"), "it would not leave whole"
    stream.send(b"fghij")
    stream.end(b"\x88")
    peer.read()
    assert peer.data(1) == b"\0\0\0\0\x05abcde\0\0"
    assert not peer.of(Kind.HEADERS)
    events = peer.grant(1, 100)
    assert [type(event) for event in events] == [Moved]
    assert peer.data(1) == b"\0\0\0\0\x05abcde\0\0\0\0\x05fghij"
    assert peer.frames[-1].kind == Kind.HEADERS
    assert peer.frames[-1].flags & Flag.END_STREAM
    assert not peer.server.streams


def test_connection_window_is_shared_and_streams_take_turns() -> None:
    peer = Peer().greet(initial_window_size=MAX_WINDOW)
    peer.open(1)
    peer.open(3)
    for stream in peer.server.streams.values():
        stream.send(bytes(60_000))
    peer.read()
    assert sum(len(f.payload) for f in peer.of(Kind.DATA)) == 65_535
    assert len(peer.data(1)) == 60_005, "it was alone"
    peer.server.streams[1].send(bytes(60_000))
    peer.frames.clear()
    peer.grant(0, 40_000)
    assert [len(peer.data(i)) for i in (1, 3)] == [20_000 - 3_616, 20_000 + 3_616]
    peer.grant(0, 10_000_000)
    assert not peer.server.out.blocked


def test_settings_can_make_a_window_negative() -> None:
    peer = Peer().greet()
    peer.open()
    stream = peer.server.streams[1]
    stream.send(bytes(1000))
    peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 10}))
    assert stream.window == 10 - 1005
    stream.send(b"later")
    assert len(peer.read()) == 2
    assert peer.grant(1, 995) == [], "zero is still no room"
    assert peer.grant(1, 10)
    assert peer.data(1)[1005:] == b"\0\0\0\0\x05later"


def test_settings_can_grow_windows_and_frames() -> None:
    peer = Peer().greet(initial_window_size=5)
    peer.open()
    peer.server.streams[1].send(bytes(30_000))
    peer.read()
    grown = settings({Setting.INITIAL_WINDOW_SIZE: 60_000, Setting.MAX_FRAME_SIZE: 1_000_000})
    events = peer.server.receive(grown, 0.0)
    assert [type(event) for event in events] == [Moved]
    assert max(len(data) for data in peer.server.out.frames) == 30_000 + 9
    peer.server.out.take()
    (broken,) = peer.send(window_update(1, 60_000) + settings({Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW}))
    assert isinstance(broken, Broken), "no window may be over 2^31-1"


def test_paused_socket_holds_data_back_but_not_control() -> None:
    peer = Peer().greet()
    peer.open()
    peer.server.out.paused = True
    stream = peer.server.streams[1]
    assert not stream.push(b"token")
    stream.send(b"token")
    peer.send(frame(Kind.PING, 0, 0, b"12345678"))
    assert [f.kind for f in peer.frames] == [Kind.PING]
    peer.server.out.paused = False
    assert [type(event) for event in peer.server.pump()] == [Moved]
    peer.read()
    assert peer.data(1) == b"\0\0\0\0\x05token"


def test_answer_before_the_requests_end_stops_the_client() -> None:
    peer = Peer().greet()
    ((opened),) = peer.send(peer.head())
    assert isinstance(opened, Opened)
    opened.stream.end(b"\x88")
    peer.server.settle(opened.stream)
    peer.read()
    assert [f.kind for f in peer.frames] == [Kind.HEADERS, Kind.RST_STREAM]
    assert peer.code(Kind.RST_STREAM) == Code.NO_ERROR
    assert not peer.server.streams
    assert peer.send(frame(Kind.DATA, Flag.END_STREAM, 1, MESSAGE)) == []


def test_reset_cancels_and_nothing_more_is_sent() -> None:
    peer = Peer().greet()
    peer.open()
    stream = peer.server.streams[1]
    (event,) = peer.send(reset(1, Code.CANCEL))
    assert event == Cancelled(stream)
    stream.send(b"x")
    stream.end(b"\x88")
    assert not peer.read()


def test_windows_are_given_back_as_bodies_are_read() -> None:
    limits = Limits(window_bytes=65_535, connection_window_bytes=70_000)
    peer = Peer(limits).greet()
    peer.send(peer.head())
    for _ in range(40):
        peer.send(frame(Kind.DATA, 0, 1, bytes(16_000)))
    granted = {i: sum(word(f.payload) for f in peer.of(Kind.WINDOW_UPDATE, i)) for i in (0, 1)}
    assert granted[0] >= 590_000
    assert granted[1] >= 600_000


def test_one_stream_too_many_is_refused() -> None:
    peer = Peer(Limits(max_streams=2)).greet()
    peer.send(peer.request(1) + peer.request(3) + peer.request(5))
    assert list(peer.server.streams) == [1, 3]
    assert peer.code(Kind.RST_STREAM) == Code.REFUSED_STREAM


FLOODS = {
    "ping": frame(Kind.PING, 0, 0, b"12345678"),
    "settings": settings({}),
    "empty data": frame(Kind.DATA, 0, 1),
    "priority": frame(Kind.PRIORITY, 0, 1, b"12345"),
    "unknown frames": frame(77, 0, 0, b"x"),
    "goaway": goaway(0, Code.NO_ERROR),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_flood_ends_the_connection(flood: bytes) -> None:
    peer = Peer(Limits(noise_limit=100)).greet()
    peer.send(peer.head())
    for _ in range(90):
        assert not peer.send(flood)
    peer.now_s += 11.0
    for _ in range(90):
        assert not peer.send(flood), "it is a rate that is bounded"
    events = [event for _ in range(20) for event in peer.send(flood)]
    assert isinstance(events[-1], Broken)
    assert peer.code(Kind.GOAWAY) == Code.ENHANCE_YOUR_CALM


def test_rapid_resets_end_the_connection() -> None:
    peer = Peer(Limits(reset_limit=50)).greet()
    events = [e for i in range(60) for e in peer.send(peer.request(2 * i + 1) + reset(2 * i + 1, Code.CANCEL))]
    assert isinstance(events[-1], Broken)
    assert peer.code(Kind.GOAWAY) == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([frame(Kind.HEADERS, 0, 1, b"\0")] + [frame(Kind.CONTINUATION, 0, 1)] * 9, id="many"),
        pytest.param([frame(Kind.HEADERS, 0, 1, bytes(16_000))] + [frame(9, 0, 1, bytes(16_000))] * 3, id="large"),
    ],
)
def test_continuations_are_bounded(frames: list[bytes]) -> None:
    peer = Peer().greet()
    assert isinstance(peer.send(b"".join(frames))[-1], Broken)
    assert peer.code(Kind.GOAWAY) == Code.ENHANCE_YOUR_CALM


def test_unpacked_headers_are_bounded() -> None:
    peer = Peer().greet()
    block = peer.encoder.encode([*HEADERS, ("x", "y" * 4000)]) + b"\xbe" * 50
    assert isinstance(peer.send(frame(Kind.HEADERS, Flag.END_HEADERS, 1, block))[-1], Broken)
    assert peer.code(Kind.GOAWAY) == Code.COMPRESSION_ERROR


def test_drain_in_two_steps_loses_no_call() -> None:
    peer = Peer().greet()
    peer.send(peer.request(1))
    peer.server.drain()
    peer.read()
    assert [word(f.payload) for f in peer.of(Kind.GOAWAY)] == [MAX_WINDOW]
    assert [type(e) for e in peer.send(peer.request(3))] == [Opened, Received, Completed], "it was on its way"
    peer.send(frame(Kind.PING, Flag.ACK, 0, FAREWELL))
    assert peer.server.parted
    assert word(peer.of(Kind.GOAWAY)[-1].payload) == 3
    assert peer.send(peer.request(5)) == []
    assert peer.code(Kind.RST_STREAM) == Code.REFUSED_STREAM
    assert list(peer.server.streams) == [1, 3]


def test_pings_are_answered_with_what_they_held() -> None:
    peer = Peer().greet()
    peer.send(frame(Kind.PING, 0, 0, b"abcdefgh"))
    assert peer.frames == [(Kind.PING, Flag.ACK, 0, b"abcdefgh")]


def test_unfinished_and_unread_streams_are_stale() -> None:
    peer = Peer(now_s=10.0).greet(initial_window_size=1)
    peer.send(peer.head(1) + peer.request(3) + peer.request(5))
    unread = peer.server.streams[3]
    unread.head(b"\x88")
    unread.send(b"much")
    unread.end(b"\x88")
    assert [s.stream_id for s in peer.server.stale(11.0)] == [1, 3]
    assert not peer.server.stale(10.0)


def test_large_blocks_are_cut_into_frames() -> None:
    server = Connection(Limits())
    server.out.take()
    server.out.headers(1, bytes(40_000), end=True)
    sizes = [struct.unpack(">I", b"\0" + data[:3])[0] for data in server.out.frames]
    kinds = [(data[3], data[4]) for data in server.out.frames]
    assert sizes == [16_384, 16_384, 40_001 - 2 * 16_384]
    assert kinds == [(Kind.HEADERS, Flag.END_STREAM), (Kind.CONTINUATION, 0), (Kind.CONTINUATION, Flag.END_HEADERS)]


def waiting(peer: Peer, count: int, size: int) -> list[int]:
    """Streams that have so many bytes to send, each; their numbers."""
    numbers = [2 * n + 1 for n in range(count)]
    for number in numbers:
        peer.send(peer.request(number))
        peer.server.streams[number].send(b"x" * size)
    peer.read()
    peer.frames.clear()
    return numbers


def test_connection_window_is_shared_in_turns() -> None:
    peer = Peer().greet()
    numbers = waiting(peer, 4, 65_000)
    peer.send(window_update(0, 3 * 16_384))
    sent = [found.stream_id for found in peer.of(Kind.DATA)]
    assert len(sent) == len(set(sent)) == 3
    assert set(sent) <= set(numbers)


def test_stream_whose_own_window_is_shut_takes_no_turn() -> None:
    peer = Peer().greet(initial_window_size=10)
    numbers = waiting(peer, 3, 100)
    assert not peer.server.out.blocked
    peer.send(window_update(numbers[1], 1000))
    assert {found.stream_id for found in peer.of(Kind.DATA)} == {numbers[1]}
    peer.frames.clear()
    peer.send(settings({Setting.INITIAL_WINDOW_SIZE: 500}))
    assert {found.stream_id for found in peer.of(Kind.DATA)} == {numbers[0], numbers[2]}


def test_of_a_setting_that_comes_twice_the_last_counts() -> None:
    peer = Peer().greet()
    peer.send(peer.request(1))
    pairs = b"".join(struct.pack(">HI", Setting.INITIAL_WINDOW_SIZE, value) for value in (70_000, 10, 100))
    peer.send(frame(Kind.SETTINGS, 0, 0, pairs))
    assert peer.server.streams[1].window == 100
