"""Reranking, minimum scores, fusions and stage times, over real sockets."""

from pathlib import Path

import grpc
import grpc.aio
import pytest

from services.kit.errors import from_rpc
from tests.fakes import tiny_cross_encoder
from tests.rpc.retriever.conftest import Retriever, Start, document
from weft.retriever.v1 import retriever_pb2 as pb

DOCUMENTS = [
    document("a.md", "heron heron heron swims"),
    document("b.md", "heron heron heron swims too"),
    document("c.md", "a swan sings"),
    document("d.md", "the heron wades"),
]


async def test_a_cross_encoder_decides_the_order(start: Start, tmp_path: Path) -> None:
    folder = tiny_cross_encoder.write(tmp_path / "cross-encoder")
    async with start(reranker=str(folder)) as retriever:
        await retriever.ingest(*DOCUMENTS)
        request = pb.SearchRequest(query="wades", rerank=pb.RERANK_CROSS_ENCODER, top_k=4)
        answer = await retriever.stub.Search(request)
        best = answer.passages[0]
        assert best.source == "d.md"
        assert best.score == best.rerank_score > answer.passages[1].score
        assert best.fused_score > 0.0
        assert answer.timing.HasField("rerank")
        assert answer.timing.HasField("embed")
        some = await retriever.search("wades", rerank=pb.RERANK_CROSS_ENCODER, top_k=4, min_score=0.6)
        assert [passage.source for passage in some] == ["d.md"]


async def test_without_a_cross_encoder_it_is_refused(retriever: Retriever) -> None:
    await retriever.ingest(*DOCUMENTS)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await retriever.search("heron", rerank=pb.RERANK_CROSS_ENCODER)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert from_rpc(caught.value).reason == "NO_CROSS_ENCODER"


async def test_mmr_puts_what_repeats_behind_what_is_new(retriever: Retriever) -> None:
    await retriever.ingest(*DOCUMENTS)
    plain = await retriever.sources("heron swims", mode=pb.SEARCH_MODE_DENSE, rerank=pb.RERANK_NONE)
    assert set(plain[:2]) == {"a.md", "b.md"}
    diverse = await retriever.search("heron swims", mode=pb.SEARCH_MODE_DENSE, rerank=pb.RERANK_MMR, mmr_lambda=0.2)
    assert {passage.source for passage in diverse[:2]} != {"a.md", "b.md"}
    scores = [passage.score for passage in diverse]
    assert scores == sorted(scores, reverse=True)


async def test_a_search_by_words_embeds_nothing_and_says_so(retriever: Retriever) -> None:
    await retriever.ingest(*DOCUMENTS)
    answer = await retriever.stub.Search(pb.SearchRequest(query="heron", mode=pb.SEARCH_MODE_BM25))
    assert not answer.timing.HasField("embed")
    assert not answer.timing.HasField("rerank")
    assert answer.timing.search.ToNanoseconds() > 0
    assert all(passage.fused_score == 0.0 for passage in answer.passages)


async def test_fusions_differ_in_their_scores(retriever: Retriever) -> None:
    await retriever.ingest(*DOCUMENTS)
    rrf, dbsf = [await retriever.search("heron", fusion=fusion) for fusion in (pb.FUSION_RRF, pb.FUSION_DBSF)]
    assert rrf[0].score == pytest.approx(rrf[0].fused_score)
    assert max(passage.score for passage in rrf) < 0.04 < max(passage.score for passage in dbsf)


FIELDS = [
    ({"candidates": 1001}, "candidates"),
    ({"mmr_lambda": 1.5}, "mmr_lambda"),
    ({"min_score": float("nan")}, "min_score"),
    ({"filter": pb.Filter(conditions=[pb.Condition(key="$author", values=["x"])])}, "filter.conditions[0].key"),
    (
        {"filter": pb.Filter(conditions=[pb.Condition(key="a", values=["x"], prefix="y")])},
        "filter.conditions[0].values",
    ),
    ({"filter": pb.Filter(conditions=[pb.Condition(key="$page", prefix="1")])}, "filter.conditions[0].prefix"),
    ({"filter": pb.Filter(conditions=[pb.Condition(key="$page", values=["x"])])}, "filter.conditions[0].values"),
    ({"filter": pb.Filter(conditions=[pb.Condition(key="a", range=pb.Range())])}, "filter.conditions[0].range"),
    ({"filter": pb.Filter(any_of=[pb.Filter()])}, "filter.any_of[0]"),
]


@pytest.mark.parametrize(("fields", "named"), FIELDS, ids=[named for _, named in FIELDS])
async def test_wrong_fields_are_named(retriever: Retriever, fields: dict[str, object], named: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await retriever.search("heron", **fields)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert from_rpc(caught.value).field == named
