"""What stays of indexes, aliases and snapshots when they are deleted, changed or cut off, over real sockets."""

import asyncio
from pathlib import Path

import grpc

from services.retriever.hold import Holds
from tests.fakes.embedder import FakeEmbedder
from tests.rpc.retriever.conftest import Retriever, Start, document
from tests.rpc.retriever.test_indexes import BIRDS, refused
from tests.rpc.retriever.test_ingest_jobs import QUICK, finished, quarantine, started
from weft.retriever.v1 import retriever_pb2 as pb


async def test_a_deleted_index_takes_its_quarantine_along(retriever: Retriever) -> None:
    await retriever.ingest(*BIRDS, document("whole.md", "The crane wades.", index="others"))
    await retriever.stub.SetAlias(pb.SetAliasRequest(alias="now", index="birds"))
    for index in ("birds", "now", "others"):
        broken = pb.Document(source=f"{index}.pdf", media_type="application/pdf", content=b"no PDF")
        assert await retriever.statuses(pb.IngestDocumentsRequest(index=index, document=broken)) == ["FAILED"]
    assert len(await quarantine(retriever)) == 3
    deleted = await retriever.stub.DeleteIndex(pb.DeleteIndexRequest(index="now"))
    assert deleted.deleted_documents == 3
    assert [entry.source for entry in await quarantine(retriever)] == ["others.pdf"]


async def test_a_deleted_index_ends_the_jobs_that_would_make_it_anew(
    start: Start, embedder: FakeEmbedder, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.md").write_text(f"The heron number {number} fishes.")
    async with start(ingest=QUICK | {"roots": [str(folder)]}) as retriever:
        await retriever.ingest(*BIRDS)
        embedder.gate.clear()
        embedder.waiting.clear()
        job_id = await started(retriever, folder.as_uri(), index="birds")
        await embedder.waiting.wait()
        await retriever.stub.DeleteIndex(pb.DeleteIndexRequest(index="birds"), timeout=20)
        embedder.gate.set()
        assert (await finished(retriever, job_id)).state == pb.IngestJob.STATE_CANCELLED
        assert list((await retriever.stub.ListIndexes(pb.ListIndexesRequest())).indexes) == []


async def test_a_deleted_document_has_no_near_duplicates(start: Start) -> None:
    text = " ".join(f"The heron number {n} fishes in the shallow water." for n in range(40))
    async with start(skip_near_duplicates=True) as retriever:
        assert await retriever.statuses(document("one.md", text, document_id="one")) == ["INDEXED"]
        await retriever.stub.DeleteDocument(pb.DeleteDocumentRequest(document_id="one"))
        assert await retriever.statuses(document("two.md", text, document_id="two")) == ["INDEXED"]
        assert await retriever.statuses(document("one.md", text, document_id="one")) == ["DUPLICATE"]


async def test_aliases_have_a_limit_that_moving_one_does_not_meet(start: Start) -> None:
    async with start(max_aliases=1) as retriever:
        await retriever.ingest(*BIRDS, document("otter.md", "The otter swims.", index="otters"))
        await retriever.stub.SetAlias(pb.SetAliasRequest(alias="now", index="birds"))
        await retriever.stub.SetAlias(pb.SetAliasRequest(alias="now", index="otters"))
        full = await refused(retriever.stub.SetAlias(pb.SetAliasRequest(alias="then", index="birds")))
        assert full == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ALIASES", "alias")


async def test_settings_that_change_while_an_index_is_embedded_anew_stay(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
        embedder.gate.clear()
        embedder.waiting.clear()
        settings = pb.IndexSettings(embedding_model="other")
        call = retriever.stub.ReembedIndex(pb.ReembedIndexRequest(index="birds", settings=settings))
        await embedder.waiting.wait()
        change = pb.IndexSettings(fusion=pb.FUSION_RRF, candidates=7)
        await retriever.stub.UpdateIndex(pb.UpdateIndexRequest(index="birds", settings=change))
        embedder.gate.set()
        last = [response async for response in call][-1].index
        assert (last.settings.fusion, last.settings.candidates, last.embedding_model) == (pb.FUSION_RRF, 7, "other")


async def test_an_index_that_is_deleted_while_it_is_embedded_anew_says_so(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
        embedder.gate.clear()
        embedder.waiting.clear()
        settings = pb.IndexSettings(embedding_model="other")
        call = retriever.stub.ReembedIndex(pb.ReembedIndexRequest(index="birds", settings=settings))
        await embedder.waiting.wait()
        await retriever.stub.DeleteIndex(pb.DeleteIndexRequest(index="birds"))
        embedder.gate.set()

        async def end() -> None:
            async for _ in call:
                pass

        assert await refused(end()) == (grpc.StatusCode.FAILED_PRECONDITION, "INDEX_REPLACED", "index")


async def test_half_written_snapshots_go_at_the_next_start(start: Start, tmp_path: Path) -> None:
    async with start() as retriever:
        await retriever.ingest(*BIRDS)
        made = (await retriever.stub.CreateSnapshot(pb.CreateSnapshotRequest(index="birds"))).snapshot
    folder = tmp_path / "snapshots"
    (folder / ".birds-cut-off.weft.new").write_bytes(b"half of it")
    async with start() as retriever:
        assert sorted(path.name for path in folder.iterdir()) == [f"{made.name}.json", f"{made.name}.weft"]
        assert list((await retriever.stub.ListSnapshots(pb.ListSnapshotsRequest())).snapshots) == [made]


async def test_a_hold_is_kept_only_while_somebody_has_or_awaits_it() -> None:
    holds, entered = Holds(), asyncio.Event()

    async def second() -> None:
        with holds.of("birds") as hold:
            entered.set()
            async with hold.alone():
                pass

    with holds.of("birds") as hold:
        async with hold.shared():
            waiting = asyncio.create_task(second())
            await entered.wait()
            assert repr(holds) == "Holds(1 in use)"
    await waiting
    assert repr(holds) == "Holds(0 in use)"
