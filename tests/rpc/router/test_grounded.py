"""Answers from documents as a client sees them: what the retriever and the worker are asked, and what is checked."""

import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2

from tests.fakes import retriever as fake_retriever
from tests.fakes.retriever import FakeRetriever
from tests.fakes.worker import FakeWorker
from tests.rpc.router.conftest import BOTH_WAYS, Start
from tests.rpc.router.test_chat import detail, events, kinds, text_of
from weft.chat.v1 import chat_pb2
from weft.retriever.v1 import retriever_pb2
from weft.router.v1 import router_pb2

pytestmark = BOTH_WAYS

DOCS = router_pb2.Retrieval(index="docs")
GUIDE = retriever_pb2.Passage(
    document_id="guide", chunk_id="c1", title="Guide", text="The router listens on port 50051."
)
NOTES = retriever_pb2.Passage(document_id="notes", chunk_id="c7", title="Notes", text="Workers announce themselves.")
SAYS = ("The router", " listens on", " 50051 [1].", " Napoleon ruled", " France [2].", " See [3].")


async def test_an_answer_is_checked_against_what_it_was_given(start: Start) -> None:
    async with (
        fake_retriever.listening(FakeRetriever(GUIDE, NOTES)) as retriever,
        start(FakeWorker(words=SAYS), retriever=retriever.address) as router,
    ):
        found = await events(router.chat("how?", retrieval=DOCS))
        plain = await events(router.chat("how?"))
    text, grounding = text_of(found), found[-1].finished.grounding
    assert [(c.number, c.valid, c.document_id, c.chunk_id) for c in grounding.citations] == [
        (1, True, "guide", "c1"),
        (2, True, "notes", "c7"),
        (3, False, "", ""),
    ]
    assert all(text[c.offset :].startswith(f"[{c.number}]") for c in grounding.citations)
    assert [text[u.start_offset : u.end_offset] for u in grounding.unsupported] == ["Napoleon ruled France [2]."]
    assert (grounding.supported_share, grounding.given_passages) == (0.5, 2)
    assert not plain[-1].finished.HasField("grounding"), "only where retrieval was asked for"


async def test_an_answer_that_moved_is_checked_whole(start: Start) -> None:
    async with fake_retriever.listening(FakeRetriever(GUIDE)) as retriever:
        dying, living = FakeWorker("w1", words=SAYS, die_after=2), FakeWorker("w2", words=SAYS)
        async with start(dying, living, retriever=retriever.address) as router:
            found = await events(router.chat("how?", retrieval=DOCS))
    assert "moved" in kinds(found)
    text, citations = text_of(found), found[-1].finished.grounding.citations
    assert [(c.number, c.offset) for c in citations] == [(n, text.index(f"[{n}]")) for n in (1, 2, 3)]


async def test_nothing_found_is_an_answer_of_its_own(start: Start) -> None:
    async with fake_retriever.listening(FakeRetriever()) as retriever:
        worker = FakeWorker()
        own = {"nothing_found": "I looked, and found nothing."}
        async with start(worker, retriever=retriever.address, retrieval=own) as router:
            found = await events(router.chat("how?", retrieval=DOCS))
    assert kinds(found) == ["accepted", "passages", "tokens", "finished"]
    assert found[0].accepted.worker_id == ""
    assert found[0].accepted.model == "tale"
    assert (found[2].tokens.text, list(found[2].tokens.token_ids)) == ("I looked, and found nothing.", [])
    last = found[-1].finished
    assert last.reason == chat_pb2.FINISH_REASON_NOTHING_FOUND
    assert (last.usage, last.worker_id, last.attempts) == (chat_pb2.Usage(), "", 0)
    assert last.grounding.supported_share == 1.0
    assert not worker.starts


async def test_nothing_found_in_a_model_that_nobody_serves_is_still_an_error(start: Start) -> None:
    async with (
        fake_retriever.listening(FakeRetriever()) as retriever,
        start(FakeWorker(), retriever=retriever.address) as router,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events(router.chat("how?", model="other", retrieval=DOCS))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_model_is_asked_all_the_same_where_the_caller_wants_it(start: Start) -> None:
    async with fake_retriever.listening(FakeRetriever()) as retriever:
        worker = FakeWorker()
        async with start(worker, retriever=retriever.address) as router:
            asked = router_pb2.Retrieval(index="docs", answer_without_sources=True)
            found = await events(router.chat("how?", retrieval=asked))
    assert text_of(found) == "once upon a time"
    assert found[-1].finished.grounding.given_passages == 0
    assert "No source was found" in worker.starts[0].prompt.conversation.messages[0].content


async def test_the_retriever_is_asked_as_the_caller_says(start: Start) -> None:
    async with (
        fake_retriever.listening(FakeRetriever(GUIDE)) as retriever,
        start(FakeWorker(), retriever=retriever.address) as router,
    ):
        await events(router.chat("how?", retrieval=DOCS))
        asked = router_pb2.Retrieval(index="docs", min_score=0.0, rerank=retriever_pb2.RERANK_MMR)
        await events(router.chat("how?", retrieval=asked))
    plain, chosen = retriever.searches
    assert (plain.HasField("min_score"), plain.rerank) == (False, retriever_pb2.RERANK_UNSPECIFIED)
    assert (chosen.HasField("min_score"), chosen.min_score, chosen.rerank) == (True, 0.0, retriever_pb2.RERANK_MMR)


async def test_the_budget_leaves_out_the_worst(start: Start) -> None:
    long = retriever_pb2.Passage(document_id="long", chunk_id="c1", text="word " * 200)
    async with fake_retriever.listening(FakeRetriever(GUIDE, long, NOTES)) as retriever:
        worker = FakeWorker(words=SAYS)
        async with start(worker, retriever=retriever.address) as router:
            asked = router_pb2.Retrieval(index="docs", max_source_tokens=100)
            found = await events(router.chat("how?", retrieval=asked))
    assert len(found[1].passages.passages) == 3, "the client sees all that was found"
    grounding = found[-1].finished.grounding
    assert grounding.given_passages == 1
    assert [c.valid for c in grounding.citations] == [True, False, False], "what was not given cannot be cited"
    assert worker.starts[0].prompt.conversation.messages[0].content.count("</source>") == 1


@pytest.mark.parametrize(
    ("asked", "text", "field"),
    [
        pytest.param({"max_source_tokens": 9}, "how?", "retrieval.max_source_tokens", id="a budget too small"),
        pytest.param({}, "how? " * 20_000, "messages", id="a conversation that fills the context"),
    ],
)
async def test_no_room_for_any_source_is_said(start: Start, asked: dict[str, Any], text: str, field: str) -> None:
    async with (
        fake_retriever.listening(FakeRetriever(GUIDE)) as retriever,
        start(FakeWorker(), retriever=retriever.address) as router,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events(router.chat(text, retrieval=router_pb2.Retrieval(index="docs", **asked)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(caught.value, error_details_pb2.BadRequest).field_violations[0].field == field


async def complete(router: Any, **options: Any) -> bytes:
    """A chat completion's bytes, whole or streamed."""
    body = {"messages": [{"role": "user", "content": "how?"}], "retrieval": {"index": "docs"}} | options
    call = router.openai.CreateChatCompletion(HttpBody(data=json.dumps(body).encode()), timeout=10)
    return b"".join([part.data async for part in call])


async def test_openai_clients_get_sources_and_grounding(start: Start) -> None:
    async with (
        fake_retriever.listening(FakeRetriever(GUIDE, NOTES)) as retriever,
        start(FakeWorker(words=SAYS), retriever=retriever.address) as router,
    ):
        whole = json.loads(await complete(router))
        lines = (await complete(router, stream=True)).decode().split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    streamed = [chunk["retrieval"] for chunk in chunks if "retrieval" in chunk]
    assert [(s["number"], s["document_id"]) for s in whole["retrieval"]["sources"]] == [(1, "guide"), (2, "notes")]
    grounding = whole["retrieval"]["grounding"]
    assert [(c["number"], c["valid"], c["document_id"]) for c in grounding["citations"]] == [
        (1, True, "guide"),
        (2, True, "notes"),
        (3, False, ""),
    ]
    assert streamed == [{"sources": whole["retrieval"]["sources"]}, {"grounding": grounding}]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert "grounding" in chunks[-1]["retrieval"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_openai_clients_are_told_that_nothing_was_found(start: Start) -> None:
    async with (
        fake_retriever.listening(FakeRetriever()) as retriever,
        start(FakeWorker(), retriever=retriever.address) as router,
    ):
        found = json.loads(await complete(router))
    assert found["choices"][0]["message"]["content"] == "No document answers this: nothing relevant was found."
    assert found["choices"][0]["finish_reason"] == "stop"
    assert (found["usage"]["total_tokens"], found["retrieval"]["sources"]) == (0, [])


async def test_openai_clients_may_set_every_option(start: Start) -> None:
    options = {
        "index": "docs",
        "top_k": 3,
        "mode": "bm25",
        "min_score": 0.25,
        "rerank": "RERANK_MMR",
        "filter": {"document_ids": ["guide"], "conditions": [{"key": "kind", "values": ["manual"]}]},
        "answer_without_sources": True,
    }
    async with (
        fake_retriever.listening(FakeRetriever()) as retriever,
        start(FakeWorker(), retriever=retriever.address) as router,
    ):
        found = json.loads(await complete(router, retrieval=options))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await complete(router, retrieval={"mode": "psychic"})
    assert found["choices"][0]["message"]["content"] == "once upon a time"
    asked = retriever.searches[0]
    assert (asked.top_k, asked.mode, asked.rerank) == (3, retriever_pb2.SEARCH_MODE_BM25, retriever_pb2.RERANK_MMR)
    assert (asked.min_score, list(asked.filter.document_ids), asked.filter.conditions[0].key) == (
        0.25,
        ["guide"],
        "kind",
    )
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "retrieval.mode" in (caught.value.details() or "")


async def test_turns_of_a_conversation_are_checked_too(start: Start) -> None:
    async with (
        fake_retriever.listening(FakeRetriever(GUIDE)) as retriever,
        start(FakeWorker(words=SAYS), retriever=retriever.address) as router,
    ):
        call = router.stub.Converse(timeout=10)
        opening = router_pb2.ConversationOpen(settings=router_pb2.StreamChatRequest(retrieval=DOCS))
        await call.write(router_pb2.ConverseRequest(open=opening))
        await call.write(router_pb2.ConverseRequest(turn=router_pb2.UserTurn(content="how?")))
        await call.done_writing()
        found = [response.event async for response in call]
    assert found[-1].finished.grounding.given_passages == 1
