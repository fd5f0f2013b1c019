"""Indexes with settings of their own, aliases, snapshots and embedding anew, over real sockets."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kit.errors import from_rpc
from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.conftest import Retriever, Start, document
from weft.retriever.v1 import retriever_pb2 as pb

BIRDS = [document(f"{name}.md", f"The {name} wades.", index="birds") for name in ("heron", "swan", "stork")]


async def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """The status, the reason and the field that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    told = from_rpc(caught.value)
    return caught.value.code(), told.reason, told.field


async def test_an_index_has_settings_of_its_own(retriever: Retriever) -> None:
    stub = retriever.stub
    settings = pb.IndexSettings(chunk_tokens=30, chunk_overlap_tokens=0, rerank=pb.RERANK_MMR, candidates=7)
    made = (await stub.CreateIndex(pb.CreateIndexRequest(index="own", settings=settings))).index
    assert (made.settings.chunk_tokens, made.settings.rerank, made.settings.candidates) == (30, pb.RERANK_MMR, 7)
    assert (made.settings.fusion, made.settings.bm25_language, made.store) == (pb.FUSION_DBSF, "english", "qdrant-edge")
    assert (made.documents, made.chunks, made.has_graph) == (0, 0, False)
    taken = await refused(stub.CreateIndex(pb.CreateIndexRequest(index="own")))
    assert taken == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN", "index")
    text = " ".join(f"heron{n}" for n in range(60))
    (own,), (default,) = [await retriever.ingest(document("a.md", text, index=index)) for index in ("own", "")]
    assert own.chunks > default.chunks
    change = pb.UpdateIndexRequest(index="own", settings=pb.IndexSettings(fusion=pb.FUSION_RRF, min_score=0.5))
    updated = (await stub.UpdateIndex(change)).index.settings
    assert (updated.fusion, updated.min_score, updated.chunk_tokens) == (pb.FUSION_RRF, 0.5, 30)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (pb.IndexSettings(chunk_tokens=8), "chunk_tokens"),
        (pb.IndexSettings(chunk_tokens=20, chunk_overlap_tokens=11), "chunk_overlap_tokens"),
        (pb.IndexSettings(bm25_language="klingon"), "bm25_language"),
        (pb.IndexSettings(embedding_model="a b"), "embedding_model"),
        (pb.IndexSettings(candidates=1001), "candidates"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_wrong_settings_are_refused(retriever: Retriever, settings: pb.IndexSettings, field: str) -> None:
    code, _, named = await refused(retriever.stub.CreateIndex(pb.CreateIndexRequest(index="i", settings=settings)))
    assert (code, named) == (grpc.StatusCode.INVALID_ARGUMENT, f"settings.{field}")


async def test_how_an_index_was_built_cannot_be_updated(retriever: Retriever) -> None:
    await retriever.ingest(*BIRDS)
    settings = pb.IndexSettings(chunk_tokens=50)
    code, _, field = await refused(retriever.stub.UpdateIndex(pb.UpdateIndexRequest(index="birds", settings=settings)))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "settings.chunk_tokens")
    call = retriever.stub.ReembedIndex(pb.ReembedIndexRequest(index="birds", settings=settings))
    assert (await refused(call.read()))[2] == "settings.chunk_tokens"


async def test_an_alias_stands_for_an_index_until_it_points_elsewhere(start: Start) -> None:
    async with start() as retriever:
        stub = retriever.stub
        await retriever.ingest(*BIRDS, document("otter.md", "The otter swims.", index="otters"))
        assert (await stub.SetAlias(pb.SetAliasRequest(alias="now", index="birds"))).previous_index == ""
        assert await retriever.sources("wades", index="now") != []
        await retriever.ingest(document("crane.md", "The crane wades.", index="now"))
        assert await retriever.info("birds") == (4, 4)
        assert (await stub.SetAlias(pb.SetAliasRequest(alias="now", index="otters"))).previous_index == "birds"
        taken = await refused(stub.SetAlias(pb.SetAliasRequest(alias="birds", index="otters")))
        assert taken[0] == grpc.StatusCode.ALREADY_EXISTS
    async with start() as retriever:
        assert await retriever.sources("swims", index="now") == ["otter.md"]
        (index,) = [
            found
            for found in (await retriever.stub.ListIndexes(pb.ListIndexesRequest())).indexes
            if found.name == "otters"
        ]
        assert list(index.aliases) == ["now"]
        await retriever.stub.DeleteAlias(pb.DeleteAliasRequest(alias="now"))
        gone = await refused(retriever.stub.DeleteAlias(pb.DeleteAliasRequest(alias="now")))
        assert gone[:2] == (grpc.StatusCode.NOT_FOUND, "ALIAS_NOT_FOUND")


async def test_documents_are_listed_page_by_page(retriever: Retriever) -> None:
    await retriever.ingest(
        *(document(f"{n}.md", "Heron.", document_id=f"d{n}", metadata={"n": str(n)}) for n in range(7))
    )
    pages, token = list[list[str]](), ""
    while True:
        request = pb.ListDocumentsRequest(page_size=3, page_token=token)
        page = await retriever.stub.ListDocuments(request)
        pages.append([found.document_id for found in page.documents])
        if not (token := page.next_page_token):
            break
    assert pages == [["d0", "d1", "d2"], ["d3", "d4", "d5"], ["d6"]]
    condition = pb.Condition(key="n", range=pb.Range(min=2, max=4))
    some = await retriever.stub.ListDocuments(pb.ListDocumentsRequest(filter=pb.Filter(conditions=[condition])))
    assert [found.document_id for found in some.documents] == ["d2", "d3", "d4"]


async def test_a_snapshot_brings_an_index_back(start: Start, tmp_path: Path) -> None:
    async with start() as retriever:
        stub = retriever.stub
        await retriever.ingest(*BIRDS)
        made = (await stub.CreateSnapshot(pb.CreateSnapshotRequest(index="birds"))).snapshot
        assert (made.index, made.documents, made.chunks, len(made.sha256)) == ("birds", 3, 3, 64)
        before = await retriever.search("heron", index="birds")
        await retriever.ingest(document("heron.md", "Something else.", index="birds"))
        there = await refused(stub.RestoreSnapshot(pb.RestoreSnapshotRequest(name=made.name)))
        assert there[0] == grpc.StatusCode.ALREADY_EXISTS
        await stub.RestoreSnapshot(pb.RestoreSnapshotRequest(name=made.name, index="copy"))
        await stub.RestoreSnapshot(pb.RestoreSnapshotRequest(name=made.name, replace=True))
        for index in ("birds", "copy"):
            assert await retriever.info(index) == (3, 3)
            assert await retriever.search("heron", index=index) == before
    async with start() as retriever:
        listed = (await retriever.stub.ListSnapshots(pb.ListSnapshotsRequest())).snapshots
        assert list(listed) == [made]
        path = tmp_path / "snapshots" / f"{made.name}.weft"
        path.write_bytes(path.read_bytes()[:-9] + b"damaged!!")
        damaged = await refused(retriever.stub.RestoreSnapshot(pb.RestoreSnapshotRequest(name=made.name, index="new")))
        assert damaged[:2] == (grpc.StatusCode.DATA_LOSS, "SNAPSHOT_DAMAGED")
        await retriever.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(name=made.name))
        assert list((tmp_path / "snapshots").iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", ".hidden", "", "x" * 200])
async def test_a_snapshots_name_leads_nowhere_else(retriever: Retriever, name: str) -> None:
    for call in (
        retriever.stub.RestoreSnapshot(pb.RestoreSnapshotRequest(name=name)),
        retriever.stub.DeleteSnapshot(pb.DeleteSnapshotRequest(name=name)),
    ):
        assert (await refused(call))[1] == "INVALID_SNAPSHOT"


async def test_embedding_anew_loses_no_write_and_stops_no_search(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
        embedder.texts.clear()
        embedder.gate.clear()
        settings = pb.IndexSettings(embedding_model="other")
        call = retriever.stub.ReembedIndex(pb.ReembedIndexRequest(index="birds", settings=settings))
        await embedder.waiting.wait()
        first = await call.read()
        assert first.documents == 3
        again = retriever.stub.ReembedIndex(pb.ReembedIndexRequest(index="birds", settings=settings))
        assert (await refused(again.read()))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "REEMBEDDING")
        assert len(await retriever.sources("wades", index="birds")) == 3
        embedder.gate.set()
        await retriever.ingest(document("heron.md", "The heron flies.", index="birds"))
        swan = next(found for found in await retriever.search("swan", index="birds") if found.source == "swan.md")
        await retriever.stub.DeleteDocument(pb.DeleteDocumentRequest(index="birds", document_id=swan.document_id))
        await retriever.ingest(document("crane.md", "The crane wades.", index="birds"))
        last = first
        while (response := await call.read()) is not grpc.aio.EOF:
            last = response
        assert (last.index.name, last.index.documents, last.index.embedding_model) == ("birds", 3, "other")
        found = await retriever.search("wades flies", index="birds", top_k=10)
        assert sorted(passage.text for passage in found) == ["The crane wades.", "The heron flies.", "The stork wades."]
        assert len(list((await retriever.stub.ListIndexes(pb.ListIndexesRequest())).indexes)) == 1


async def test_embedding_anew_with_other_words_keeps_the_vectors(retriever: Retriever, embedder: FakeEmbedder) -> None:
    await retriever.ingest(*BIRDS)
    embedded = len(embedder.texts)
    settings = pb.IndexSettings(bm25_language="german", quantised=True)
    responses = [
        response
        async for response in retriever.stub.ReembedIndex(pb.ReembedIndexRequest(index="birds", settings=settings))
    ]
    assert responses[-1].index.settings.bm25_language == "german"
    assert responses[-1].index.settings.quantised
    assert len(embedder.texts) == embedded
    assert await retriever.sources("heron", index="birds", mode=pb.SEARCH_MODE_BM25) == ["heron.md"]


async def test_a_cancelled_embedding_anew_changes_nothing(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
        embedder.gate.clear()
        request = pb.ReembedIndexRequest(index="birds", settings=pb.IndexSettings(embedding_model="other"))
        call = retriever.stub.ReembedIndex(request)
        await call.read()
        await embedder.waiting.wait()
        call.cancel()
        embedder.gate.set()
        assert len(await retriever.sources("wades", index="birds")) == 3
        (index,) = (await retriever.stub.ListIndexes(pb.ListIndexesRequest())).indexes
        assert (index.documents, index.embedding_model) == (3, "fake")
        async with asyncio.timeout(30):
            while not (responses := await until_refused(retriever.stub.ReembedIndex(request))):
                continue
        assert responses[-1].index.embedding_model == "other"


async def until_refused(call: Any) -> list[pb.ReembedIndexResponse]:
    """What it answers; nothing where the run that was cancelled is still being tidied up."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        return [response async for response in call]
    return []


async def test_indexes_of_an_earlier_version_keep_their_names(start: Start, tmp_path: Path) -> None:
    """They lie in folders of their own names, and nothing beside them says so."""
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
    folder = tmp_path / "indexes"
    (collection,) = (path for path in folder.iterdir() if path.is_dir())
    collection.rename(folder / "birds")
    (folder / "library.json").unlink()
    async with start() as retriever:
        assert await retriever.sources("heron", index="birds", mode=pb.SEARCH_MODE_BM25) == ["heron.md"]
        await retriever.ingest(document("crane.md", "The crane wades.", index="birds"))
        assert await retriever.info("birds") == (4, 4)
    async with start() as retriever:
        assert await retriever.info("birds") == (4, 4)
