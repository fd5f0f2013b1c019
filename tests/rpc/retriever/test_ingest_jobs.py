"""Ingest jobs over real sockets: what they find, what they skip, what they retry, and how they go on."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import boto3
import grpc
import grpc.aio
import pytest

from services.kit.errors import from_rpc
from services.retriever.jobs.database import Database
from services.retriever.jobs.job import Job, JobState
from services.retriever.jobs.journal import Journal
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.s3 import s3_server
from tests.fakes.site import Page, Site
from tests.rpc.retriever.conftest import Retriever, Start, document
from weft.retriever.v1 import retriever_pb2 as pb

QUICK: dict[str, Any] = {"retry_delay_s": 0.01, "max_retry_delay_s": 0.05}
HTTP: dict[str, Any] = {"allowed_networks": ["127.0.0.0/8"], "delay_s": 0.0}


def counts(job: pb.IngestJob) -> dict[str, int]:
    names = ("found", "indexed", "replaced", "unchanged", "duplicates", "failed")
    return {name: getattr(job, name) for name in names if getattr(job, name)}


async def started(retriever: Retriever, *uris: str, **fields: Any) -> str:
    request = pb.StartIngestRequest(uris=uris, **fields)
    return str((await retriever.stub.StartIngest(request, timeout=20)).job.job_id)


async def finished(retriever: Retriever, job_id: str) -> pb.IngestJob:
    """The job when it is over."""
    async for answer in retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id=job_id), timeout=60):
        job = answer.job
    assert job.state != pb.IngestJob.STATE_RUNNING
    return job


async def ingested(retriever: Retriever, *uris: str, **fields: Any) -> pb.IngestJob:
    return await finished(retriever, await started(retriever, *uris, **fields))


async def quarantine(retriever: Retriever, **fields: Any) -> list[pb.Quarantined]:
    return list((await retriever.stub.ListQuarantine(pb.ListQuarantineRequest(**fields), timeout=20)).documents)


async def retried(retriever: Retriever, **fields: Any) -> list[pb.IngestDocumentsResponse]:
    call = retriever.stub.RetryQuarantine(pb.RetryQuarantineRequest(**fields), timeout=60)
    return [answer.result async for answer in call]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder of documents, with things in it that are none."""
    folder = tmp_path / "library"
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "heron.md").write_text("# Heron\n\nThe heron fishes.")
    (folder / "deep" / "swan.txt").write_text("The swan swims.")
    (folder / "deep" / "tit.csv").write_text("bird,weight\ntit,18\n")
    (folder / ".git" / "config.md").write_text("not a document")
    (folder / "program.exe").write_bytes(b"MZ")
    return folder


async def test_a_folder_is_ingested_and_found_unchanged_the_next_time(start: Start, library: Path) -> None:
    async with start(ingest=QUICK | {"roots": [str(library)]}) as retriever:
        first = await ingested(retriever, library.as_uri(), metadata={"kind": "bird"})
        assert counts(first) == {"found": 3, "indexed": 3}
        assert first.ended_at.ToSeconds() >= first.started_at.ToSeconds() > 0
        assert (await retriever.sources("swan swims"))[0] == (library / "deep" / "swan.txt").as_uri()
        (passage, *_) = await retriever.search("heron")
        assert dict(passage.metadata) == {"kind": "bird"}
        (library / "heron.md").write_text("# Heron\n\nThe heron sleeps.")
        assert counts(await ingested(retriever, library.as_uri(), metadata={"kind": "bird"})) == {
            "found": 3,
            "replaced": 1,
            "unchanged": 2,
        }
        assert counts(await ingested(retriever, library.as_uri())) == {"found": 3, "replaced": 3}
        jobs = (await retriever.stub.ListIngests(pb.ListIngestsRequest())).jobs
        assert [job.replaced for job in jobs] == [3, 1, 0]


async def test_pages_are_asked_for_conditionally(start: Start) -> None:
    with Site() as site:
        site.pages["/heron.html"] = Page(b"<p>The heron fishes.</p>", headers={"Content-Type": "text/html"}, etag='"1"')
        async with start(ingest=QUICK | {"http": HTTP}) as retriever:
            assert counts(await ingested(retriever, site.url("/heron.html"))) == {"found": 1, "indexed": 1}
            assert counts(await ingested(retriever, site.url("/heron.html"))) == {"found": 1, "unchanged": 1}
            assert site.headers[-1]["If-None-Match"] == '"1"'
            await retriever.stub.DeleteIndex(pb.DeleteIndexRequest(index="default"))
            assert counts(await ingested(retriever, site.url("/heron.html"))) == {"found": 1, "indexed": 1}
            assert "If-None-Match" not in site.headers[-1]
            assert await retriever.sources("heron") == [site.url("/heron.html")]


async def test_failures_go_into_quarantine_and_can_be_tried_again(start: Start) -> None:
    with Site() as site:
        site.pages["/away.md"] = Page(status=503)
        site.pages["/good.md"] = Page(b"The heron fishes.", headers={"Content-Type": "text/markdown"})
        async with start(ingest=QUICK | {"http": HTTP, "attempts": 3}) as retriever:
            uris = [site.url(path) for path in ("/away.md", "/gone.md", "/good.md")]
            assert counts(await ingested(retriever, *uris)) == {"found": 3, "indexed": 1, "failed": 2}
            found = {entry.source: entry for entry in await quarantine(retriever)}
            assert {source: entry.failure.reason for source, entry in found.items()} == {
                site.url("/away.md"): "SOURCE_AWAY",
                site.url("/gone.md"): "HTTP_404",
            }
            assert site.asked["/away.md"] == 3
            assert site.asked["/gone.md"] == 1
            assert all(entry.can_retry and entry.attempts == 1 for entry in found.values())
            site.pages["/away.md"] = Page(b"The swan swims.", headers={"Content-Type": "text/plain"})
            statuses = {answer.source: answer.status for answer in await retried(retriever)}
            assert statuses == {
                site.url("/away.md"): pb.IngestDocumentsResponse.STATUS_INDEXED,
                site.url("/gone.md"): pb.IngestDocumentsResponse.STATUS_FAILED,
            }
            (left,) = await quarantine(retriever)
            assert (left.source, left.attempts) == (site.url("/gone.md"), 2)
            request = pb.ClearQuarantineRequest(index="default", document_ids=[left.document_id])
            assert (await retriever.stub.ClearQuarantine(request)).cleared == 1
            assert await quarantine(retriever) == []


async def test_streamed_failures_are_kept_with_their_bytes(start: Start, embedder: FakeEmbedder) -> None:
    async with start() as retriever:
        broken = pb.IngestDocumentsRequest(document=pb.Document(source="a.pdf", content=b"%PDF-1.7 broken"))
        nameless = pb.IngestDocumentsRequest(document=pb.Document(document_id="?", text="a"))
        assert await retriever.statuses(broken, nameless) == ["FAILED", "FAILED"]
        (entry,) = await quarantine(retriever)
        assert (entry.source, entry.failure.reason, entry.can_retry) == ("a.pdf", "PDF_UNREADABLE", True)
    async with start() as retriever:
        (answer,) = await retried(retriever, document_ids=[entry.document_id])
        assert answer.failure.reason == "PDF_UNREADABLE"
        (again,) = await quarantine(retriever)
        assert again.attempts == 2
        fixed = pb.IngestDocumentsRequest(document=pb.Document(source="a.pdf", text="now a text"))
        assert await retriever.statuses(fixed) == ["INDEXED"]
        assert await quarantine(retriever) == []


async def test_pages_of_the_quarantine(start: Start) -> None:
    async with start(ingest={"quarantine_documents": 5, "quarantine_bytes": 40}) as retriever:
        for n in range(7):
            await retriever.ingest(
                pb.IngestDocumentsRequest(document=pb.Document(source=f"{n}.pdf", content=b"%PDF-1.7 %%%%"))
            )
        answer = await retriever.stub.ListQuarantine(pb.ListQuarantineRequest(page_size=3))
        assert [entry.source for entry in answer.documents] == ["6.pdf", "5.pdf", "4.pdf"]
        rest = await quarantine(retriever, page_size=3, page_token=answer.next_page_token)
        assert [entry.source for entry in rest] == ["3.pdf", "2.pdf"]
        assert [entry.can_retry for entry in [*answer.documents, *rest]] == [True, True, True, False, False]
        (lost,) = await retried(retriever, document_ids=[rest[0].document_id])
        assert lost.failure.reason == "NOT_KEPT"


async def test_a_job_waits_for_an_embedder_that_is_away(start: Start, library: Path, embedder: FakeEmbedder) -> None:
    async with start(ingest=QUICK | {"roots": [str(library)]}) as retriever:
        address = embedder.address
        await embedder.stop()
        job_id = await started(retriever, library.as_uri())
        watch = retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id=job_id))
        async for answer in watch:
            if answer.job.found == 3:
                break
        watch.cancel()
        await embedder.start(int(address.rpartition(":")[2]))
        assert counts(await finished(retriever, job_id)) == {"found": 3, "indexed": 3}


async def test_cancelling_stops_a_job_and_keeps_what_is_there(start: Start) -> None:
    with Site() as site:
        site.pages["/heron.md"] = Page(b"The heron fishes.")
        site.pages["/slow.md"] = Page(b"slow", gate=threading.Event())
        async with start(ingest=QUICK | {"http": HTTP}) as retriever:
            job_id = await started(retriever, site.url("/heron.md"), site.url("/slow.md"))
            async for answer in retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id=job_id)):
                if answer.job.indexed:
                    cancelled = await retriever.stub.CancelIngest(pb.CancelIngestRequest(job_id=job_id))
            assert answer.job.state == cancelled.job.state == pb.IngestJob.STATE_CANCELLED
            assert await retriever.sources("heron") == [site.url("/heron.md")]
            again = await retriever.stub.CancelIngest(pb.CancelIngestRequest(job_id=job_id))
            assert again.job == cancelled.job


async def test_a_job_goes_on_after_a_restart(start: Start) -> None:
    with Site() as site:
        gate = threading.Event()
        for n in range(20):
            site.pages[f"/{n}.md"] = Page(f"Heron {n} fishes.".encode(), gate=gate if n >= 10 else None)
        async with start(ingest=QUICK | {"http": HTTP | {"per_host": 4}}) as retriever:
            job_id = await started(retriever, *(site.url(f"/{n}.md") for n in range(20)))
            watch = retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id=job_id))
            async for answer in watch:
                if answer.job.indexed == 10:
                    break
            watch.cancel()
        gate.set()
        async with start(ingest=QUICK | {"http": HTTP}) as retriever:
            job = await finished(retriever, job_id)
            assert counts(job) == {"found": 20, "indexed": 20}
            assert await retriever.info() == (20, 20)
            assert all(site.asked[f"/{n}.md"] == 1 for n in range(10))


async def test_near_duplicates_are_named_and_left_out_where_the_index_says_so(start: Start) -> None:
    words = [f"word{n}" for n in range(200)]
    twin = words.copy()
    twin[100] = "other"
    async with start() as retriever:
        one, two = document("one.txt", " ".join(words)), document("two.txt", " ".join(twin))
        first, second = await retriever.ingest(one, two)
        pair = {first.document_id: first.near_duplicate_of, second.document_id: second.near_duplicate_of}
        # Both are sent at once: whichever was first, the other is its twin.
        assert sorted(filter(None, pair.values())) in ([first.document_id], [second.document_id])
        later = next(name for name, found in pair.items() if found)
        record = (await retriever.stub.GetDocument(pb.GetDocumentRequest(document_id=later))).document
        assert record.near_duplicate_of == pair[later]
        settings = pb.IndexSettings(skip_near_duplicates=True)
        await retriever.stub.CreateIndex(pb.CreateIndexRequest(index="lean", settings=settings))
        assert await retriever.statuses(document("one.txt", " ".join(words), "lean")) == ["INDEXED"]
        (left_out,) = await retriever.ingest(document("two.txt", " ".join(twin), "lean"))
        assert left_out.status == pb.IngestDocumentsResponse.STATUS_DUPLICATE
        assert left_out.near_duplicate_of == first.document_id
        assert (await retriever.info("lean"))[0] == 1
        await retriever.stub.DeleteDocument(pb.DeleteDocumentRequest(index="lean", document_id=first.document_id))
        assert await retriever.statuses(document("two.txt", " ".join(twin), "lean")) == ["INDEXED"]


REFUSED = {
    "ftp://example.org/a": "known are https://",
    "a/path": "known are https://",
    "file:///etc/passwd": "outside the folders",
    "file://example.org/a": "file:///folder/file",
    "https://user:secret@example.org/": "leave them out",
    "http:///path": "https://host/path",
    "s3:///key": "s3://bucket/key",
    "s3://other/key": "retriever.ingest.s3.buckets",
    "https://example.org/" + "a" * 5000: "characters",
}


async def test_requests_that_are_refused(start: Start, tmp_path: Path) -> None:
    async with start(ingest={"roots": [str(tmp_path)], "s3": {"buckets": ["mine"]}}) as retriever:
        for uri, said in REFUSED.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await started(retriever, uri)
            error = from_rpc(caught.value)
            assert (caught.value.code(), error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_URI"), uri
            assert said in error.message
        with pytest.raises(grpc.aio.AioRpcError, match="send 1 to 10,000"):
            await started(retriever)
        for call in (
            retriever.stub.CancelIngest(pb.CancelIngestRequest(job_id="none")),
            retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id="none")).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="no ingest job"):
                await call
        with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
            await quarantine(retriever, page_token="x")


async def test_too_many_jobs_are_refused(start: Start) -> None:
    with Site() as site:
        site.pages["/slow.md"] = Page(b"slow", gate=threading.Event())
        limits = {"max_unfinished_jobs": 2, "max_running_jobs": 1}
        async with start(ingest=QUICK | limits | {"http": HTTP}) as retriever:
            jobs = [await started(retriever, site.url("/slow.md")) for _ in range(2)]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await started(retriever, site.url("/slow.md"))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            for job_id in jobs:
                await retriever.stub.CancelIngest(pb.CancelIngestRequest(job_id=job_id))
            await started(retriever, site.url("/slow.md"))


async def test_jobs_that_are_started_at_once_are_bounded(start: Start) -> None:
    with Site() as site:
        site.pages["/slow.md"] = Page(b"slow", gate=threading.Event())
        async with start(ingest=QUICK | {"max_unfinished_jobs": 2, "http": HTTP}) as retriever:
            answers = await asyncio.gather(
                *(started(retriever, site.url("/slow.md")) for _ in range(8)), return_exceptions=True
            )
            refused = [one for one in answers if isinstance(one, grpc.aio.AioRpcError)]
            assert [one.code() for one in refused] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 6


async def test_a_deleted_index_is_not_made_anew_by_its_jobs(start: Start) -> None:
    with Site() as site:
        slow = Page(b"The swan swims.", gate=threading.Event())
        site.pages |= {"/heron.md": Page(b"The heron fishes."), "/bad.pdf": Page(b"bad"), "/slow.md": slow}
        async with start(ingest=QUICK | {"http": HTTP}) as retriever:
            uris = [site.url(path) for path in ("/heron.md", "/bad.pdf", "/slow.md")]
            job_id = await started(retriever, *uris, index="birds")
            async for answer in retriever.stub.WatchIngest(pb.WatchIngestRequest(job_id=job_id)):
                if answer.job.indexed and answer.job.failed and answer.job.state == pb.IngestJob.STATE_RUNNING:
                    assert len(await quarantine(retriever)) == 1
                    await retriever.stub.DeleteIndex(pb.DeleteIndexRequest(index="birds"))
            assert answer.job.state == pb.IngestJob.STATE_CANCELLED
            assert slow.gate is not None
            slow.gate.set()
            assert not (await retriever.stub.ListIndexes(pb.ListIndexesRequest())).indexes
            assert await quarantine(retriever) == []


async def test_what_the_settings_forbid_by_now_fails_alone_when_it_is_tried_again(start: Start, library: Path) -> None:
    (library / "bad.pdf").write_bytes(b"bad")
    async with start(ingest=QUICK | {"roots": [str(library)]}) as retriever:
        assert counts(await ingested(retriever, library.as_uri())) == {"found": 4, "indexed": 3, "failed": 1}
    async with start() as retriever:
        (result,) = await retried(retriever)
        assert result.failure.reason == "INVALID_URI"
        assert "retriever.ingest.roots" in result.failure.message
        with pytest.raises(grpc.aio.AioRpcError, match="over the limit of 1,000"):
            await retried(retriever, document_ids=["a"] * 1001)


async def test_a_source_that_is_too_long_is_kept_in_quarantine_by_its_beginning(start: Start) -> None:
    async with start() as retriever:
        (result,) = await retriever.ingest(document("x" * 100_000, "text"))
        assert result.failure.reason == "NAME_TOO_LONG"
        (entry,) = await quarantine(retriever)
        assert len(entry.source) == 4096


async def test_a_job_ends_where_it_has_too_many_documents(start: Start, library: Path) -> None:
    async with start(ingest=QUICK | {"roots": [str(library)], "max_job_documents": 2}) as retriever:
        assert counts(await ingested(retriever, library.as_uri())) == {"found": 2, "indexed": 2}


async def test_a_document_that_ends_the_process_each_time_is_given_up(start: Start, tmp_path: Path) -> None:
    database = Database(tmp_path / "ingest" / "journal.sqlite3")
    await database.open()
    journal = Journal(database)
    await journal.add_job(Job("j1", "default", JobState.RUNNING, {}, 1.0, 0.0), ["https://a/"], keep=10)
    (target,) = await journal.targets("j1")
    await journal.add_items("j1", target.number, ["https://a/"], "", limit=10)
    await journal.listed(target.number)
    (item,) = await journal.items("j1", 0, 10)
    for _ in range(8):
        await journal.tried(item.number)
    await database.close()
    async with start() as retriever:
        assert counts(await finished(retriever, "j1")) == {"found": 1, "failed": 1}
        (entry,) = await quarantine(retriever)
        assert (entry.failure.reason, entry.can_retry) == ("NEVER_DONE", True)


async def test_a_bucket_is_ingested_with_the_keys_of_the_settings(start: Start) -> None:
    with s3_server() as endpoint:
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
        client: Any = boto3.client("s3", endpoint_url=endpoint, **keys)
        client.create_bucket(Bucket="birds")
        for n in range(3):
            client.put_object(Bucket="birds", Key=f"deep/{n}.md", Body=f"Heron {n} fishes.".encode())
        client.close()
        s3 = {"endpoint": endpoint, "access_key_id": "k", "secret_access_key": "s"}
        async with start(ingest=QUICK | {"s3": s3}) as retriever:
            assert counts(await ingested(retriever, "s3://birds/deep")) == {"found": 3, "indexed": 3}
            assert sorted(await retriever.sources("heron")) == [f"s3://birds/deep/{n}.md" for n in range(3)]
            assert counts(await ingested(retriever, "s3://birds/deep/", "s3://birds/none/")) == {
                "found": 4,
                "unchanged": 3,
                "failed": 1,
            }
            (entry,) = await quarantine(retriever)
            assert entry.failure.reason == "OBJECT_NOT_FOUND"
