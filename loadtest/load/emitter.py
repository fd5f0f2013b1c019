"""`python -m loadtest.load.emitter`: answers at an exact pace, cheaper than any mesh, to measure the generator itself.

It speaks StreamChat over HTTP/2 and chat completions over HTTP/1.1, on one port each, and tells on standard output the
gaps that it made: what the generator says beyond those is the generator's own.
"""

import asyncio
import json
import signal
import sys
import time
from array import array
from typing import Annotated, cast

import numpy as np
import typer
import uvloop

from loadtest.load.histogram import Histogram
from loadtest.load.own_cost import cpu_s
from services.kit.lane.connection import Completed, Connection
from services.kit.lane.frames import Flag, Kind, frame
from services.kit.lane.limits import Limits
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2

TICK_S = 0.001
# HPACK: ":status: 200" from the static table, then fields without a table.
_OPEN = b"\x88\x00\x0ccontent-type\x10application/grpc"
_CLOSE = b"\x00\x0bgrpc-status\x010"
_TOKENS = [
    router_pb2.StreamChatResponse(
        tokens=router_pb2.Tokens(text=" word", index=index, token_ids=[1000 + index])
    ).SerializeToString()
    for index in range(4096)
]
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(fields: object) -> bytes:
    event = b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"
    return f"{len(event):x}".encode() + b"\r\n" + event + b"\r\n"


_SSE_TOKEN = _chunk(
    {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]}
)
_SSE_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Answer:
    """One answer under way: who gets it, how many tokens it has, and when each is due."""

    __slots__ = ("due_s", "last_s", "sent", "stream_id", "to", "wanted")

    def __init__(self, to: "Http2 | Http1", stream_id: int, wanted: int, due_s: float) -> None:
        self.to = to
        self.stream_id = stream_id
        self.wanted = wanted
        self.due_s = due_s
        self.sent = 0
        self.last_s = 0.0


class Pace:
    """Sends every answer's tokens when they are due; one timer for all."""

    def __init__(self, gap_s: float) -> None:
        self.gap_s = gap_s
        self.answers: set[Answer] = set()
        self.gaps_s = array("d")
        self.tokens = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.perf_counter()
            touched: set[Http2 | Http1] = set()
            for answer in [answer for answer in self.answers if answer.due_s <= now_s]:
                answer.to.token(answer)
                touched.add(answer.to)
                answer.sent += 1
                self.tokens += 1
                if answer.last_s:
                    self.gaps_s.append(now_s - answer.last_s)
                answer.last_s = now_s
                answer.due_s += self.gap_s
                if answer.sent >= answer.wanted:
                    self.answers.discard(answer)
                    answer.to.finish(answer)
            for to in touched:
                to.flush()


class Http2(asyncio.Protocol):
    """One client's connection; its windows are taken to be large, as the generator's are."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._connection = Connection(Limits(max_streams=10_000))
        self._bodies: dict[int, bytearray] = {}
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._pace.answers = {answer for answer in self._pace.answers if answer.to is not self}

    def data_received(self, data: bytes) -> None:
        for event in self._connection.receive(data, time.perf_counter()):
            number = event.stream.stream_id if hasattr(event, "stream") else 0
            if isinstance(event, Completed):
                request = router_pb2.StreamChatRequest.FromString(bytes(self._bodies.pop(number))[5:])
                self._out.append(frame(Kind.HEADERS, Flag.END_HEADERS, number, _OPEN))
                wanted = min(len(_TOKENS), request.sampling.max_tokens or 1)
                self._pace.answers.add(Answer(self, number, wanted, time.perf_counter() + self._pace.gap_s))
            elif hasattr(event, "data"):
                self._bodies.setdefault(number, bytearray()).extend(event.data)
        self.flush()

    def token(self, answer: Answer) -> None:
        """Puts the answer's next token with what goes out at the end of this tick."""
        self._message(answer.stream_id, _TOKENS[answer.sent])

    def _message(self, stream_id: int, data: bytes) -> None:
        size = len(data) + 5
        self._out.append(size.to_bytes(3, "big") + b"\0\0" + stream_id.to_bytes(4, "big") + b"\0")
        self._out.append(len(data).to_bytes(4, "big") + data)

    def finish(self, answer: Answer) -> None:
        """Ends the answer."""
        usage = chat_pb2.Usage(completion_tokens=answer.sent)
        finished = router_pb2.Finished(reason=chat_pb2.FINISH_REASON_LENGTH, usage=usage)
        self._message(answer.stream_id, router_pb2.StreamChatResponse(finished=finished).SerializeToString())
        self._out.append(frame(Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, answer.stream_id, _CLOSE))
        self._connection.streams.pop(answer.stream_id, None)

    def flush(self) -> None:
        """Writes what there is, in one call."""
        frames = self._connection.out.frames
        if self._transport is not None and (self._out or frames):
            self._transport.write(b"".join([*frames, *self._out]))
            frames.clear()
            self._out.clear()


class Http1(asyncio.Protocol):
    """One client's connection, one answer at a time."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no instances of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._pace.answers = {answer for answer in self._pace.answers if answer.to is not self}

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return
        self._data = b""
        assert self._transport is not None
        self._transport.write(_HEAD)
        wanted = int(json.loads(body).get("max_tokens") or 1)
        self._pace.answers.add(Answer(self, 0, wanted, time.perf_counter() + self._pace.gap_s))

    def token(self, answer: Answer) -> None:
        """Sends the answer's next token."""
        assert self._transport is not None
        self._transport.write(_SSE_TOKEN)

    def finish(self, answer: Answer) -> None:
        """Ends the answer."""
        assert self._transport is not None
        usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": answer.sent}}
        self._transport.write(_chunk(usage) + _SSE_DONE)

    def flush(self) -> None:
        """Nothing waits."""


async def _serve(gap_s: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pace = Pace(gap_s)
    grpc_server = await loop.create_server(lambda: Http2(pace), "127.0.0.1", 0)
    http_server = await loop.create_server(lambda: Http1(pace), "127.0.0.1", 0)
    ports = {"grpc": grpc_server.sockets[0].getsockname()[1], "http": http_server.sockets[0].getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    task = asyncio.create_task(pace.run())
    await stop.wait()
    task.cancel()
    await asyncio.wait([task])
    gaps = Histogram()
    gaps.record_all(np.array(pace.gaps_s))
    sys.stdout.write(json.dumps({"gaps": gaps.summary(), "tokens": pace.tokens, "cpu_s": cpu_s()}) + "\n")


def main(gap_ms: Annotated[float, typer.Option(min=1.0, help="Time between an answer's tokens.")] = 20.0) -> None:
    """Serves until it is told to stop, then tells what it did."""
    uvloop.run(_serve(gap_ms / 1e3))


if __name__ == "__main__":
    typer.run(main)
