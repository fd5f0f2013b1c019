"""StreamEmbed as a caller sees it: answers as they are ready, errors in band, bounds, cancels and the end."""

from collections.abc import Iterable

import grpc
import grpc.aio
import pytest

from services.kit.errors import Unavailable, from_rpc
from tests.fakes.embedding_model import vector_of
from tests.rpc.embedder.conftest import Embedder, Start
from weft.embedder.v1 import embedder_pb2 as pb


def requests(texts: Iterable[str], first: int = 0) -> list[pb.StreamEmbedRequest]:
    return [pb.StreamEmbedRequest(index=index, text=text) for index, text in enumerate(texts, first)]


async def test_500_texts_come_back_each_once_and_out_of_order(embedder: Embedder) -> None:
    texts = [f"{index} {'word ' * (index * 37 % 200)}" for index in range(500)]
    embedder.model.gate.clear()
    call = embedder.stub.StreamEmbed(requests(texts))
    await embedder.busy()
    await embedder.waits(499)
    embedder.model.gate.set()
    answers = [answer async for answer in call]
    order = [answer.index for answer in answers]
    assert sorted(order) == list(range(500))
    assert order != sorted(order)
    for answer in answers:
        assert list(answer.embedding.values) == vector_of(texts[answer.index])


async def test_an_answer_comes_before_the_client_has_sent_all(embedder: Embedder) -> None:
    call = embedder.stub.StreamEmbed()
    for index, text in ((7, "first"), (3, "second")):
        await call.write(pb.StreamEmbedRequest(index=index, text=text, purpose=pb.PURPOSE_QUERY))
        answer = await call.read()
        assert (answer.index, list(answer.embedding.values)) == (index, vector_of(text))
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_a_stream_without_texts_ends_well(embedder: Embedder) -> None:
    assert [answer async for answer in embedder.stub.StreamEmbed(requests([]))] == []


async def test_one_wrong_text_stops_nothing_else(start: Start) -> None:
    async with start(max_text_bytes=20) as embedder:
        sent = requests(["one", "", "b" * 21, "poison", "four words of text"])
        sent.append(pb.StreamEmbedRequest(index=5, text="a", purpose=9))
        embedder.model.gate.clear()
        call = embedder.stub.StreamEmbed(sent)
        await embedder.busy()
        embedder.model.gate.set()
        answers = {answer.index: answer async for answer in call}
        assert await call.code() == grpc.StatusCode.OK
    errors = {index: answer.error for index, answer in answers.items() if answer.WhichOneof("result") == "error"}
    assert sorted(answers) == [0, 1, 2, 3, 4, 5]
    assert list(answers[0].embedding.values) == vector_of("one")
    assert "empty" in errors[1]
    assert "21 bytes" in errors[2]
    assert "model failed" in errors[3]
    assert "purpose 9" in errors[5]


async def test_an_index_that_is_under_way_is_refused(embedder: Embedder) -> None:
    embedder.model.gate.clear()
    call = embedder.stub.StreamEmbed(
        [pb.StreamEmbedRequest(index=1, text="one"), pb.StreamEmbedRequest(index=1, text="again")]
    )
    first = await call.read()
    assert "index 1" in first.error
    embedder.model.gate.set()
    assert list((await call.read()).embedding.values) == vector_of("one")


async def test_cancelling_leaves_the_queue_empty(embedder: Embedder) -> None:
    embedder.model.gate.clear()
    call = embedder.stub.StreamEmbed(requests(f"text{n}" for n in range(300)))
    await embedder.busy()
    await embedder.waits(299)
    call.cancel()
    await embedder.waits(0)
    embedder.model.gate.set()
    assert await embedder.stub.Embed(pb.EmbedRequest(texts=["next"]))
    assert embedder.model.batches == [[1], [1]]


async def test_a_stream_waits_where_the_queue_is_full(start: Start) -> None:
    async with start(max_texts=8, max_queued_texts=8, max_queued_queries=8) as embedder:
        answers = [answer async for answer in embedder.stub.StreamEmbed(requests(f"text {n}" for n in range(300)))]
    assert sorted(answer.index for answer in answers) == list(range(300))
    assert all(answer.WhichOneof("result") == "embedding" for answer in answers)


async def test_stopping_ends_an_open_stream_with_unavailable(start: Start) -> None:
    async with start() as embedder:
        call = embedder.stub.StreamEmbed()
        await call.write(pb.StreamEmbedRequest(index=1, text="one"))
        assert (await call.read()).index == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = from_rpc(caught.value)
    assert isinstance(error, Unavailable)
    assert error.reason == "STOPPING"
