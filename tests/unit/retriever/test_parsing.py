"""Each parser: what it makes of a document, and what it says of one that it cannot read."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import docx
import pytest

from services.retriever.document import Chunk
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.parsing import docx as docx_parser
from services.retriever.parsing import html, markdown, pdf, text
from services.retriever.parsing.exchange import Question
from services.retriever.parsing.kinds import CSV, DOCX, HTML, JSON, JSON_LINES, MARKDOWN, PDF, TEXT, TSV, media_type_of
from services.retriever.parsing.parsed import Parsed
from services.retriever.parsing.prepare import prepare
from services.retriever.tokens import MiniLmTokens

CHUNK_TOKENS, MAX_TEXT_CHARS = 60, 1_000_000
MARKDOWN_TEXT = """---
title: "The handbook"
---
# Install

Run *this* first:

```
pip install weft
# not a heading
```

## On [Linux](https://example.org)

- one
- two

Setext
------

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.fixture(scope="module")
def tokens() -> MiniLmTokens:
    return MiniLmTokens()


def question(content: bytes, name: str = "a.txt", **fields: str) -> Question:
    return Question(
        **({"title": "", "media_type": "", "language": "", "licence": ""} | fields),
        name=name,
        chunk_tokens=60,
        overlap_tokens=10,
        content=content,
    )


def shape(parsed: Parsed) -> list[tuple[tuple[str, ...], str]]:
    return [(block.heading_path, parsed.text[block.start : block.end]) for block in parsed.blocks]


def test_markdown_keeps_its_source_and_its_headings() -> None:
    parsed = markdown.parse(MARKDOWN_TEXT.encode(), "handbook.md")
    assert parsed.title == "The handbook"
    assert parsed.text == MARKDOWN_TEXT
    assert shape(parsed) == [
        (("Install",), "# Install"),
        (("Install",), "Run *this* first:"),
        (("Install",), "```\npip install weft\n# not a heading\n```"),
        (("Install", "On Linux"), "## On [Linux](https://example.org)"),
        (("Install", "On Linux"), "- one\n- two"),
        (("Install", "Setext"), "Setext\n------"),
        (("Install", "Setext"), "| a | b |\n|---|---|\n| 1 | 2 |"),
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["crlf", "cr"])
def test_markdown_of_other_systems_is_the_same(end: str) -> None:
    assert markdown.parse(MARKDOWN_TEXT.replace("\n", end).encode(), "a.md") == markdown.parse(
        MARKDOWN_TEXT.encode(), "a.md"
    )


def test_markdown_with_odd_line_separators_keeps_its_offsets() -> None:
    parsed = markdown.parse("# A\u2028b\n\nfirst\x0bsecond\n\nthird".encode(), "a.md")
    assert [found for _, found in shape(parsed)] == ["# A\u2028b", "first\x0bsecond", "third"]


def test_markdown_takes_its_first_heading_for_its_title() -> None:
    assert markdown.parse(b"## Before\n\n# The title\n\ntext", "a.md").title == "The title"


def test_a_heading_without_end_is_cut() -> None:
    (block, *_) = markdown.parse(b"# " + b"x" * 5000 + b"\n\ntext", "a.md").blocks
    assert [len(heading) for heading in block.heading_path] == [300]


def test_text_is_paragraphs() -> None:
    parsed = text.parse(b"one\ntwo\n\n \t\nthree\n", "a.txt")
    assert [found for _, found in shape(parsed)] == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("Grüße".encode(), "Grüße"),
        ("\ufeffGrüße".encode(), "Grüße"),
        ("Grüße".encode("utf-16"), "Grüße"),
        ("Grüße".encode("cp1252"), "Grüße"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "windows-1252"],
)
def test_text_is_decoded(content: bytes, found: str) -> None:
    assert text.decode(content, "a.txt") == found


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(IngestFailure) as caught:
        text.parse(bytes(range(256)) * 4, "a.txt")
    assert caught.value.reason == "TEXT_UNREADABLE"
    assert "a.txt" in caught.value.message


def test_html_keeps_the_main_part() -> None:
    page = b"""<html><head><title>Weft &amp; warp</title></head><body>
    <nav><a href="/">Home</a> <a href="/x">Menu</a></nav>
    <article><h1>Weaving</h1><p>A loom holds the warp under tension while the weft is drawn through it.</p>
    <h2>Threads</h2><p>The weft is the thread that goes across, over and under the warp threads.</p>
    <ul><li>linen</li><li>wool</li></ul><table><tr><td>cloth</td><td>count</td></tr></table></article></body></html>"""
    parsed = html.parse(page, "page.html")
    assert parsed.title == "Weft & warp"
    assert shape(parsed) == [
        (("Weaving",), "Weaving"),
        (("Weaving",), "A loom holds the warp under tension while the weft is drawn through it."),
        (("Weaving", "Threads"), "Threads"),
        (("Weaving", "Threads"), "The weft is the thread that goes across, over and under the warp threads."),
        (("Weaving", "Threads"), "- linen\n- wool"),
        (("Weaving", "Threads"), "cloth | count"),
    ]


def word_document(*, title: str = "") -> bytes:
    document = docx.Document()
    document.core_properties.title = title
    document.add_heading("Report", level=1)
    document.add_paragraph("First paragraph.")
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, (("a", "b"), ("c", "d")), strict=True):
        for cell, content in zip(row.cells, cells, strict=True):
            cell.text = content
    document.add_heading("Details", level=2)
    document.add_paragraph("Last paragraph.")
    found = io.BytesIO()
    document.save(found)
    return found.getvalue()


def test_docx_keeps_the_order_of_paragraphs_and_tables() -> None:
    parsed = docx_parser.parse(word_document(title="A title"), "report.docx")
    assert parsed.title == "A title"
    assert shape(parsed) == [
        (("Report",), "Report"),
        (("Report",), "First paragraph."),
        (("Report",), "a | b\nc | d"),
        (("Report", "Details"), "Details"),
        (("Report", "Details"), "Last paragraph."),
    ]


def test_a_docx_bomb_is_refused() -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as package, package.open("word/document.xml", "w") as part:
        for _ in range(600):
            part.write(b" " * 1024 * 1024)
    with pytest.raises(IngestFailure) as caught:
        docx_parser.parse(bomb.getvalue(), "bomb.docx")
    assert (caught.value.code, caught.value.reason) == (FailureCode.RESOURCE_EXHAUSTED, "DOCX_TOO_LARGE")


def test_an_encrypted_docx_has_its_own_reason() -> None:
    with pytest.raises(IngestFailure) as caught:
        docx_parser.parse(b"\xd0\xcf\x11\xe0" + b"\0" * 100, "secret.docx")
    assert caught.value.reason == "DOCX_ENCRYPTED"


def test_a_pdf_keeps_its_pages(data_dir: Path) -> None:
    path = next((data_dir / "documents" / "pdf").glob("*4-pages.pdf"))
    parsed = pdf.parse(path.read_bytes(), path.name)
    assert [block.page for block in parsed.blocks] == [1, 2, 3, 4]
    assert "blind text" in parsed.text


def test_a_pdf_with_a_password_has_its_own_reason(data_dir: Path) -> None:
    path = next((data_dir / "documents" / "pdf").glob("*password.pdf"))
    with pytest.raises(IngestFailure) as caught:
        pdf.parse(path.read_bytes(), "secret.pdf")
    assert caught.value.reason == "PDF_ENCRYPTED"
    assert caught.value.message == "secret.pdf is protected by a password; take the password off and send it again"


@pytest.mark.parametrize(
    ("name", "media_type", "content", "found"),
    [
        ("a.pdf", "", b"", PDF),
        ("A.DOCX", "", b"", DOCX),
        ("https://example.org/a.html?x=y.pdf", "", b"", HTML),
        ("README.md", "", b"", MARKDOWN),
        ("notes", "", b"", TEXT),
        ("notes", "", b"%PDF-1.7", PDF),
        ("main.py", "", b"print()", TEXT),
        ("a.pdf", "text/markdown; charset=utf-8", b"", MARKDOWN),
        ("a.bin", "application/octet-stream", b"%PDF-1.4", PDF),
        ("a", "text/csv", b"a,b", CSV),
        ("a.tsv", "", b"a\tb", TSV),
        ("a.json", "", b"{}", JSON),
        ("a", "application/ld+json", b"{}", JSON),
        ("a.ndjson", "", b"{}", JSON_LINES),
        ("a.txt", "application/jsonl", b"{}", JSON_LINES),
    ],
)
def test_kinds(name: str, media_type: str, content: bytes, found: str) -> None:
    assert media_type_of(name, media_type, content) == found


@pytest.mark.parametrize(
    ("name", "media_type", "content"),
    [("a.xlsx", "", b"PK\x03\x04"), ("a.png", "image/png", b""), ("a.png", "", b"\x89PNG\r\n")],
    ids=["office", "by type", "by content"],
)
def test_kinds_that_are_not_read(name: str, media_type: str, content: bytes) -> None:
    found = media_type_of(name, media_type, content)
    assert isinstance(found, IngestFailure)
    assert found.reason == "UNSUPPORTED_TYPE"


def test_prepared_chunks_are_slices_of_the_text(tokens: MiniLmTokens) -> None:
    source = MARKDOWN_TEXT + "\n\n".join(f"Sentence number {n} of a naïve text — it goes on. " * 5 for n in range(30))
    prepared = prepare(question(source.encode(), "docs/handbook.md"), tokens, MAX_TEXT_CHARS)
    assert (prepared.title, prepared.media_type) == ("The handbook", MARKDOWN)
    assert len(prepared.chunks) > 10
    for chunk in prepared.chunks:
        assert source[chunk.start : chunk.end] == chunk.text
        assert len(tokens(chunk.text)) <= CHUNK_TOKENS
        assert len(tokens(chunk.indexed_text)) <= 254
    assert prepared.chunks[1].context == "The handbook > Install > On Linux"
    assert len({chunk.chunk_id for chunk in prepared.chunks}) == len(prepared.chunks)


def test_a_long_title_leaves_room_for_the_chunk(tokens: MiniLmTokens) -> None:
    wanted = replace(question(b"word " * 1000, title="long " * 200), chunk_tokens=250, overlap_tokens=0)
    chunks: tuple[Chunk, ...] = prepare(wanted, tokens, MAX_TEXT_CHARS).chunks
    assert all(len(tokens(chunk.indexed_text)) <= 254 for chunk in chunks)


@pytest.mark.parametrize(
    ("content", "max_text_chars", "reason"),
    [
        (b"", MAX_TEXT_CHARS, "EMPTY_DOCUMENT"),
        (b" \n\n ", MAX_TEXT_CHARS, "NO_TEXT"),
        (b"word " * 100, 100, "TOO_MUCH_TEXT"),
    ],
    ids=["empty", "blank", "long"],
)
def test_documents_that_give_no_chunks(content: bytes, max_text_chars: int, reason: str, tokens: MiniLmTokens) -> None:
    with pytest.raises(IngestFailure) as caught:
        prepare(question(content, "docs/a.txt"), tokens, max_text_chars)
    assert caught.value.reason == reason
    assert caught.value.message.startswith("a.txt ")
