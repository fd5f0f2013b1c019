"""Files under the folders that the settings allow. Links are followed only where they lead to a place under a root."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from services.retriever.failure import IngestFailure, too_large, unreadable
from services.retriever.jobs.job import Tag
from services.retriever.sources.source import Fetched, Page, SourceAway
from services.retriever.sources.wanted import is_wanted_file, is_wanted_folder

_PAGE = 500


class FileSource:
    """file:// URIs; implements the port Source."""

    def __init__(self, roots: Sequence[str], max_bytes: int) -> None:
        self._roots = tuple(Path(root).resolve() for root in roots)
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"FileSource({', '.join(map(str, self._roots)) or 'no roots'})"

    def check(self, uri: str) -> str:
        """Refuses other hosts, relative paths and paths outside the roots."""
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            return "a file's URI has the form file:///folder/file"
        path = _path_of(uri)
        if not path.startswith("/") or "\0" in path:
            return "a file's URI has an absolute path: file:///folder/file"
        if not self._roots:
            return "files are not allowed here; name their folder in the setting retriever.ingest.roots"
        if self._root_of(path) is None:
            return "it lies outside the folders of the setting retriever.ingest.roots"
        return ""

    async def pages(self, uri: str, cursor: str) -> AsyncIterator[Page]:
        """The file itself, or a folder's documents by name; a listing that was broken off begins anew."""
        path = await asyncio.to_thread(self._resolved, uri)
        # Unlike the methods of a path, this raises nothing: what cannot be looked at fails where it is fetched.
        if not await asyncio.to_thread(os.path.isdir, path):
            yield Page((uri,))
            return
        found = self._walk(path)
        while page := await asyncio.to_thread(_take, found):
            yield Page(tuple(map(to_uri, page)))

    async def fetch(self, uri: str, tag: Tag) -> Fetched | None:
        """The file's bytes; its tag is made of its time and its size."""
        return await asyncio.to_thread(self._fetch, uri, tag)

    def _fetch(self, uri: str, tag: Tag) -> Fetched | None:
        path = self._resolved(uri)
        try:
            with self._open(path, uri) as handle:
                state = os.fstat(handle)
                if not stat.S_ISREG(state.st_mode):
                    raise unreadable("NOT_A_FILE", f"{uri} is no plain file; name a file or a folder")
                now = Tag(etag=f"{state.st_mtime_ns:x}-{state.st_size:x}-{state.st_ino:x}")
                if now == tag:
                    return None
                return Fetched(self._read(handle, uri), "", now)
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            raise unreadable("FILE_UNREADABLE", f"{uri} cannot be read: {error.strerror}; check its path") from error
        except OSError as error:
            raise SourceAway("FILE_UNREADABLE", f"{uri} cannot be read now: {error.strerror}; try again") from error

    def _read(self, handle: int, uri: str) -> bytes:
        with os.fdopen(os.dup(handle), "rb") as file:
            content = file.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            raise too_large("DOCUMENT_TOO_LARGE", f"{uri} is over the limit of {self._max_bytes:,} bytes; split it")
        return content

    def _resolved(self, uri: str) -> Path:
        """The file without links and `..`. Raises IngestFailure where it lies outside the roots."""
        try:
            found = Path(_path_of(uri)).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise unreadable("FILE_UNREADABLE", f"{uri} cannot be read: {error}; check its path") from error
        if self._root_of(str(found)) is None:
            raise _outside(uri)
        return found

    def _root_of(self, path: str) -> Path | None:
        plain = Path(os.path.normpath(path))
        return next((root for root in self._roots if plain.is_relative_to(root)), None)

    @contextlib.contextmanager
    def _open(self, path: Path, uri: str) -> Iterator[int]:
        """Opens the file folder by folder from its root and follows no link: one put there meanwhile leads nowhere."""
        root = self._root_of(str(path))
        if root is None:
            raise _outside(uri)
        handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for name in path.relative_to(root).parts:
                # A pipe's other end may never come; without blocking it opens at once and is refused.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                inner = os.open(name, flags, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    def _walk(self, folder: Path) -> Iterator[Path]:
        for here, folders, files in os.walk(folder):
            folders[:] = sorted(filter(is_wanted_folder, folders))
            for name in sorted(filter(is_wanted_file, files)):
                path = Path(here, name)
                # Unlike a path's own method, this follows a ring of links to no error, but to a place that is none.
                if self._root_of(os.path.realpath(path)) is not None:
                    yield path


def to_uri(path: Path) -> str:
    """The file's URI; names that are no UTF-8 are told byte by byte."""
    return f"file://{quote(os.fsencode(path))}"


def _path_of(uri: str) -> str:
    return os.fsdecode(unquote_to_bytes(urlsplit(uri).path))


def _take(found: Iterator[Path]) -> list[Path]:
    return list(islice(found, _PAGE))


def _outside(uri: str) -> IngestFailure:
    return unreadable(
        "FILE_NOT_ALLOWED", f"{uri} leads outside the folders of the setting retriever.ingest.roots; move it there"
    )
