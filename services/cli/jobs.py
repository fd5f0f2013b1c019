"""Ingest jobs and quarantined documents as the commands show them."""

from dataclasses import dataclass
from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp

from weft.retriever.v1 import retriever_pb2


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job's progress. `state` is running, done or cancelled; times are ISO 8601, an empty one has not come."""

    job_id: str
    index: str
    state: str
    found: int
    indexed: int
    replaced: int
    unchanged: int
    duplicates: int
    failed: int
    started_at: str
    ended_at: str

    @property
    def done(self) -> int:
        """Documents that are done, one way or the other."""
        return self.indexed + self.replaced + self.unchanged + self.duplicates + self.failed

    @property
    def sentence(self) -> str:
        """The counts for people."""
        names = ("indexed", "replaced", "unchanged", "duplicates", "failed")
        parts = [f"{getattr(self, name)} {name}" for name in names if getattr(self, name)]
        noun = "document" if self.found == 1 else "documents"
        return f"{self.found} {noun}: {', '.join(parts) or 'none done yet'}"


def to_job(message: retriever_pb2.IngestJob) -> JobRow:
    """One job."""
    return JobRow(
        job_id=message.job_id,
        index=message.index,
        state=retriever_pb2.IngestJob.State.Name(message.state).removeprefix("STATE_").lower(),
        found=message.found,
        indexed=message.indexed,
        replaced=message.replaced,
        unchanged=message.unchanged,
        duplicates=message.duplicates,
        failed=message.failed,
        started_at=_iso(message.started_at),
        ended_at=_iso(message.ended_at) if message.HasField("ended_at") else "",
    )


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """A document that could not be ingested."""

    index: str
    document_id: str
    source: str
    reason: str
    problem: str
    failed_at: str
    attempts: int
    can_retry: bool


def to_quarantine(message: retriever_pb2.Quarantined) -> QuarantineRow:
    """One document."""
    return QuarantineRow(
        index=message.index,
        document_id=message.document_id,
        source=message.source,
        reason=message.failure.reason,
        problem=message.failure.message,
        failed_at=_iso(message.failed_at),
        attempts=message.attempts,
        can_retry=message.can_retry,
    )


def _iso(at: Timestamp) -> str:
    return at.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")
