"""Reads PDF text page by page with pypdfium2. Pictures of text stay unread: it recognises no characters."""

import re

import pypdfium2

from services.retriever.failure import unreadable
from services.retriever.parsing.parsed import Parsed, ParsedBuilder

_PASSWORD_ERROR = 4
# PDFium marks a hyphen that divides a word at a line's end with one of these; the word goes on behind it.
_DIVIDED = re.compile(r"[\x02\ufffe\u00ad]\n?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def parse(content: bytes, name: str) -> Parsed:
    """One block per page, with its number from 1. The title is the document's property of that name."""
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise _refusal(name, error) from error
    builder = ParsedBuilder()
    try:
        for number in range(len(document)):
            builder.block(_page_text(document, number), page=number + 1)
        title = document.get_metadata_dict().get("Title", "")
    except pypdfium2.PdfiumError as error:
        raise _refusal(name, error) from error
    finally:
        document.close()
    return builder.build(title)


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
