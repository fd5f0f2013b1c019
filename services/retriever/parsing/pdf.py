"""Reads PDF text page by page with pypdfium2, with the outline's entries for headings. Pictures stay unread."""

import re
from dataclasses import dataclass
from itertools import islice

import pypdfium2

from services.retriever.failure import unreadable
from services.retriever.parsing.parsed import Parsed, ParsedBuilder
from services.retriever.parsing.text import decode

_PASSWORD_ERROR = 4
# PDFium marks a hyphen that divides a word at a line's end with one of these; the word goes on behind it.
_DIVIDED = re.compile(r"[\x02\ufffe\u00ad]\n?")
_XMP_LICENCE = re.compile(
    rb"<(?:xmpRights:WebStatement|cc:license|dcterms:license)(?:\s+rdf:resource=\"|>\s*)([^<>\"]{1,256})"
)
_MAX_ENTRIES = 10_000
_MAX_TITLE_WORDS = 40
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class _Heading:
    """Where a heading's line lies in its page's text."""

    title: str
    level: int
    start: int
    end: int


def parse(content: bytes, name: str) -> Parsed:
    """One block per page, with its number from 1, divided where an entry of the outline stands as a line of its own.

    The title is the document's property of that name; the licence is that of its XMP packet.
    """
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise _refusal(name, error) from error
    builder = ParsedBuilder()
    try:
        pages = [_page_text(document, number) for number in range(len(document))]
        for number, places in enumerate(_headings(pages, _outline(document))):
            _add_page(builder, pages[number], number + 1, places)
        title = document.get_metadata_dict().get("Title", "")
    except pypdfium2.PdfiumError as error:
        raise _refusal(name, error) from error
    finally:
        document.close()
    named = _XMP_LICENCE.search(content)
    return builder.build(title, licence=decode(named.group(1), name) if named else "")


def _outline(document: pypdfium2.PdfDocument) -> list[tuple[int, str, int]]:
    """Pages from 0, titles and levels from 1 of the outline's entries that lead to a page, in its order."""
    found = []
    for entry in islice(document.get_toc(), _MAX_ENTRIES):
        destination = entry.get_dest()
        page = destination.get_index() if destination else None
        if page is not None and 0 <= page < len(document):
            found.append((page, " ".join(entry.get_title().split()), entry.level + 1))
    return found


def _headings(pages: list[str], outline: list[tuple[int, str, int]]) -> list[list[_Heading]]:
    """Each page's headings: entries of the outline that stand there as a line. None at all where most stand nowhere."""
    found: list[list[_Heading]] = [[] for _ in pages]
    for page, title, level in outline:
        start = found[page][-1].end if found[page] else 0
        if title and (line := _line_of(title).search(pages[page], start)):
            found[page].append(_Heading(title, level, line.start(), line.end()))
    # An outline that words things otherwise than the pages would put passages under headings that are not theirs.
    trusted = sum(map(len, found)) * 2 >= len(outline)
    return found if trusted else [[] for _ in pages]


def _line_of(title: str) -> re.Pattern[str]:
    """A line that consists of the title, and perhaps of a number before it."""
    words = r"\s+".join(map(re.escape, title.split()[:_MAX_TITLE_WORDS]))
    return re.compile(rf"^[ \t]*(?:[\dA-Z.]{{1,12}}[ \t]+)?{words}[ \t]*$", re.MULTILINE)


def _add_page(builder: ParsedBuilder, text: str, page: int, headings: list[_Heading]) -> None:
    start = 0
    for heading in headings:
        builder.block(text[start : heading.start], page)
        builder.heading(heading.title, heading.level, page)
        start = heading.end
    builder.block(text[start:], page)


def _page_text(document: pypdfium2.PdfDocument, number: int) -> str:
    page = document[number]
    try:
        text_page = page.get_textpage()
        try:
            text: str = text_page.get_text_bounded()
        finally:
            text_page.close()
    finally:
        page.close()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", _DIVIDED.sub("", text))


def _refusal(name: str, error: pypdfium2.PdfiumError) -> Exception:
    if getattr(error, "err_code", None) == _PASSWORD_ERROR:
        return unreadable(
            "PDF_ENCRYPTED", f"{name} is protected by a password; take the password off and send it again"
        )
    why = str(error).removeprefix("Failed to load document (PDFium: ").removesuffix(").").lower()
    return unreadable(
        "PDF_UNREADABLE", f"{name} is not a readable PDF: {why}; open it in a PDF viewer and save it again"
    )
