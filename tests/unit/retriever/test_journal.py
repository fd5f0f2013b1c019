"""The journal: what a process that died leaves to the next one."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from services.kit.errors import Internal, Unavailable
from services.retriever.document import Outcome
from services.retriever.failure import unreadable
from services.retriever.jobs.database import Database
from services.retriever.jobs.job import Job, JobState, Known, Said, Tag
from services.retriever.jobs.journal import Journal
from services.retriever.jobs.quarantine import Quarantine

JOB = Job("j1", "default", JobState.RUNNING, {"kind": "bird"}, 1.5, 0.0)
SAID = Said("A title", "text/plain", "en", "MIT", {"a": "b"})


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database(tmp_path / "ingest" / "journal.sqlite3")
    await found.open()
    yield found
    await found.close()


async def test_a_job_is_taken_up_where_it_was(database: Database, tmp_path: Path) -> None:
    journal = Journal(database)
    await journal.add_job(JOB, ["s3://b/", "https://a/"], keep=10)
    bucket, _ = await journal.targets("j1")
    assert await journal.add_items("j1", bucket.number, ["s3://b/1", "s3://b/2"], "2", limit=10)
    first, second = await journal.items("j1", 0, 10)
    await journal.tried(second.number)
    for _ in range(2):
        await journal.done(JOB, first, Outcome.INDEXED)
    other = Database(tmp_path / "ingest" / "journal.sqlite3")
    await other.open()
    journal = Journal(other)
    (job,) = await journal.jobs()
    assert job == replace(JOB, found=2, indexed=1)
    bucket, page = await journal.targets("j1")
    assert (bucket.uri, bucket.cursor, page.cursor) == ("s3://b/", "2", "")
    assert await journal.items("j1", 0, 10) == [replace(second, attempts=1)]
    await journal.add_items("j1", bucket.number, ["s3://b/2", "s3://b/3"], "3", limit=10)
    await journal.listed(bucket.number)
    assert [found.uri for found in await journal.targets("j1")] == ["https://a/"]
    assert [item.uri for item in await journal.items("j1", 0, 10)] == ["s3://b/2", "s3://b/3"]
    await other.close()


async def test_a_job_has_a_bounded_number_of_documents(database: Database) -> None:
    journal = Journal(database)
    await journal.add_job(JOB, ["s3://b/"], keep=10)
    (target,) = await journal.targets("j1")
    assert not await journal.add_items("j1", target.number, [f"s3://b/{n}" for n in range(5)], "", limit=3)
    assert len(await journal.items("j1", 0, 10)) == 3


async def test_jobs_that_ended_are_kept_in_a_bounded_number(database: Database) -> None:
    journal = Journal(database)
    for n in range(5):
        await journal.add_job(replace(JOB, job_id=f"j{n}"), ["s3://b/"], keep=2)
        if n:
            await journal.end(f"j{n}", JobState.DONE, 9.0)
            await journal.end(f"j{n}", JobState.CANCELLED, 10.0)
    jobs = await journal.jobs()
    assert [(job.job_id, job.state, job.ended_at_s) for job in jobs] == [
        ("j4", JobState.DONE, 9.0),
        ("j3", JobState.DONE, 9.0),
        ("j2", JobState.DONE, 9.0),
        ("j0", JobState.RUNNING, 0.0),
    ]


async def test_what_a_uri_held_is_known_by_index(database: Database) -> None:
    journal = Journal(database)
    known = Known(Tag('"1"', "yesterday"), "hash", "text/html")
    await journal.remember("a", "https://a/", replace(known, content_hash="old"))
    await journal.remember("a", "https://a/", known)
    assert await journal.known("a", "https://a/") == known
    assert await journal.known("b", "https://a/") is None
    await journal.forget("a")
    assert await journal.known("a", "https://a/") is None


async def test_the_quarantine_gives_back_what_it_was_given(database: Database, tmp_path: Path) -> None:
    quarantine = Quarantine(database, tmp_path / "quarantine", 10, 100, lambda: 5.0)
    await quarantine.start()
    for content in (b"first", b"second"):
        await quarantine.keep("a", "d", "d.pdf", unreadable("BAD", "it is bad"), SAID, content=content)
    (entry,) = await quarantine.page("", 10)
    assert (entry.index, entry.document_id, entry.source, entry.said, entry.attempts) == ("a", "d", "d.pdf", SAID, 2)
    assert (entry.failure.reason, entry.failure.message, entry.failed_at_s) == ("BAD", "it is bad", 5.0)
    assert await quarantine.content(entry) == b"second"
    await quarantine.release("b", "d")
    assert len(await quarantine.page("", 10)) == 1
    await quarantine.release("a", "d")
    assert await quarantine.page("", 10) == []
    assert list((tmp_path / "quarantine").iterdir()) == []


async def test_the_quarantine_drops_the_oldest_bytes_and_what_nothing_names(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "quarantine"
    folder.mkdir()
    (folder / "left-over.part").write_bytes(b"x")
    quarantine = Quarantine(database, folder, 10, 100, lambda: 5.0)
    await quarantine.start()
    assert list(folder.iterdir()) == []
    for n in range(4):
        await quarantine.keep("a", f"d{n}", "", unreadable("BAD", "bad"), SAID, content=b"x" * 40)
    await quarantine.keep("a", "huge", "", unreadable("BAD", "bad"), SAID, content=b"x" * 101)
    assert [(entry.document_id, entry.can_retry) for entry in await quarantine.page("a", 10)] == [
        ("huge", False),
        ("d3", True),
        ("d2", True),
        ("d1", False),
        ("d0", False),
    ]
    assert sum(path.stat().st_size for path in folder.iterdir()) == 80


async def test_a_journal_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("PRAGMA user_version = 99"))
    engine.dispose()
    database = Database(path)
    with pytest.raises(Internal, match="later version"):
        await database.open()
    await database.close()


async def test_a_failure_without_bytes_leaves_none_of_the_one_before(database: Database, tmp_path: Path) -> None:
    quarantine = Quarantine(database, tmp_path / "quarantine", 10, 100, lambda: 5.0)
    await quarantine.start()
    await quarantine.keep("a", "d", "d.pdf", unreadable("BAD", "it is bad"), SAID, content=b"bytes")
    await quarantine.keep("a", "d", "d.pdf", unreadable("WORSE", "it is worse"), SAID)
    (entry,) = await quarantine.page("", 10)
    assert not entry.can_retry
    assert list((tmp_path / "quarantine").iterdir()) == []


async def test_a_full_disk_is_told_without_what_was_to_be_written(database: Database) -> None:
    def shrink(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    await database.do(shrink)
    with pytest.raises(Unavailable, match="full") as caught:
        await Journal(database).add_job(JOB, [f"https://secret/{'x' * 4000}{n}" for n in range(100)], keep=10)
    assert caught.value.reason == "JOURNAL_AWAY"
    assert "secret" not in str(caught.value.__cause__)
