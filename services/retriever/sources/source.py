"""What a source of documents offers, and how it says that it cannot."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from services.retriever.jobs.job import Tag


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what a URI stands for; a listing that is taken up again with `cursor` goes on behind it."""

    uris: tuple[str, ...]
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document's bytes; `media_type` is empty where the source does not know it, or is not to be believed."""

    content: bytes
    media_type: str
    tag: Tag


class SourceAway(Exception):
    """The source does not answer now; trying again may help, after `retry_after_s` where it said so."""

    def __init__(self, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class Source(Protocol):
    """Documents by URI, of one scheme."""

    def check(self, uri: str) -> str:
        """Why this URI is never fetched, as a sentence; empty where it may be tried. Asks nobody."""
        ...

    def pages(self, uri: str, cursor: str) -> AsyncIterator[Page]:
        """What the URI stands for: itself, or what lies below it. Raises SourceAway or IngestFailure."""
        ...

    async def fetch(self, uri: str, tag: Tag) -> Fetched | None:
        """The document; None where its state is still `tag`. Raises SourceAway or IngestFailure."""
        ...
