"""Tells what a document is, by its media type, its source's ending and its first bytes. Reads nothing further."""

from services.retriever.core.naming import last_part
from services.retriever.failure import IngestFailure, unreadable

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"
TEXT = "text/plain"

_ALIASES = {
    "application/x-pdf": PDF,
    "application/xhtml+xml": HTML,
    "text/x-markdown": MARKDOWN,
}
_ENDINGS = {
    "pdf": PDF,
    "docx": DOCX,
    "htm": HTML,
    "html": HTML,
    "xhtml": HTML,
    "md": MARKDOWN,
    "markdown": MARKDOWN,
    "mdown": MARKDOWN,
}
_BINARY_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"\x7fELF")


def media_type_of(name: str, media_type: str, content: bytes) -> str | IngestFailure:
    """One of the five media types that are read, or why it is none of them."""
    given = media_type.split(";", 1)[0].strip().lower()
    given = _ALIASES.get(given, given)
    if given in (PDF, DOCX, HTML, MARKDOWN):
        return given
    if given.startswith("text/"):
        return TEXT
    if given and given not in ("application/octet-stream", "application/json", "application/xml"):
        return _unsupported(name, f"its media type {given} is not supported")
    ending = last_part(name).rpartition(".")[2].lower() if "." in last_part(name) else ""
    if known := _ENDINGS.get(ending):
        return known
    if content.startswith(b"%PDF-"):
        return PDF
    if content.startswith(_BINARY_STARTS):
        return _unsupported(name, "it is a binary file that is neither PDF nor DOCX")
    return TEXT


def _unsupported(name: str, why: str) -> IngestFailure:
    return unreadable(
        "UNSUPPORTED_TYPE",
        f"{name} cannot be read: {why}; send PDF, DOCX, HTML, Markdown or plain text, or set media_type",
    )
