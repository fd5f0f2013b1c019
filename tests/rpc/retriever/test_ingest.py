"""Ingesting: statuses, replacement, failures of single documents, and ends of streams."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from services.kit.errors import InvalidArgument, NotFound, Unavailable, from_rpc
from tests.fakes.embedder import DIMENSIONS, FakeEmbedder
from tests.rpc.retriever.conftest import Retriever, Start, document, one_by_one, retry_delay_s
from weft.retriever.v1 import retriever_pb2 as pb

LONG = "\n\n".join(f"Paragraph {n} tells of looms, threads and cloth number {n}." for n in range(40))


async def test_a_document_is_kept_with_its_record(retriever: Retriever) -> None:
    (answer,) = await retriever.ingest(document("notes/looms.md", f"# Looms\n\n{LONG}", metadata={"year": "1804"}))
    assert (answer.position, answer.status, answer.source) == (
        0,
        pb.IngestDocumentsResponse.STATUS_INDEXED,
        "notes/looms.md",
    )
    assert answer.chunks > 3
    found = (await retriever.stub.GetDocument(pb.GetDocumentRequest(document_id=answer.document_id))).document
    assert (found.source, found.title, found.media_type) == ("notes/looms.md", "Looms", "text/markdown")
    assert found.content_hash == hashlib.sha256(f"# Looms\n\n{LONG}".encode()).hexdigest()
    assert (found.chunks, dict(found.metadata)) == (answer.chunks, {"year": "1804"})
    assert found.ingested_at.seconds > 1_700_000_000
    index = (await retriever.stub.GetIndex(pb.GetIndexRequest())).index
    assert (index.name, index.documents, index.chunks) == ("default", 1, answer.chunks)
    assert (index.embedding_model, index.dimensions) == ("fake", DIMENSIONS)


async def test_ingesting_twice_changes_nothing(retriever: Retriever, embedder: FakeEmbedder) -> None:
    documents = [document(f"{n}.md", f"Document {n}. {LONG}") for n in range(3)]
    assert await retriever.statuses(*documents) == ["INDEXED"] * 3
    before, embedded = await retriever.info(), len(embedder.texts)
    again = await retriever.ingest(*documents)
    assert {found.status for found in again} == {pb.IngestDocumentsResponse.STATUS_UNCHANGED}
    assert sum(found.chunks for found in again) == before[1]
    assert await retriever.info() == before
    assert len(embedder.texts) == embedded


async def test_changed_content_replaces_the_old(retriever: Retriever) -> None:
    await retriever.ingest(document("a.md", f"Old herons. {LONG}"), document("b.md", "Other otters."))
    assert await retriever.statuses(document("a.md", "New swans.")) == ["REPLACED"]
    assert await retriever.info() == (2, 2)
    for mode in (pb.SEARCH_MODE_BM25, pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_HYBRID):
        texts = [passage.text for passage in await retriever.search("herons looms swans", mode=mode, top_k=50)]
        assert "New swans." in texts
        assert not any("herons" in text or "looms" in text for text in texts)


@pytest.mark.parametrize("fields", [{"title": "New"}, {"metadata": {"a": "2"}}], ids=["title", "metadata"])
async def test_changed_words_about_a_document_are_kept_too(retriever: Retriever, fields: dict[str, Any]) -> None:
    await retriever.ingest(document("a.md", "Same text.", title="Old", metadata={"a": "1"}))
    changed: dict[str, Any] = {"title": "Old", "metadata": {"a": "1"}} | fields
    assert await retriever.statuses(document("a.md", "Same text.", **changed)) == ["REPLACED"]
    (passage,) = await retriever.search("same text", top_k=10)
    assert (passage.title, dict(passage.metadata)) == (changed["title"], changed["metadata"])


async def test_one_id_in_one_stream_ends_with_its_last_state(retriever: Retriever) -> None:
    versions = [document("a.md", f"Version {n}. {LONG * (5 - n)}") for n in range(5)]
    assert await retriever.statuses(*versions) == ["INDEXED"] + ["REPLACED"] * 4
    found = [passage.text[:9] for passage in await retriever.search("version", mode=pb.SEARCH_MODE_BM25, top_k=50)]
    assert found == ["Version 4"]
    assert (await retriever.info())[0] == 1


async def test_bad_documents_stop_nothing_else(retriever: Retriever, data_dir: Path) -> None:
    def file(path: Path) -> pb.IngestDocumentsRequest:
        return pb.IngestDocumentsRequest(document=pb.Document(source=str(path), content=path.read_bytes()))

    bad = [data_dir / "documents" / "malformed" / name for name in ("random.pdf", "trunc0.docx", "empty.pdf")]
    good = sorted((data_dir / "documents" / "pdf").glob("*00[124]*.pdf"))
    answers = await retriever.ingest(*(file(path) for pair in zip(bad, good, strict=True) for path in pair))
    assert [found.failure.reason for found in answers] == [
        "PDF_UNREADABLE",
        "",
        "DOCX_UNREADABLE",
        "",
        "EMPTY_DOCUMENT",
        "",
    ]
    assert answers[0].failure.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answers[0].failure.message == (
        "random.pdf is not a readable PDF: data format error; open it in a PDF viewer and save it again"
    )
    assert (await retriever.info())[0] == 3
    (passage,) = await retriever.search("blind text alphabet letters", top_k=1)
    assert passage.page >= 1


async def test_an_index_name_that_is_not_allowed_ends_the_stream(retriever: Retriever) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await retriever.ingest(document("a.md", "text", index="Not allowed"))
    error = from_rpc(caught.value)
    assert isinstance(error, InvalidArgument)
    assert (error.field, error.reason) == ("index", "INVALID_INDEX")


async def test_a_stream_may_name_several_indexes(retriever: Retriever) -> None:
    await retriever.ingest(document("a.md", "In one.", index="one"), document("a.md", "In two.", index="two"))
    found = (await retriever.stub.ListIndexes(pb.ListIndexesRequest())).indexes
    assert [(index.name, index.documents) for index in found] == [("one", 1), ("two", 1)]
    assert [passage.text for passage in await retriever.search("in", index="two")] == ["In two."]


async def test_more_indexes_than_allowed_are_refused(start: Start) -> None:
    async with start(max_indexes=1) as retriever:
        one, two = (
            await retriever.ingest(document("a.md", "a", index="one")),
            await retriever.ingest(document("a.md", "a", index="two")),
        )
        assert one[0].status == pb.IngestDocumentsResponse.STATUS_INDEXED
        assert (two[0].failure.reason, two[0].failure.code) == ("TOO_MANY_INDEXES", 8)


async def test_deleted_documents_are_gone(retriever: Retriever) -> None:
    first, _ = await retriever.ingest(document("a.md", f"Herons. {LONG}"), document("b.md", "Otters."))
    deleted = await retriever.stub.DeleteDocument(pb.DeleteDocumentRequest(document_id=first.document_id))
    assert deleted.deleted_chunks == first.chunks
    assert await retriever.info() == (1, 1)
    assert await retriever.sources("herons looms otters", top_k=20) == ["b.md"]
    for call in (
        retriever.stub.DeleteDocument(pb.DeleteDocumentRequest(document_id=first.document_id)),
        retriever.stub.GetDocument(pb.GetDocumentRequest(document_id=first.document_id)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert from_rpc(caught.value).reason == "DOCUMENT_NOT_FOUND"
    assert await retriever.statuses(document("a.md", f"Herons. {LONG}")) == ["INDEXED"]


async def test_deleted_indexes_are_gone(retriever: Retriever) -> None:
    await retriever.ingest(document("a.md", "a", index="one"), document("b.md", "b", index="one"))
    assert (await retriever.stub.DeleteIndex(pb.DeleteIndexRequest(index="one"))).deleted_documents == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await retriever.info("one")
    assert isinstance(from_rpc(caught.value), NotFound)
    assert await retriever.statuses(document("a.md", "a", index="one")) == ["INDEXED"]
    assert await retriever.info("one") == (1, 1)


async def test_an_embedder_that_is_away_ends_the_stream(retriever: Retriever, embedder: FakeEmbedder) -> None:
    assert await retriever.statuses(document("a.md", "Before.")) == ["INDEXED"]
    await embedder.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await retriever.ingest(document("b.md", "While it is away."))
    error = from_rpc(caught.value)
    assert isinstance(error, Unavailable)
    assert error.reason == "EMBEDDER_AWAY"
    assert error.retry_delay_s
    assert await retriever.statuses(document("a.md", "Before.")) == ["UNCHANGED"]
    await embedder.start(int(embedder.address.rpartition(":")[2]))
    assert await again(retriever, document("b.md", "While it is away.")) == ["INDEXED"]


async def again(retriever: Retriever, request: pb.IngestDocumentsRequest) -> list[str]:
    """Sends a document until the embedder is there, as RetryInfo asks its callers to do."""
    while True:
        try:
            return await retriever.statuses(request)
        except grpc.aio.AioRpcError as error:
            await asyncio.sleep(retry_delay_s(error))


async def test_another_model_does_not_mix_with_the_old(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(document("a.md", "First model."))
    embedder.fingerprint = "fake-2"
    async with start() as retriever:
        (found,) = await retriever.ingest(document("b.md", "Second model."))
        assert found.failure.reason == "MODEL_CHANGED"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await retriever.search("model")
        assert (from_rpc(caught.value).reason, from_rpc(caught.value).field) == ("MODEL_CHANGED", "index")
        assert await retriever.sources("model", mode=pb.SEARCH_MODE_BM25) == ["a.md"]


async def test_a_cancelled_ingest_leaves_a_consistent_index(retriever: Retriever, embedder: FakeEmbedder) -> None:
    await retriever.ingest(document("a.md", "Kept herons."))
    embedder.gate.clear()
    requests = [document("a.md", f"New swans. {LONG}"), document("b.md", f"New swans too. {LONG}")]
    call = retriever.stub.IngestDocuments(one_by_one(requests))
    reading = asyncio.create_task(call.read())
    await embedder.waiting.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    embedder.gate.set()
    assert await retriever.sources("herons swans", top_k=20) == ["a.md"]
    assert await retriever.info() == (1, 1)
    assert await retriever.statuses(*requests) == ["REPLACED", "INDEXED"]


async def test_a_document_of_many_batches_shows_up_as_a_whole(start: Start, embedder: FakeEmbedder) -> None:
    text = "\n\n".join(f"# Part {n}\n\nThe herons of part {n}." for n in range(600))
    async with start(chunk_tokens=16, chunk_overlap_tokens=0) as retriever:
        await retriever.ingest(document("b.md", "Otters."))
        ingesting = asyncio.create_task(retriever.ingest(document("a.md", text)))
        while len(embedder.texts) < 300:
            assert await retriever.sources("herons", mode=pb.SEARCH_MODE_BM25) == []
        (answer,) = await ingesting
        assert answer.chunks == 600
        assert await retriever.info() == (2, 601)
        found = await retriever.search("herons part 599", mode=pb.SEARCH_MODE_BM25, top_k=100)
        assert (len(found), list(found[0].heading_path)) == (100, ["Part 599"])
        assert text[found[0].start_offset : found[0].end_offset] == found[0].text


async def test_more_documents_than_are_taken_at_once_are_all_answered(start: Start) -> None:
    async with start(max_documents_in_flight=2) as retriever:

        async def many() -> AsyncIterator[pb.IngestDocumentsRequest]:
            for n in range(50):
                yield document(f"{n}.md", f"Document {n}.")

        call = retriever.stub.IngestDocuments(many())
        positions = [response.position async for response in call]
        assert sorted(positions) == list(range(50))
