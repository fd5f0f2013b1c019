"""Embed and GetModel as a caller sees them."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kit.errors import Exhausted, WeftError, from_rpc
from tests.fakes.embedding_model import INFO, vector_of
from tests.rpc.embedder.conftest import Embedder, Start
from weft.embedder.v1 import embedder_pb2 as pb


async def refused(call: Any) -> WeftError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


async def test_vectors_in_the_order_of_the_texts(embedder: Embedder) -> None:
    texts = [f"text {'word ' * (index % 40)}{index}" for index in range(200)]
    answer = await embedder.stub.Embed(pb.EmbedRequest(texts=texts, model=INFO.name))
    assert answer.model == INFO.name
    assert [list(one.values) for one in answer.embeddings] == [vector_of(text) for text in texts]
    assert [one.tokens for one in answer.embeddings] == [len(text.split()) for text in texts]
    assert not any(one.truncated for one in answer.embeddings)


async def test_a_cut_text_says_so(embedder: Embedder) -> None:
    answer = await embedder.stub.Embed(pb.EmbedRequest(texts=["word " * 300], purpose=pb.PURPOSE_QUERY))
    assert (answer.embeddings[0].tokens, answer.embeddings[0].truncated) == (256, True)


async def test_get_model(embedder: Embedder) -> None:
    answer = await embedder.stub.GetModel(pb.GetModelRequest())
    assert (answer.model, answer.dimensions, answer.max_tokens) == (INFO.name, 384, 256)
    assert (answer.fingerprint, answer.runtime) == (INFO.fingerprint, INFO.runtime)


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        pytest.param(pb.EmbedRequest(), grpc.StatusCode.INVALID_ARGUMENT, "texts", id="no text"),
        pytest.param(
            pb.EmbedRequest(texts=["a", "b", "c", ""]), grpc.StatusCode.INVALID_ARGUMENT, "texts[3]", id="an empty text"
        ),
        pytest.param(
            pb.EmbedRequest(texts=[f"a{n}" for n in range(9)]), grpc.StatusCode.INVALID_ARGUMENT, "texts", id="too many"
        ),
        pytest.param(
            pb.EmbedRequest(texts=["a", "b" * 101]), grpc.StatusCode.INVALID_ARGUMENT, "texts[1]", id="too long"
        ),
        pytest.param(
            pb.EmbedRequest(texts=["a"], purpose=7), grpc.StatusCode.INVALID_ARGUMENT, "purpose", id="purpose"
        ),
        pytest.param(pb.EmbedRequest(texts=["a"], model="gpt"), grpc.StatusCode.NOT_FOUND, "model", id="model"),
    ],
)
async def test_refused(start: Start, request_: pb.EmbedRequest, code: grpc.StatusCode, field: str) -> None:
    async with start(max_texts=8, max_text_bytes=100) as embedder:
        error = await refused(embedder.stub.Embed(request_))
    assert (error.code, error.field) == (code, field)


async def test_a_full_queue(start: Start) -> None:
    async with start(max_texts=4, max_queued_texts=4, max_queued_queries=4) as embedder:
        embedder.model.gate.clear()
        running = asyncio.ensure_future(embedder.stub.Embed(pb.EmbedRequest(texts=["a"])))
        await embedder.busy()
        held = asyncio.ensure_future(embedder.stub.Embed(pb.EmbedRequest(texts=[f"held{n}" for n in range(4)])))
        await embedder.waits(4)
        error = await refused(embedder.stub.Embed(pb.EmbedRequest(texts=["another"])))
        assert isinstance(error, Exhausted)
        assert error.reason == "EMBEDDER_QUEUE_FULL"
        assert error.retry_delay_s
        embedder.model.gate.set()
        await asyncio.gather(running, held)
        assert await embedder.stub.Embed(pb.EmbedRequest(texts=["a"]))


async def test_a_caller_that_leaves_or_is_late_leaves_nothing_in_the_queue(embedder: Embedder) -> None:
    embedder.model.gate.clear()
    running = asyncio.ensure_future(embedder.stub.Embed(pb.EmbedRequest(texts=["a"])))
    await embedder.busy()
    leaves = embedder.stub.Embed(pb.EmbedRequest(texts=[f"b{n}" for n in range(500)]))
    late = asyncio.ensure_future(embedder.stub.Embed(pb.EmbedRequest(texts=[f"c{n}" for n in range(500)]), timeout=0.5))
    await embedder.waits(1000)
    leaves.cancel()
    error = await refused(late)
    assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
    await embedder.waits(0)
    embedder.model.gate.set()
    await running
    assert embedder.model.batches == [[1]]


async def test_a_broken_batch_is_internal_and_the_next_call_works(embedder: Embedder) -> None:
    error = await refused(embedder.stub.Embed(pb.EmbedRequest(texts=["poison"])))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "MODEL_FAILED")
    assert await embedder.stub.Embed(pb.EmbedRequest(texts=["fine"]))


async def test_every_model_is_listed(embedder: Embedder) -> None:
    (only,) = (await embedder.stub.ListModels(pb.ListModelsRequest())).models
    assert only == await embedder.stub.GetModel(pb.GetModelRequest(model=INFO.name))
    error = await refused(embedder.stub.GetModel(pb.GetModelRequest(model="nobody's")))
    assert (error.code, error.field) == (grpc.StatusCode.NOT_FOUND, "model")


async def test_the_load_is_told_on_change_and_at_the_stop(start: Start) -> None:
    async with start() as embedder:
        readings = embedder.stub.WatchLoad(pb.WatchLoadRequest())
        assert (await readings.read()).queued_texts == 0
        embedder.model.gate.clear()
        running = asyncio.ensure_future(embedder.stub.Embed(pb.EmbedRequest(texts=["a"])))
        await embedder.busy()
        held = asyncio.ensure_future(embedder.stub.Embed(pb.EmbedRequest(texts=["b c d"] * 2 + ["e f"])))
        async with asyncio.timeout(10):
            while (reading := await readings.read()).queued_tokens != 5:
                pass
        assert (reading.queued_texts, reading.running, reading.draining) == (2, 1, False)
        embedder.model.gate.set()
        await asyncio.gather(running, held)
        async with asyncio.timeout(10):
            while (reading := await readings.read()).running or reading.queued_texts:
                pass
        assert reading.tokens_per_s > 0


async def test_a_text_that_was_embedded_before_comes_from_the_cache(start: Start) -> None:
    async with start(cache_bytes=1 << 20) as embedder:
        first = await embedder.stub.Embed(pb.EmbedRequest(texts=["the same", "another"]))
        again = await embedder.stub.Embed(pb.EmbedRequest(texts=["another", "the same"], purpose=pb.PURPOSE_QUERY))
        assert list(again.embeddings) == list(first.embeddings)[::-1]
        assert sum(map(len, embedder.model.batches)) == 2
        assert embedder.registry.get_sample_value("weft_embedder_cache_lookups_total", {"outcome": "hit"}) == 2
