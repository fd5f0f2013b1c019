"""The gRPC client against a server that is told every frame: windows, settings, resets, and how a connection ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hpack import Encoder

from loadtest.load.client import Target
from loadtest.load.grpc_client import GrpcClient
from loadtest.load.record import OK, Record
from loadtest.load.runner import Clock
from services.kit.lane.frames import (
    PREFACE,
    Code,
    Flag,
    Frame,
    Kind,
    Setting,
    frame,
    goaway,
    reset,
    settings,
    split,
    window_update,
)
from tests.rpc.loadtest.conftest import ask, requests
from weft.router.v1 import router_pb2

Next = Callable[[], Awaitable[Frame]]
Serve = Callable[[Next, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _server(serve: Serve, **first: int) -> AsyncIterator[int]:
    """One that has read the preface and sent these settings; `serve` does the rest."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = bytearray()
        found: list[Frame] = []

        async def following() -> Frame:
            while not found:
                more = await reader.read(65_536)
                if not more:
                    raise ConnectionError("the client left")
                data.extend(more)
                found.extend(split(data))
            return found.pop(0)

        try:
            await reader.readexactly(len(PREFACE))
            writer.write(settings({Setting[name]: value for name, value in first.items()}))
            await serve(following, writer)
            await writer.drain()
            while True:
                await following()
        except OSError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _headers(stream_id: int, *fields: tuple[str, str], end: bool = False) -> bytes:
    flags = Flag.END_HEADERS | (Flag.END_STREAM if end else 0)
    return frame(Kind.HEADERS, flags, stream_id, Encoder().encode(fields))


def _message(**event: object) -> bytes:
    data = router_pb2.StreamChatResponse(**event).SerializeToString()  # type: ignore[arg-type]  # one of its events
    return b"\0" + len(data).to_bytes(4, "big") + data


TOKENS = _message(tokens=router_pb2.Tokens(index=0, token_ids=[5]))
FINISHED = _message(finished=router_pb2.Finished())


def _answer(stream_id: int) -> bytes:
    head = _headers(stream_id, (":status", "200"), ("content-type", "application/grpc"))
    return (
        head + frame(Kind.DATA, 0, stream_id, TOKENS + FINISHED) + _headers(stream_id, ("grpc-status", "0"), end=True)
    )


async def _whole(following: Next, taken: Callable[[Frame], None] = lambda _: None) -> int:
    """Reads one request to its end; its stream."""
    while True:
        found = await following()
        if found.kind == Kind.DATA:
            taken(found)
            if found.flags & Flag.END_STREAM:
                return found.stream_id


async def test_a_long_prompt_keeps_to_its_streams_own_window() -> None:
    """The connection's window is wide; the stream's is opened bit by bit, by updates and by a change of settings."""
    got = 0
    allowed = 1000

    def taken(found: Frame) -> None:
        nonlocal got, allowed
        got += len(found.payload)
        assert got <= allowed
        if got == 1000:
            allowed += 500
            writers[0].write(window_update(found.stream_id, 500))
        elif got == 1500:
            allowed += 1_000_000
            writers[0].write(settings({Setting.INITIAL_WINDOW_SIZE: 1_001_000}))

    writers: list[asyncio.StreamWriter] = []

    async def serve(following: Next, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(window_update(0, 10_000_000))
        writer.write(_answer(await _whole(following, taken)))

    async with _server(serve, INITIAL_WINDOW_SIZE=1000) as port:
        client = GrpcClient(Target("127.0.0.1", port, timeout_s=10.0), Clock(), connections=1)
        record = await _ask(client, words=20_000)
    assert (record.code, record.tokens) == (OK, 1)
    assert got > 100_000


async def _ask(client: GrpcClient, words: int = 1) -> Record:
    ended: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
    await client.open()
    try:
        client.send(Record(requests(1, 4, words=words)[0]), ended.set_result)
        async with asyncio.timeout(10):
            return await ended
    finally:
        await client.close()
        await asyncio.sleep(0)


def _replies(*parts: Callable[[int], bytes]) -> Serve:
    async def serve(following: Next, writer: asyncio.StreamWriter) -> None:
        stream_id = await _whole(following)
        for part in parts:
            writer.write(part(stream_id))

    return serve


STATUS_200 = (":status", "200")


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param((_answer,), OK, id="whole"),
        pytest.param(
            (lambda s: _headers(s, STATUS_200, ("grpc-status", "8"), ("grpc-message", "f%20u"), end=True),),
            "RESOURCE_EXHAUSTED",
            id="trailers-only",
        ),
        pytest.param((lambda s: _headers(s, (":status", "401"), end=True),), "UNAUTHENTICATED", id="http-401"),
        pytest.param((lambda s: _headers(s, (":status", "503")),), "UNAVAILABLE", id="http-503"),
        pytest.param((lambda s: _headers(s, (":status", "500"), end=True),), "UNKNOWN", id="http-500"),
        pytest.param((lambda s: reset(s, Code.REFUSED_STREAM),), "UNAVAILABLE", id="refused"),
        pytest.param((lambda s: reset(s, Code.CANCEL),), "CANCELLED", id="cancelled"),
        pytest.param((lambda s: reset(s, Code.ENHANCE_YOUR_CALM),), "RESOURCE_EXHAUSTED", id="calm"),
        pytest.param((lambda s: reset(s, Code.INTERNAL_ERROR),), "INTERNAL", id="internal"),
        pytest.param((lambda s: goaway(0, Code.NO_ERROR),), "UNAVAILABLE", id="goaway-before-it"),
        pytest.param((lambda s: goaway(s, Code.NO_ERROR), _answer), OK, id="goaway-after-it"),
        pytest.param(
            (
                lambda s: (
                    _headers(s, STATUS_200) + frame(Kind.DATA, Flag.PADDED, s, b"\3" + TOKENS + FINISHED + b"\0" * 3)
                ),
                lambda s: _headers(s, ("grpc-status", "0"), end=True),
            ),
            OK,
            id="padded",
        ),
        pytest.param((lambda s: frame(Kind.DATA, Flag.PADDED, s, b"\x09a"),), "BROKEN_ANSWER", id="wrong-padding"),
        pytest.param((lambda _: frame(Kind.SETTINGS, 0, 0, b"12345"),), "BROKEN_ANSWER", id="wrong-settings"),
        pytest.param((lambda s: _headers(s, ("grpc-status", "x"), end=True),), "BROKEN_ANSWER", id="wrong-status"),
        pytest.param(
            (lambda s: _headers(s, STATUS_200) + frame(Kind.DATA, 0, s, b"\1" + TOKENS[1:]),),
            "BROKEN_ANSWER",
            id="compressed",
        ),
        pytest.param(
            (lambda s: _headers(s, STATUS_200) + frame(Kind.DATA, 0, s, b"\0\0\0\0\2\xff\xff"),),
            "BROKEN_ANSWER",
            id="junk",
        ),
    ],
)
async def test_how_answers_end(parts: tuple[Callable[[int], bytes], ...], code: str) -> None:
    async with _server(_replies(*parts)) as port:
        client = GrpcClient(Target("127.0.0.1", port, timeout_s=10.0), Clock(), connections=1)
        record = await _ask(client)
    assert record.code == code


async def test_a_server_that_forgets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.load.grpc_connection.DEADLINE_GRACE_S", 0.05)
    async with _server(_replies()) as port:
        record = await ask("grpc", port, timeout_s=0.1)
    assert record.code == "DEADLINE_EXCEEDED"


async def test_after_goaway_another_connection_is_taken() -> None:
    connections = 0

    async def serve(following: Next, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        stream_id = await _whole(following)
        writer.write(_answer(stream_id) + goaway(stream_id, Code.NO_ERROR))

    async with _server(serve) as port:
        client = GrpcClient(Target("127.0.0.1", port, timeout_s=10.0), Clock(), connections=1)
        await client.open()
        try:
            for request in requests(3, 4):
                ended: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
                client.send(Record(request), ended.set_result)
                async with asyncio.timeout(10):
                    assert (await ended).code == OK
        finally:
            await client.close()
            await asyncio.sleep(0)
    assert connections == 3


def test_an_ipv6_target_has_brackets() -> None:
    assert Target("::1", 80).authority == "[::1]:80"
