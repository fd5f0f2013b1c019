"""Parser processes: every real document, and what becomes of those that break a parser."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.kit.settings.retriever import RetrieverSettings
from services.retriever.document import Document, Prepared
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.parsing.pool import ParserPool


@asynccontextmanager
async def pool(**settings: Any) -> AsyncIterator[ParserPool]:
    found = ParserPool(RetrieverSettings(**{"parse_workers": 1} | settings))
    try:
        yield found
    finally:
        await found.close()


def document(content: bytes, source: str = "folder/a.txt") -> Document:
    return Document("a", source, "", "", content, {})


def parsers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "services.retriever.parsing.child" in child.cmdline()]


async def outcome(parser: ParserPool, wanted: Document) -> Prepared | IngestFailure:
    try:
        return await parser.prepare(wanted)
    except IngestFailure as failure:
        return failure


async def test_every_real_document_is_read_or_says_why(data_dir: Path) -> None:
    paths = sorted(path for path in (data_dir / "documents").rglob("*") if path.is_file())
    async with pool(parse_workers=2) as parser:
        found = await asyncio.gather(*(outcome(parser, document(path.read_bytes(), str(path))) for path in paths))
    reasons = {}
    for path, answer in zip(paths, found, strict=True):
        if isinstance(answer, IngestFailure):
            reasons[path.name] = answer.reason
            assert answer.message.startswith(path.name)
            assert ";" in answer.message, "it says what to do"
        else:
            assert answer.chunks
            assert all(chunk.page >= 1 for chunk in answer.chunks) == (path.suffix == ".pdf")
    assert set(reasons.values()) == {"NO_TEXT", "EMPTY_DOCUMENT", "DOCX_UNREADABLE", "PDF_UNREADABLE", "PDF_ENCRYPTED"}
    assert reasons["random.pdf"] == reasons["trunc0.pdf"] == reasons["text.pdf"] == "PDF_UNREADABLE"
    assert reasons["random.docx"] == reasons["trunc0.docx"] == "DOCX_UNREADABLE"
    assert reasons["empty.pdf"] == "EMPTY_DOCUMENT"


async def test_a_parser_serves_many_documents() -> None:
    async with pool() as parser:
        await parser.prepare(document(b"one"))
        (first,) = parsers()
        await parser.prepare(document(b"two"))
        assert parsers() == [first]
    assert parsers() == []


async def test_a_parser_is_told_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_RETRIEVER__QDRANT_API_KEY", "secret")
    async with pool() as parser:
        await parser.warm()
        (child,) = parsers()
        assert not [name for name in child.environ() if name.startswith("WEFT_")]


async def test_signs_that_no_text_can_hold_are_replaced() -> None:
    async with pool() as parser:
        content = b'{"bird": "her\\u0000on \\ud800 fishes"}'
        found = await outcome(parser, document(content, "a.json"))
        assert isinstance(found, Prepared)
        assert [chunk.text for chunk in found.chunks] == ["bird: her\ufffdon \ufffd fishes"]


async def test_a_slow_document_is_given_up_and_the_next_one_read() -> None:
    async with pool(parse_timeout_s=0.5) as parser:
        slow = await outcome(parser, document(b"word, " * 4_000_000))
        assert isinstance(slow, IngestFailure)
        assert (slow.code, slow.reason) == (FailureCode.RESOURCE_EXHAUSTED, "PARSE_TIMEOUT")
        assert slow.message.startswith("a.txt takes over 0.5 s to read")
        assert isinstance(await outcome(parser, document(b"next")), Prepared)


async def test_a_document_that_takes_too_much_memory_is_given_up() -> None:
    body = b"<w:p><w:r><w:t>word</w:t></w:r></w:p>" * 3_000_000
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("[Content_Types].xml", _CONTENT_TYPES)
        parts.writestr("_rels/.rels", _RELATIONS)
        parts.writestr("word/document.xml", _DOCUMENT_START + body + b"</w:body></w:document>")
    async with pool(parse_memory_bytes=512 * 1024**2) as parser:
        found = await outcome(parser, document(package.getvalue(), "big.docx"))
        assert isinstance(found, IngestFailure)
        assert (found.code, found.reason) == (FailureCode.RESOURCE_EXHAUSTED, "PARSE_MEMORY"), found.message
        assert found.message.startswith("big.docx ")
        assert isinstance(await outcome(parser, document(b"next")), Prepared)


async def under_way(parser: ParserPool) -> tuple[psutil.Process, asyncio.Task[Prepared | IngestFailure]]:
    """A parser that is held in the middle of a document."""
    await parser.warm()
    (victim,) = parsers()
    victim.suspend()
    reading = asyncio.create_task(outcome(parser, document(b"word")))
    await asyncio.sleep(0)
    return victim, reading


async def test_a_parser_that_is_killed_fails_one_document_only() -> None:
    async with pool() as parser:
        victim, reading = await under_way(parser)
        victim.kill()
        found = await reading
        assert isinstance(found, IngestFailure)
        assert (found.code, found.reason) == (FailureCode.INTERNAL, "PARSER_CRASHED")
        assert isinstance(await outcome(parser, document(b"next")), Prepared)


async def test_a_cancelled_document_ends_its_parser() -> None:
    async with pool() as parser:
        victim, reading = await under_way(parser)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not victim.is_running()
        assert isinstance(await outcome(parser, document(b"next")), Prepared)


_CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)
_DOCUMENT_START = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
