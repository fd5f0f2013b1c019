"""The generator's clients against real sockets: whole answers, broken ones, refusals, and those who never answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loadtest.load.record import OK, UNANSWERED
from tests.rpc.loadtest.conftest import GAP_S, Ports, ask, requests, run

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("transport", ["grpc", "openai"])
async def test_every_token_of_every_answer_is_counted(emitter: Ports, transport: str) -> None:
    collector, ran = await run(transport, emitter.of(transport), requests(60, 20))
    whole = collector.whole
    assert (whole.ok, whole.tokens, whole.lost, whole.repeated) == (60, 1200, 0, 0)
    assert whole.itl.count == 60 * 19
    assert whole.tpot.quantile_s(50.0) > GAP_S * 0.8
    assert ran.unanswered == 0


async def test_more_answers_than_one_connection_carries(emitter: Ports) -> None:
    collector, _ = await run("grpc", emitter.grpc, requests(700, 30, every_s=0.0))
    assert dict(collector.whole.codes) == {OK: 700}
    assert collector.whole.tokens == 21_000


@pytest.mark.parametrize("transport", ["grpc", "openai"])
async def test_long_prompts_get_through(emitter: Ports, transport: str) -> None:
    collector, _ = await run(transport, emitter.of(transport), requests(4, 3, words=60_000))
    assert collector.whole.ok == 4


@pytest.mark.parametrize("transport", ["grpc", "openai"])
async def test_answers_that_do_not_end_are_left_and_counted(emitter: Ports, transport: str) -> None:
    collector, ran = await run(transport, emitter.of(transport), requests(3, 4000), drain_s=0.2)
    assert dict(collector.whole.codes) == {UNANSWERED: 3}
    assert ran.unanswered == 3
    assert collector.whole.tokens > 0


@asynccontextmanager
async def _server(answer: Answer) -> AsyncIterator[int]:
    """An HTTP server that reads one request on each connection and then answers as it is told."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks)


def _says(*parts: bytes) -> Answer:
    """Sends the parts, each in a read of its own."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.005)

    return answer


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}".encode() + b"\r\n" + data + b"\r\n"


def _token(text: str, end: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{end}}}'
    return f'data: {{"id":"1","choices":[{choice}]}}\n\n'.encode()


async def test_chunks_and_events_may_be_cut_anywhere() -> None:
    stream = HEAD + _chunk(_token("a") + _token("b")) + _chunk(_token("c", '"stop"')) + _chunk(b"data: [DONE]\n\n")
    stream += b"0\r\n\r\n"
    for size in (1, 2, 3, 7, 50):
        parts = [stream[at : at + size] for at in range(0, len(stream), size)]
        if size == 1:
            parts = [stream[:200], *(stream[at : at + 1] for at in range(200, 330)), stream[330:]]
        async with _server(_says(*parts)) as port:
            record = await ask("openai", port)
        assert (record.code, record.tokens, record.reason) == (OK, 3, "STOP"), size


async def test_tokens_that_shared_a_chunk_are_counted_as_usage_says() -> None:
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    async with _server(
        _says(HEAD, _chunk(_token("a")), _chunk(usage), _chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")
    ) as port:
        record = await ask("openai", port)
    assert (record.prompt_tokens, record.tokens, record.coalesced, record.gaps) == (7, 2, 1, 0)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        pytest.param((b"HTTP/1.1 429 Too Many\r\nContent-Length: 4\r\n\r\nfull",), "RESOURCE_EXHAUSTED", id="429"),
        pytest.param((b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",), "UNAVAILABLE", id="503"),
        pytest.param((b"HTTP/1.1 418 Pot\r\nContent-Length: 0\r\n\r\n",), "HTTP_418", id="418"),
        pytest.param((HEAD, _chunk(_token("a"))), "UNAVAILABLE", id="cut-off"),
        pytest.param((HEAD, _chunk(_token("a")), b"0\r\n\r\n"), "BROKEN_ANSWER", id="no-last-event"),
        pytest.param((HEAD, b"zz\r\nwrong"), "BROKEN_ANSWER", id="no-chunk"),
        pytest.param(
            (HEAD, _chunk(b'data: {"error":{"code":14,"message":"gone"}}\n\n'), b"0\r\n\r\n"), "14", id="error-event"
        ),
        pytest.param((), "UNAVAILABLE", id="silence"),
    ],
)
async def test_what_is_no_whole_answer_has_a_code(parts: tuple[bytes, ...], code: str) -> None:
    async with _server(_says(*parts)) as port:
        record = await ask("openai", port)
    assert record.code == code


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
PLAIN = _token("a") + _token("b", '"stop"') + USAGE + DONE
SPACED = b'data:{"choices": [{"delta": {"content": "a"}}]}\n\n'


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        pytest.param((HEAD, _chunk(PLAIN.replace(b"\n", b"\r\n")), b"0\r\n\r\n"), 2, id="crlf"),
        pytest.param((HEAD, _chunk(b": ping\n\n" + SPACED + SPACED + DONE), b"0\r\n\r\n"), 2, id="spaces-and-comments"),
        pytest.param((HEAD, _chunk(b"event: x\nid: 1\n" + PLAIN), b"0\r\n\r\n"), 2, id="other-fields"),
        pytest.param(
            (HEAD, _chunk(b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n' + DONE), b"0\r\n\r\n"),
            1,
            id="reasoning",
        ),
        pytest.param((HEAD, _chunk(PLAIN.rstrip()), b"0\r\n\r\n"), 2, id="no-last-empty-line"),
        pytest.param((HEAD, _chunk(PLAIN), b"0\r\nx-cost: 1\r\n", b"\r\n"), 2, id="trailers"),
        pytest.param((b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + _chunk(PLAIN), b"0\r\n\r\n"), 2, id="continue"),
        pytest.param((b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", PLAIN), 2, id="until-close"),
        pytest.param((b"HTTP/1.0 200 OK\r\n\r\n" + PLAIN,), 2, id="http-1.0"),
        pytest.param((b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PLAIN), PLAIN), 2, id="length"),
    ],
)
async def test_answers_as_other_servers_write_them(parts: tuple[bytes, ...], tokens: int) -> None:
    async with _server(_says(*parts)) as port:
        record = await ask("openai", port)
    assert (record.code, record.detail, record.tokens) == (OK, "", tokens)


async def test_an_answer_that_is_compressed_is_named() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b12"
    async with _server(_says(head)) as port:
        record = await ask("openai", port)
    assert (record.code, "gzip" in record.detail) == ("BROKEN_ANSWER", True)


async def test_an_answer_cut_off_where_only_the_end_of_the_connection_ends_it() -> None:
    async with _server(_says(b"HTTP/1.1 200 OK\r\n\r\n" + _token("a"))) as port:
        record = await ask("openai", port)
    assert (record.code, record.tokens) == ("UNAVAILABLE", 1)


async def test_a_refused_answer_says_why() -> None:
    async with _server(_says(b"HTTP/1.1 400 Bad\r\nContent-Length: 16\r\n\r\nmodel is unknown")) as port:
        record = await ask("openai", port)
    assert (record.code, record.detail) == ("INVALID_ARGUMENT", "model is unknown")


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with _server(never) as port:
        record = await ask("openai", port, timeout_s=0.1)
    assert record.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("transport", ["grpc", "openai", "http"])
async def test_nobody_there(transport: str) -> None:
    with pytest.raises(OSError, match=r"."):
        await ask(transport, 1)


async def test_a_server_that_is_no_http2_server() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    async with server:
        with pytest.raises((OSError, TimeoutError)):
            await ask("grpc", server.sockets[0].getsockname()[1])


async def test_slow_answers_do_not_hold_back_later_requests() -> None:
    """What a closed loop hides: the server stands still for a while, and everybody who was due then has waited."""
    gate = asyncio.Event()
    came = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if came == 20:
            gate.set()
        await gate.wait()
        writer.write(HEAD + _chunk(_token("a", '"stop"')) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()

    async with _server(answer) as port:
        collector, _ = await run("openai", port, requests(20, 1, every_s=0.02))
    # Due over 0.38 s and all answered at its end: they waited from 0.38 s down to nothing, a closed loop's one would
    # have waited and the others never have been due.
    assert collector.whole.ok == 20
    assert collector.whole.ttft.quantile_s(50.0) >= 0.18
    assert collector.whole.ttft.max_s >= 0.38


async def test_a_kept_connection_that_ends_under_a_request_costs_no_answer() -> None:
    """A server may close what was idle at the moment at which the next request leaves."""
    seen = 0

    async def once_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(HEAD + _chunk(PLAIN) + b"0\r\n\r\n")
        await writer.drain()
        if seen == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
        else:
            await reader.read()

    async with _server(once_more) as port:
        collector, _ = await run("openai", port, requests(2, 2, every_s=0.1))
    assert (collector.whole.ok, seen) == (2, 2), collector.whole.examples


async def test_a_new_connection_that_ends_under_a_request_is_an_error() -> None:
    async def gone(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with _server(gone) as port:
        record = await ask("openai", port)
    assert record.code == "UNAVAILABLE"
