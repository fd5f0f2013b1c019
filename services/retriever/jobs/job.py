"""What jobs and the quarantine are made of. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from services.retriever.failure import IngestFailure


class JobState(Enum):
    """Where a job stands; the value is what the journal holds."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """A job and its counts; `ended_at_s` is 0 while it runs. Times are seconds since 1970."""

    job_id: str
    index: str
    state: JobState
    metadata: Mapping[str, str]
    started_at_s: float
    ended_at_s: float
    found: int = 0
    indexed: int = 0
    replaced: int = 0
    unchanged: int = 0
    duplicate: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A URI that a job was given; a listing goes on behind `cursor`."""

    number: int
    uri: str
    cursor: str


@dataclass(frozen=True, slots=True)
class Item:
    """One document of a job."""

    number: int
    uri: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Tag:
    """Tells one state of a resource from another; empty parts are unknown."""

    etag: str = ""
    last_modified: str = ""

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Known:
    """What a URI held when it was last ingested into an index."""

    tag: Tag
    content_hash: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Said:
    """What the sender said of a document, to be said again when it is tried again."""

    title: str = ""
    media_type: str = ""
    language: str = ""
    licence: str = ""
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that could not be ingested. Its bytes are at `uri` or in `file`, or nowhere any more."""

    number: int
    index: str
    document_id: str
    source: str
    failure: IngestFailure
    failed_at_s: float
    attempts: int
    uri: str
    file: str
    said: Said

    @property
    def can_retry(self) -> bool:
        """Whether it can be tried without being sent again."""
        return bool(self.uri or self.file)
