"""Decodes text, and takes a plain text as paragraphs between blank lines. Offsets are those of the decoded text."""

import re

from charset_normalizer import from_bytes

from services.retriever.core.chunking import Block
from services.retriever.failure import unreadable
from services.retriever.parsing.parsed import Parsed

_PARAGRAPH = re.compile(r"\S.*?(?=\n[^\S\n]*\n|\Z)", re.DOTALL)
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# Text of which a smaller share is beyond ASCII is most likely Western European, and of a few bytes nobody can tell.
_FOREIGN_SHARE = 0.25
_FOREIGN_BYTES = 64
_LOOK_BYTES = 16 * 1024


def decode(content: bytes, name: str) -> str:
    """The text with `\\n` as its only line end. Raises IngestFailure where the bytes are no text.

    A byte order mark tells UTF-8, UTF-16 or UTF-32; without one it is UTF-8, else Windows-1252, or what another
    script's bytes look like.
    """
    encoding = next((encoding for bom, encoding in _BOMS if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode(_legacy(content), errors="replace")
    if "\x00" in text or text.count("\ufffd") * 10 > len(text):
        raise unreadable(
            "TEXT_UNREADABLE",
            f"{name} is not text in UTF-8, UTF-16 or another known encoding; save it as UTF-8 and try again",
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _legacy(content: bytes) -> str:
    head = content[:_LOOK_BYTES]
    if sum(byte >= 0x80 for byte in head) < max(_FOREIGN_BYTES, len(head) * _FOREIGN_SHARE):
        return "cp1252"
    found = from_bytes(head).best()
    return found.encoding if found else "cp1252"


def parse(content: bytes, name: str) -> Parsed:
    """A plain text: no headings, no title."""
    text = decode(content, name)
    paragraphs = ((found.start(), found.group().rstrip()) for found in _PARAGRAPH.finditer(text))
    return Parsed("", text, tuple(Block(start, start + len(paragraph)) for start, paragraph in paragraphs))
