"""A pool over embedders on real sockets: balance, failover, models that must not mix, clear words when nobody is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import numpy as np
import pytest

from services.kit.embedding.pick import Standing
from services.kit.embedding.pool import EmbedderPool, TextRefused
from services.kit.errors import Exhausted, InvalidArgument, Unavailable
from services.kit.settings import load_settings
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.embedder import vector_of as hashed_words
from tests.fakes.embedding_model import vector_of
from tests.rpc.embedder.conftest import Start

Pool = Callable[..., AbstractAsyncContextManager[EmbedderPool]]


@pytest.fixture
def pool() -> Pool:
    @asynccontextmanager
    async def made(*addresses: str, silence_s: float = 30.0) -> AsyncIterator[EmbedderPool]:
        async with EmbedderPool(addresses, load_settings().grpc, silence_s=silence_s) as found:
            yield found

    return made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def values(vector: bytes) -> list[float]:
    return [float(value) for value in np.frombuffer(vector, "<f4")]


async def test_vectors_and_the_model(start: Start, pool: Pool) -> None:
    async with start() as one, pool(one.address) as embedders:
        model = await embedders.model()
        assert (model.name, model.dimensions, model.fingerprint) == ("fake-model", 384, "f00d")
        found = await embedders.embed_query("a small query")
        assert (values(found.vector), found.tokens, found.truncated) == (vector_of("a small query"), 3, False)
        many = await embedders.embed_passages([f"text {index}" for index in range(500)])
        assert [values(one.vector) for one in many] == [vector_of(f"text {index}") for index in range(500)]
        assert await embedders.embed_passages([]) == []


async def test_a_busy_replica_is_left_to_itself(start: Start, pool: Pool) -> None:
    async with start() as one, start() as two, pool(one.address, two.address) as embedders:
        await until(lambda: embedders.serving == 2)
        one.model.gate.clear()
        two.model.gate.clear()
        held = [asyncio.ensure_future(embedders.embed([f"text {n}"] * 40, query=False)) for n in range(6)]
        await one.busy()
        await two.busy()
        one.model.gate.set()
        two.model.gate.set()
        await asyncio.gather(*held)
    counts = [sum(len(batch) for batch in found.model.batches) for found in (one, two)]
    assert min(counts) > 0


async def test_a_full_replica_sends_callers_to_the_other(start: Start, pool: Pool) -> None:
    full = {"max_texts": 4, "max_queued_texts": 4, "max_queued_queries": 4}
    async with start(**full) as one, start(**full) as two, pool(one.address, two.address) as embedders:
        await until(lambda: embedders.serving == 2)
        one.model.gate.clear()
        two.model.gate.clear()
        held = []
        for number in range(2):
            held += [asyncio.ensure_future(embedders.embed([f"{number} {n}" * (n + 1)], query=False)) for n in range(5)]
        await until(lambda: (one.waiting or 0) + (two.waiting or 0) >= 4)
        with pytest.raises(Exhausted) as caught:
            await asyncio.gather(*(embedders.embed(["a", "b", "c", "d"], query=False) for _ in range(4)))
        assert caught.value.retry_delay_s
        one.model.gate.set()
        two.model.gate.set()
        await asyncio.gather(*held)


async def test_what_a_lost_replica_has_not_answered_goes_elsewhere(pool: Pool) -> None:
    texts = [f"text {index}" for index in range(200)]
    fakes = [FakeEmbedder(), FakeEmbedder()]
    for fake in fakes:
        fake.gate.clear()
    async with pool(*[await fake.start() for fake in fakes]) as embedders:
        try:
            await until(lambda: embedders.serving == 2)
            passages = asyncio.ensure_future(embedders.embed_passages(texts))
            await until(lambda: any(fake.waiting.is_set() for fake in fakes))
            lost, left = sorted(fakes, key=lambda fake: not fake.waiting.is_set())
            left.gate.set()
            await lost.stop()
            found = await passages
            wanted = [hashed_words(text) for text in texts]
            assert [values(one.vector) for one in found] == [pytest.approx(vector, abs=1e-6) for vector in wanted]
            await until(lambda: embedders.serving == 1)
            assert await embedders.embed_query("after it")
        finally:
            for fake in fakes:
                fake.gate.set()
                await fake.stop()


async def test_another_fingerprint_is_left_out_until_its_own_are_gone(pool: Pool) -> None:
    one, two = FakeEmbedder("first"), FakeEmbedder("second")
    try:
        async with pool(await one.start(), await two.start()) as embedders:
            await until(lambda: all(r.standing is not Standing.UNHEARD for r in embedders._replicas.values()))
            kept = (await embedders.model()).fingerprint
            assert embedders.serving == 1
            own, other = (one, two) if kept == "first" else (two, one)
            for _ in range(5):
                await embedders.embed_passages(["a text"])
            assert (len(own.texts), len(other.texts)) == (5, 0)
    finally:
        await one.stop()
        await two.stop()


async def test_an_embedder_that_comes_back_with_another_model_takes_over_alone(pool: Pool) -> None:
    old = FakeEmbedder("old")
    address = await old.start()
    async with pool(address) as embedders:
        assert (await embedders.model()).fingerprint == "old"
        await old.stop()
        new = FakeEmbedder("new")
        await new.start(int(address.rpartition(":")[2]))
        try:
            await until(lambda: embedders._model is not None and embedders._model.fingerprint == "new")
            assert (await embedders.model()).fingerprint == "new"
        finally:
            await new.stop()


async def test_nobody_there_is_unavailable_at_once_and_names_the_address(pool: Pool) -> None:
    gone = FakeEmbedder()
    address = await gone.start()
    await gone.stop()
    async with pool(address) as embedders:
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=address) as caught:
                await embedders.embed_query("a query")
        assert caught.value.reason == "EMBEDDER_AWAY"
        assert caught.value.retry_delay_s
        with pytest.raises(Unavailable):
            await embedders.model()


async def test_silence_counts_as_away(pool: Pool) -> None:
    silent, other = FakeEmbedder(), FakeEmbedder()
    silent.gate.clear()
    other.gate.clear()
    try:
        async with pool(await silent.start(), await other.start(), silence_s=0.5) as embedders:
            await until(lambda: embedders.serving == 2)
            asked = asyncio.ensure_future(embedders.embed_passages(["a text"]))
            await until(lambda: silent.waiting.is_set() or other.waiting.is_set())
            (other if silent.waiting.is_set() else silent).gate.set()
            assert len(await asked) == 1
    finally:
        for one in (silent, other):
            one.gate.set()
            await one.stop()


async def test_a_wrong_text_is_the_callers_and_goes_nowhere_else(start: Start, pool: Pool) -> None:
    async with start() as one, start() as two, pool(one.address, two.address) as embedders:
        with pytest.raises(InvalidArgument) as caught:
            await embedders.embed(["fine", ""], query=False)
        assert caught.value.field == "texts[1]"
        with pytest.raises(TextRefused) as refused:
            await embedders.embed_passages(["fine", ""])
        assert refused.value.index == 1
