"""Tables, JSON, encodings, and what a document says of itself; with the documents that are meant to break a reader."""

import io
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from services.retriever.failure import IngestFailure
from services.retriever.parsing import docx, html, markdown, pdf, records, table, text
from services.retriever.parsing.exchange import Question
from services.retriever.parsing.language import language_of
from services.retriever.parsing.licence import licence_of
from services.retriever.parsing.parsed import Parsed
from services.retriever.parsing.prepare import prepare
from services.retriever.parsing.signature import signature_of
from services.retriever.tokens import MiniLmTokens


def blocks(parsed: Parsed) -> list[str]:
    return [parsed.text[block.start : block.end] for block in parsed.blocks]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param("bird,g\nheron,1500\ntit,18\n", ["bird: heron | g: 1500", "bird: tit | g: 18"], id="header"),
        pytest.param("heron,1500\ntit,18\n", ["heron | 1500", "tit | 18"], id="no header"),
        pytest.param("a;b\n1,5;x\n2,5;y\n", ["a: 1,5 | b: x", "a: 2,5 | b: y"], id="semicolons"),
        pytest.param("a\tb\n1\t2\n", ["a: 1 | b: 2"], id="tabs"),
        pytest.param('a,b\n"one\ntwo",""\n', ["a: one two"], id="quoted lines and empty cells"),
        pytest.param("bird,weight\n", ["bird | weight"], id="a header alone"),
        pytest.param("bird\nheron\ntit\n", ["bird: heron", "bird: tit"], id="one column"),
    ],
)
def test_tables(content: str, found: list[str]) -> None:
    assert blocks(table.parse(content.encode(), "a.csv")) == found


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param('[{"a": 1, "b": {"c": [true, "x"]}}, "y"]', ["a: 1\nb.c: true\nb.c: x", "y"], id="list"),
        pytest.param('{"a": "one", "b": null, "c": ["two"]}', ["a: one", "c: two"], id="object"),
        pytest.param('{"a": 1}\n\n{"a": 2}\n', ["a: 1", "a: 2"], id="lines"),
        pytest.param('"alone"', ["alone"], id="text"),
    ],
)
def test_json(content: str, found: list[str]) -> None:
    assert blocks(records.parse(content.encode(), "a.json")) == found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"[" * 100_000, "JSON_TOO_DEEP", id="deep"),
        pytest.param(b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "JSON_TOO_DEEP", id="deep objects"),
        pytest.param(b"{", "JSON_UNREADABLE", id="cut off"),
        pytest.param(b"9" * 100_000, "JSON_UNREADABLE", id="a number without end"),
        pytest.param(b'{"a": 1}\nno', "JSON_UNREADABLE", id="a wrong line"),
    ],
)
def test_json_that_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(IngestFailure) as caught:
        records.parse(content, "a.json")
    assert caught.value.reason == reason
    assert caught.value.message.startswith("a.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param('"' + "x" * 2_000_000 + '"', "CSV_UNREADABLE", id="a field without end"),
        pytest.param("a,b\n" + "x," * 20_000, "TABLE_TOO_WIDE", id="too many columns"),
    ],
)
def test_tables_that_are_refused(content: str, reason: str) -> None:
    with pytest.raises(IngestFailure) as caught:
        table.parse(content.encode(), "a.csv")
    assert caught.value.reason == reason


RUSSIAN = "Серая цапля стоит на берегу пруда и терпеливо ждёт рыбу. Весной она строит гнездо на высоком дереве. " * 3
JAPANESE = "鳥は森に住んでいます。春になると高い木の上に巣を作り、池のそばで魚を待っています。" * 5


@pytest.mark.parametrize(
    ("written", "encoding"), [(RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (RUSSIAN, "utf-32"), (JAPANESE, "utf-16")]
)
def test_other_scripts_are_told_by_their_bytes(written: str, encoding: str) -> None:
    assert text.decode(written.encode(encoding), "a.txt") == written


def question(content: bytes, **fields: str) -> Question:
    own = {"name": "a", "title": "", "media_type": "", "language": "", "licence": ""} | fields
    return Question(**own, chunk_tokens=60, overlap_tokens=10, content=content)


@pytest.fixture(scope="module")
def tokens() -> MiniLmTokens:
    return MiniLmTokens()


def test_a_charset_that_was_named_counts(tokens: MiniLmTokens) -> None:
    page = "<html><body><p>Žluťoučký kůň úpěl ďábelské ódy</p></body></html>".encode("iso-8859-2")
    named = prepare(question(page, media_type="text/html; charset=ISO-8859-2"), tokens, 10_000)
    assert [chunk.text for chunk in named.chunks] == ["Žluťoučký kůň úpěl ďábelské ódy"]
    wrong = prepare(question(b"plain", media_type="text/plain; charset=none-such"), tokens, 10_000)
    assert [chunk.text for chunk in wrong.chunks] == ["plain"]


@pytest.mark.parametrize(
    ("written", "declared", "found"),
    [
        ("The heron fishes at the pond and waits for the next fish.", "", "en"),
        ("Der Reiher fischt am Teich und wartet auf den nächsten Fisch.", "en", "de"),
        (RUSSIAN, "", "ru"),
        (JAPANESE, "", "ja"),
        ("heron", "", ""),
        ("heron", "en-GB", "en"),
        ("1 2 3 4 5", "", ""),
        ("heron", "no language", ""),
    ],
)
def test_languages(written: str, declared: str, found: str) -> None:
    assert language_of(written, declared) == found


def test_documents_name_their_language_and_licence() -> None:
    page = b"""<html lang="de"><head><link rel="license" href="https://creativecommons.org/licenses/by/4.0/"></head>
    <body><p>Der Reiher</p></body></html>"""
    found = html.parse(page, "a.html")
    assert (found.language, found.licence) == ("de", "https://creativecommons.org/licenses/by/4.0/")
    found = html.parse(b'<html><head><meta name="license" content="MIT"></head><body><p>a b</p></body></html>', "a")
    assert found.licence == "MIT"
    found = markdown.parse(b'---\ntitle: A\nlang: fr\nlicense: "CC-BY-4.0"\n---\ntext', "a.md")
    assert (found.title, found.language, found.licence) == ("A", "fr", "CC-BY-4.0")
    assert licence_of("// SPDX-License-Identifier: Apache-2.0 OR MIT\ncode", "") == "Apache-2.0 OR MIT"
    assert licence_of("no licence", "") == ""


def test_a_pdfs_outline_gives_headings_where_the_pages_say_the_same(data_dir: Path) -> None:
    folder = data_dir / "documents" / "pdf"
    named = pdf.parse(next(folder.glob("*006-pdflatex-outline*")).read_bytes(), "a.pdf")
    paths = {block.heading_path for block in named.blocks}
    assert ("Foo",) in paths
    mistitled = pdf.parse(next(folder.glob("*014-outlines*")).read_bytes(), "a.pdf")
    assert {block.heading_path for block in mistitled.blocks} == {()}


def test_near_duplicates_have_signatures_alike() -> None:
    words = [f"word{n}" for n in range(500)]
    changed = [*words[:100], "other", *words[101:]]
    assert len(signature_of(" ".join(words))) == 512
    assert signature_of(" ".join(words)) == signature_of(" ".join(words).upper().replace(" ", ",  "))
    alike = [a == b for a, b in zip(_values(words), _values(changed), strict=True)]
    assert 0.9 < sum(alike) / 128 < 1.0
    assert signature_of("too short") == b""


def _values(words: list[str]) -> memoryview:
    return memoryview(signature_of(" ".join(words))).cast("I")


def package(document: bytes) -> bytes:
    found = io.BytesIO()
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/word/document.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{kind}" Target="word/document.xml"/></Relationships>'
    )
    with zipfile.ZipFile(found, "w") as parts:
        parts.writestr("[Content_Types].xml", types)
        parts.writestr("_rels/.rels", relations)
        parts.writestr("word/document.xml", document)
    return found.getvalue()


def entities(declarations: str, used: str) -> bytes:
    """A Word document whose text uses what its head declares."""
    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f'<w:document xmlns:w="{main}"><w:body><w:p><w:r><w:t>x{used}y</w:t></w:r></w:p></w:body></w:document>'
    return package(f"<!DOCTYPE d [{declarations}]>{body}".encode())


def test_entities_of_a_docx_are_not_resolved(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    parsed = docx.parse(entities(f'<!ENTITY file SYSTEM "{secret.as_uri()}">', "&file;"), "a.docx")
    assert "secret" not in parsed.text
    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    with pytest.raises(IngestFailure) as caught:
        docx.parse(entities(f'<!ENTITY a0 "ha">{bomb}', "&a11;"), "a.docx")
    assert caught.value.reason == "DOCX_UNREADABLE"


def test_a_long_line_is_cut_in_parts_without_a_loss(tokens: MiniLmTokens) -> None:
    line = " ".join(f"heron{n}" for n in range(80_000))
    chunks = prepare(question(line.encode()), tokens, 10_000_000).chunks
    assert chunks[0].start == 0
    assert chunks[-1].end == len(line)
    assert all(later.start <= sooner.end + 1 for sooner, later in pairwise(chunks))
    assert all(line[chunk.start : chunk.end] == chunk.text for chunk in chunks)


@pytest.mark.parametrize("piece", [b"<title", b"<title>"])
def test_a_page_of_titles_without_end_is_read_at_once(piece: bytes) -> None:
    started_s = time.process_time()
    html.parse(piece * 50_000, "a.html")
    assert time.process_time() - started_s < 5.0


def test_a_page_is_named_by_its_title() -> None:
    page = (
        "<html><head><title>Gr\u00f6\u00dfe &amp; birds</title></head><body><svg><title>no</title></svg><p>They wade."
    )
    assert html.parse(page.encode(), "a.html").title == "Gr\u00f6\u00dfe & birds"
