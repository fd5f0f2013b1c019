"""Decodes text, and takes a plain text as paragraphs between blank lines. Offsets are those of the decoded text."""

import re

from services.retriever.core.chunking import Block
from services.retriever.failure import unreadable
from services.retriever.parsing.parsed import Parsed

_PARAGRAPH = re.compile(r"\S.*?(?=\n[^\S\n]*\n|\Z)", re.DOTALL)
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def decode(content: bytes, name: str) -> str:
    """The text with `\\n` as its only line end: UTF-8 or UTF-16 with a byte order mark, else UTF-8, else Windows-1252.

    Raises IngestFailure where the bytes are no text.
    """
    encoding = next((encoding for bom, encoding in _BOMS if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
    if "\x00" in text or text.count("\ufffd") * 10 > len(text):
        raise unreadable(
            "TEXT_UNREADABLE",
            f"{name} is not text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8 and try again",
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse(content: bytes, name: str) -> Parsed:
    """A plain text: no headings, no title."""
    text = decode(content, name)
    paragraphs = ((found.start(), found.group().rstrip()) for found in _PARAGRAPH.finditer(text))
    return Parsed("", text, tuple(Block(start, start + len(paragraph)) for start, paragraph in paragraphs))
