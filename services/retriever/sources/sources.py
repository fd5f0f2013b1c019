"""All sources behind one: each URI goes to the source of its scheme."""

from collections.abc import AsyncIterator, Mapping

from services.kit.errors import InvalidArgument
from services.retriever.jobs.job import Tag
from services.retriever.sources.source import Fetched, Page, Source

_MAX_URI_CHARS = 4096


class Sources:
    """`by_scheme` names the source of each scheme, in lower case."""

    def __init__(self, by_scheme: Mapping[str, Source]) -> None:
        self._by_scheme = by_scheme

    def __repr__(self) -> str:
        return f"Sources({', '.join(self._by_scheme)})"

    def require(self, uri: str) -> None:
        """Raises InvalidArgument where the URI can never be fetched. Asks nobody."""
        why = f"a URI has at most {_MAX_URI_CHARS} characters" if len(uri) > _MAX_URI_CHARS else ""
        source = self._by_scheme.get(_scheme(uri))
        if source is None:
            why = why or f"known are {', '.join(f'{scheme}://' for scheme in self._by_scheme)}"
        else:
            why = why or source.check(uri)
        if why:
            raise InvalidArgument(f"{uri[:200]} cannot be ingested: {why}", reason="INVALID_URI", field="uris")

    async def pages(self, uri: str, cursor: str) -> AsyncIterator[Page]:
        """What it stands for. Raises SourceAway or IngestFailure; the URI must have passed `require`."""
        async for page in self._by_scheme[_scheme(uri)].pages(uri, cursor):
            yield page

    async def fetch(self, uri: str, tag: Tag) -> Fetched | None:
        """The document; None where its state is still `tag`. Raises SourceAway, IngestFailure or InvalidArgument."""
        self.require(uri)
        return await self._by_scheme[_scheme(uri)].fetch(uri, tag)


def _scheme(uri: str) -> str:
    return uri.partition("://")[0].lower()
