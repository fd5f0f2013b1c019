"""An emitter in this process, and a run against it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import pytest

from loadtest.load.client import Target
from loadtest.load.clients import open_client
from loadtest.load.collect import Collector, Objectives
from loadtest.load.emitter import Http1, Http2, Pace
from loadtest.load.record import Record, Request
from loadtest.load.runner import Clock, Ran, Runner

GAP_S = 0.005


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the emitter listens."""

    grpc: int
    http: int

    def of(self, transport: str) -> int:
        """The port of a transport."""
        return self.grpc if transport == "grpc" else self.http


@pytest.fixture
async def emitter() -> AsyncIterator[Ports]:
    """Answers at GAP_S a token."""
    loop = asyncio.get_running_loop()
    pace = Pace(GAP_S)
    makers: tuple[Callable[[], asyncio.Protocol], ...] = (partial(Http2, pace), partial(Http1, pace))
    servers = [await loop.create_server(maker, "127.0.0.1", 0) for maker in makers]
    task = asyncio.create_task(pace.run())
    yield Ports(*(server.sockets[0].getsockname()[1] for server in servers))
    task.cancel()
    await asyncio.wait([task])
    for server in servers:
        server.close()


def requests(count: int, tokens: int, every_s: float = 0.001, words: int = 1) -> list[Request]:
    """So many, equally far apart."""
    prompt = (("user", "word " * words),)
    return [Request(number, number * every_s, prompt, tokens) for number in range(count)]


async def run(
    transport: str, port: int, wanted: list[Request], drain_s: float = 10.0, timeout_s: float = 30.0
) -> tuple[Collector, Ran]:
    """An open loop against a port of this machine."""
    clock, collector = Clock(), Collector(Objectives())
    client = open_client(transport, Target("127.0.0.1", port, "emitter", timeout_s=timeout_s), clock)
    await client.open()
    try:
        return collector, await Runner(client, collector, clock, drain_s).open_loop(wanted)
    finally:
        await client.close()
        await asyncio.sleep(0)


async def ask(transport: str, port: int, tokens: int = 4, timeout_s: float = 10.0) -> Record:
    """One answer, as the client saw it."""
    clock = Clock()
    client = open_client(transport, Target("127.0.0.1", port, timeout_s=timeout_s), clock)
    await client.open()
    ended: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
    try:
        done: Callable[[Record], None] = ended.set_result
        client.send(Record(requests(1, tokens)[0]), done)
        async with asyncio.timeout(10):
            return await ended
    finally:
        await client.close()
        await asyncio.sleep(0)
