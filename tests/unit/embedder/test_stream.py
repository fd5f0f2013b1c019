"""One stream's window: how much it takes in from a client that does not read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.embedder.batcher import stopping
from services.embedder.limits import TextLimits
from services.embedder.stream import EmbedStream
from services.kit.errors import Unavailable
from tests.unit.embedder.conftest import Bench
from weft.embedder.v1 import embedder_pb2 as pb

WINDOW = 3


async def test_a_client_that_does_not_read_is_held(bench: Bench) -> None:
    taken = 0
    written: list[int] = []
    stuck, read_on = asyncio.Event(), asyncio.Event()

    async def requests() -> AsyncIterator[pb.StreamEmbedRequest]:
        nonlocal taken
        for index in range(20):
            taken += 1
            yield pb.StreamEmbedRequest(index=index, text=f"text {index}")

    async def write(answer: pb.StreamEmbedResponse) -> None:
        stuck.set()
        await read_on.wait()
        written.append(answer.index)

    stream = EmbedStream(bench.catalogue, TextLimits(8, 100), window_texts=WINDOW)
    running = asyncio.create_task(stream.run(requests(), write))
    await stuck.wait()
    # Everything that was taken in is embedded now, and its answers wait for the client.
    await bench.batcher.embed(["another caller's"], query=False)
    # The one beyond the window has been read from the client and goes no further.
    assert taken == WINDOW + 1
    assert bench.waiting.depth == 0
    read_on.set()
    await running
    assert sorted(written) == list(range(20))
    assert taken == 20


async def test_stopping_answers_what_was_taken_in_and_ends_with_unavailable(bench: Bench) -> None:
    # A client need not see these answers: gRPC drops what it has not read when a status other than OK arrives.
    written: list[int] = []

    async def requests() -> AsyncIterator[pb.StreamEmbedRequest]:
        for index in range(3):
            yield pb.StreamEmbedRequest(index=index, text=f"text {index}")
        await asyncio.Event().wait()

    async def write(answer: pb.StreamEmbedResponse) -> None:
        assert answer.WhichOneof("result") == "embedding"
        written.append(answer.index)

    bench.model.gate.clear()
    other = asyncio.create_task(bench.batcher.embed(["another caller's"], query=False))
    await bench.busy()
    stream = EmbedStream(bench.catalogue, TextLimits(8, 100), window_texts=WINDOW)
    running = asyncio.create_task(stream.run(requests(), write))
    await bench.waiting.reaches(3)
    stream.stop(stopping())
    bench.model.gate.set()
    with pytest.raises(Unavailable):
        await running
    assert sorted(written) == [0, 1, 2]
    await other


async def test_closing_the_batcher_ends_the_stream(bench: Bench) -> None:
    async def requests() -> AsyncIterator[pb.StreamEmbedRequest]:
        for index in range(2):
            yield pb.StreamEmbedRequest(index=index, text=f"text {index}")
        await asyncio.Event().wait()

    async def write(answer: pb.StreamEmbedResponse) -> None:
        raise AssertionError("nothing was embedded")

    bench.model.gate.clear()
    other = asyncio.create_task(bench.batcher.embed(["another caller's"], query=False))
    await bench.busy()
    stream = EmbedStream(bench.catalogue, TextLimits(8, 100), window_texts=WINDOW)
    running = asyncio.create_task(stream.run(requests(), write))
    await bench.waiting.reaches(2)
    closing = asyncio.create_task(bench.batcher.__aexit__())
    for task in (running, other):
        with pytest.raises(Unavailable):
            await task
    bench.model.gate.set()
    await closing
