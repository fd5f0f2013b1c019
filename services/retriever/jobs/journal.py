"""The journal of jobs: what each was given, found and has done, so that a job goes on where its process ended."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from services.retriever.document import Outcome
from services.retriever.jobs.database import FETCHED, ITEMS, JOBS, TARGETS, Database
from services.retriever.jobs.job import Item, Job, JobState, Known, Tag, Target

_COLUMN = {
    Outcome.INDEXED: "indexed",
    Outcome.REPLACED: "replaced",
    Outcome.UNCHANGED: "unchanged",
    Outcome.DUPLICATE: "duplicate",
    Outcome.FAILED: "failed",
}


class Journal:
    """Every call is one transaction. Items of a job are gone when it has ended; its counts stay."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"Journal({self._database!r})"

    async def add_job(self, job: Job, uris: Sequence[str], keep: int) -> None:
        """Notes a new job. Of those that have ended, only the newest `keep` are kept."""

        def work(connection: Connection) -> None:
            values = {field.name: getattr(job, field.name) for field in fields(job) if field.name != "index"}
            values |= {"index_name": job.index, "state": job.state.value, "metadata": json.dumps(dict(job.metadata))}
            connection.execute(insert(JOBS).values(**values))
            rows = [{"job_id": job.job_id, "uri": uri, "cursor": "", "done": 0} for uri in uris]
            connection.execute(insert(TARGETS), rows)
            ended = select(JOBS.c.number).where(JOBS.c.state != JobState.RUNNING.value)
            old = ended.order_by(JOBS.c.number.desc()).offset(keep)
            connection.execute(delete(JOBS).where(JOBS.c.number.in_(old)))

        await self._database.do(work)

    async def jobs(self) -> list[Job]:
        """Every job that is kept, newest first."""
        query = select(JOBS).order_by(JOBS.c.number.desc())
        return await self._database.do(lambda connection: [_job(row) for row in connection.execute(query)])

    async def job(self, job_id: str) -> Job | None:
        """One job."""

        def work(connection: Connection) -> Job | None:
            row = connection.execute(select(JOBS).where(JOBS.c.job_id == job_id)).first()
            return _job(row) if row else None

        return await self._database.do(work)

    async def end(self, job_id: str, state: JobState, ended_at_s: float) -> None:
        """The job is over; where it was over before, nothing changes."""

        def work(connection: Connection) -> None:
            running = (JOBS.c.job_id == job_id) & (JOBS.c.state == JobState.RUNNING.value)
            connection.execute(update(JOBS).where(running).values(state=state.value, ended_at_s=ended_at_s))
            connection.execute(delete(ITEMS).where(ITEMS.c.job_id == job_id))
            connection.execute(delete(TARGETS).where(TARGETS.c.job_id == job_id))

        await self._database.do(work)

    async def targets(self, job_id: str) -> list[Target]:
        """What the job was given and has not yet listed to the end."""
        query = select(TARGETS).where(TARGETS.c.job_id == job_id, TARGETS.c.done == 0).order_by(TARGETS.c.number)
        return await self._database.do(
            lambda connection: [Target(row.number, row.uri, row.cursor) for row in connection.execute(query)]
        )

    async def add_items(self, job_id: str, target: int, uris: Sequence[str], cursor: str, limit: int) -> bool:
        """Notes a page of a listing, and how far it is. Returns whether the job has room for more than `limit`."""

        def work(connection: Connection) -> bool:
            found = connection.execute(select(JOBS.c.found).where(JOBS.c.job_id == job_id)).scalar_one()
            added = 0
            for uri in uris[: max(0, limit - found)]:
                row = upsert(ITEMS).values(job_id=job_id, uri=uri, done=0, attempts=0).on_conflict_do_nothing()
                added += connection.execute(row).rowcount
            connection.execute(update(JOBS).where(JOBS.c.job_id == job_id).values(found=found + added))
            connection.execute(update(TARGETS).where(TARGETS.c.number == target).values(cursor=cursor))
            return bool(found + added < limit)

        return await self._database.do(work)

    async def listed(self, target: int) -> None:
        """The target has been listed to its end."""
        query = update(TARGETS).where(TARGETS.c.number == target).values(done=1)
        await self._database.do(lambda connection: connection.execute(query) and None)

    async def items(self, job_id: str, after: int, count: int) -> list[Item]:
        """The job's next documents to do, those with numbers over `after`."""
        wanted = (ITEMS.c.job_id == job_id) & (ITEMS.c.done == 0) & (ITEMS.c.number > after)
        query = select(ITEMS).where(wanted).order_by(ITEMS.c.number).limit(count)
        return await self._database.do(
            lambda connection: [Item(row.number, row.uri, row.attempts) for row in connection.execute(query)]
        )

    async def tried(self, item: int) -> None:
        """The document was begun once more."""
        query = update(ITEMS).where(ITEMS.c.number == item).values(attempts=ITEMS.c.attempts + 1)
        await self._database.do(lambda connection: connection.execute(query) and None)

    async def done(self, job: Job, item: Item, outcome: Outcome) -> None:
        """A document of a job is done."""
        column = JOBS.c[_COLUMN[outcome]]

        def work(connection: Connection) -> None:
            # A document counts once, and not at all where the job was cancelled meanwhile.
            wanted = (ITEMS.c.number == item.number) & (ITEMS.c.done == 0)
            if connection.execute(update(ITEMS).where(wanted).values(done=1)).rowcount:
                counted = update(JOBS).where(JOBS.c.job_id == job.job_id).values({column: column + 1})
                connection.execute(counted)

        await self._database.do(work)

    async def remember(self, index: str, uri: str, known: Known) -> None:
        """What the URI holds now, to be told from later states."""
        values = {
            "etag": known.tag.etag,
            "last_modified": known.tag.last_modified,
            "content_hash": known.content_hash,
            "media_type": known.media_type,
        }
        row = upsert(FETCHED).values(index_name=index, uri=uri, **values)
        query = row.on_conflict_do_update(index_elements=["index_name", "uri"], set_=values)
        await self._database.do(lambda connection: connection.execute(query) and None)

    async def known(self, index: str, uri: str) -> Known | None:
        """What the URI held when it was last ingested."""

        def work(connection: Connection) -> Known | None:
            query = select(FETCHED).where(FETCHED.c.index_name == index, FETCHED.c.uri == uri)
            row = connection.execute(query).first()
            return Known(Tag(row.etag, row.last_modified), row.content_hash, row.media_type) if row else None

        return await self._database.do(work)

    async def forget(self, index: str) -> None:
        """Forgets what the URIs of an index held; the index is gone."""
        query = delete(FETCHED).where(FETCHED.c.index_name == index)
        await self._database.do(lambda connection: connection.execute(query) and None)


def _job(row: Any) -> Job:
    found: Mapping[str, Any] = row._mapping
    counts = {column: found[column] for column in ("found", *_COLUMN.values())}
    return Job(
        job_id=found["job_id"],
        index=found["index_name"],
        state=JobState(found["state"]),
        metadata=json.loads(found["metadata"]),
        started_at_s=found["started_at_s"],
        ended_at_s=found["ended_at_s"],
        **counts,
    )
