"""Searching: modes, filters, limits, and many searches over one stream."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from services.kit.errors import InvalidArgument, NotFound, from_rpc
from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.birds import BIRDS, BM25, DENSE, HYBRID, bird_documents
from tests.rpc.retriever.conftest import Retriever, running
from weft.retriever.v1 import retriever_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def birds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Retriever]:
    """A retriever that knows three birds; these tests only ask it."""
    embedder = FakeEmbedder()
    await embedder.start()
    try:
        async with running(tmp_path_factory.mktemp("birds"), embedder.address) as found:
            await found.ingest(*bird_documents())
            yield found
    finally:
        await embedder.stop()


@pytest.mark.parametrize("mode", [HYBRID, DENSE, BM25, pb.SEARCH_MODE_UNSPECIFIED], ids=pb.SearchMode.Name)
async def test_the_best_passage_comes_first_with_all_that_is_known(birds: Retriever, mode: Any) -> None:
    best = (await birds.search("which bird hunts mice at night", mode=mode))[0]
    text = BIRDS["owl.md"][0]
    assert (best.document_id, best.source, best.title) == ("owl.md", "owl.md", "Owls")
    assert list(best.heading_path) == ["Owls"]
    assert best.text == text[best.start_offset : best.end_offset] == text
    assert best.page == 0
    assert dict(best.metadata) == {"colour": "brown", "shelf": "2"}
    assert best.score > 0
    assert (best.dense_score > 0) == (mode != BM25)
    assert (best.bm25_score > 0) == (mode != DENSE)


async def test_dense_scores_are_cosines(birds: Retriever) -> None:
    found = await birds.search("A heron stands in the shallow water and waits for fish.", mode=DENSE)
    assert found[0].source == "heron.md"
    assert all(-1 <= passage.dense_score <= 1 and passage.score == passage.dense_score for passage in found)
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)


async def test_words_are_stemmed_and_stop_words_do_not_count(birds: Retriever) -> None:
    assert await birds.sources("swims swimming", mode=BM25) == ["swan.md"]
    assert await birds.sources("the and of", mode=BM25) == []


@pytest.mark.parametrize(
    ("wanted", "sources"),
    [
        (pb.Filter(document_ids=["owl.md", "swan.md"]), {"owl.md", "swan.md"}),
        (pb.Filter(conditions=[pb.Condition(key="shelf", values=["1"])]), {"heron.md", "swan.md"}),
        (pb.Filter(conditions=[pb.Condition(key="colour", values=["grey", "brown"])]), {"heron.md", "owl.md"}),
        (
            pb.Filter(
                conditions=[
                    pb.Condition(key="colour", values=["grey", "brown"]),
                    pb.Condition(key="shelf", values=["1"]),
                ]
            ),
            {"heron.md"},
        ),
        (
            pb.Filter(document_ids=["owl.md"], conditions=[pb.Condition(key="shelf", values=["1"])]),
            set(),
        ),
        (pb.Filter(conditions=[pb.Condition(key="no such key", values=["1"])]), set()),
    ],
    ids=["documents", "one condition", "several values", "all conditions", "documents and conditions", "unknown key"],
)
@pytest.mark.parametrize("mode", [HYBRID, DENSE, BM25], ids=pb.SearchMode.Name)
async def test_filters(birds: Retriever, wanted: pb.Filter, sources: set[str], mode: Any) -> None:
    query = "heron swan owl"
    assert set(await birds.sources(query, filter=wanted, mode=mode, top_k=10)) == sources


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.SearchRequest(query=""), "query"),
        (pb.SearchRequest(query="  \n"), "query"),
        (pb.SearchRequest(query="ü" * 4097), "query"),
        (pb.SearchRequest(query="x", top_k=101), "top_k"),
        (pb.SearchRequest(query="x", mode=9), "mode"),  # type: ignore[arg-type] # what a newer client could send
        (pb.SearchRequest(query="x", index="../x"), "index"),
        (pb.SearchRequest(query="x", filter=pb.Filter(document_ids=["x"] * 1025)), "filter"),
        (
            pb.SearchRequest(query="x", filter=pb.Filter(conditions=[pb.Condition(key="k")])),
            "filter.conditions[0].values",
        ),
        (
            pb.SearchRequest(query="x", filter=pb.Filter(conditions=[pb.Condition(values=["v"])])),
            "filter.conditions[0].key",
        ),
    ],
    ids=["empty", "blank", "long", "top_k", "mode", "index", "filter", "no values", "no key"],
)
async def test_wrong_searches_name_their_field(birds: Retriever, request_: pb.SearchRequest, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await birds.stub.Search(request_)
    error = from_rpc(caught.value)
    assert isinstance(error, InvalidArgument)
    assert error.field == field


async def test_an_unknown_index_is_not_found(birds: Retriever) -> None:
    calls: list[Any] = [
        birds.stub.Search(pb.SearchRequest(query="x", index="other")),
        birds.stub.GetIndex(pb.GetIndexRequest(index="other")),
        birds.stub.DeleteIndex(pb.DeleteIndexRequest(index="other")),
        birds.stub.GetDocument(pb.GetDocumentRequest(index="other", document_id="x")),
        birds.stub.DeleteDocument(pb.DeleteDocumentRequest(index="other", document_id="x")),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = from_rpc(caught.value)
        assert isinstance(error, NotFound)
        assert (error.reason, error.field) == ("INDEX_NOT_FOUND", "index")


async def test_a_stream_answers_each_search_by_its_number(birds: Retriever) -> None:
    queries = {7: "mice night", 1: "", 200: "shallow water fish", 3: "lake plants"}

    async def requests() -> AsyncIterator[pb.StreamSearchRequest]:
        for number, query in queries.items():
            yield pb.StreamSearchRequest(number=number, search=pb.SearchRequest(query=query, top_k=1))

    answers = {answer.number: answer async for answer in birds.stub.StreamSearch(requests())}
    assert answers.keys() == queries.keys()
    assert answers[1].failure.reason == "EMPTY_QUERY"
    assert answers[1].failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    best = {number: answer.found.passages[0].source for number, answer in answers.items() if number != 1}
    assert best == {7: "owl.md", 200: "heron.md", 3: "swan.md"}


async def test_a_stream_takes_more_searches_than_it_runs_at_once(birds: Retriever) -> None:
    async def requests() -> AsyncIterator[pb.StreamSearchRequest]:
        for number in range(200):
            yield pb.StreamSearchRequest(number=number, search=pb.SearchRequest(query="bird", mode=BM25))

    numbers = [answer.number async for answer in birds.stub.StreamSearch(requests())]
    assert sorted(numbers) == list(range(200))
