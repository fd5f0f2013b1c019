"""Tells what a document is, by its media type, its source's ending and its first bytes. Reads nothing further."""

import re

from services.retriever.core.naming import last_part
from services.retriever.failure import IngestFailure, unreadable

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"
TEXT = "text/plain"
CSV = "text/csv"
TSV = "text/tab-separated-values"
JSON = "application/json"
JSON_LINES = "application/jsonl"

_ALIASES = {
    "application/x-pdf": PDF,
    "application/xhtml+xml": HTML,
    "text/x-markdown": MARKDOWN,
    "application/csv": CSV,
    "text/json": JSON,
    "application/x-ndjson": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/jsonlines": JSON_LINES,
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
    "csv": CSV,
    "tsv": TSV,
    "json": JSON,
    "jsonl": JSON_LINES,
    "ndjson": JSON_LINES,
}
_CHARSET = re.compile(r";\s*charset=\"?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)
_BINARY_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"\x7fELF")


def media_type_of(name: str, media_type: str, content: bytes) -> str | IngestFailure:
    """One of the media types that are read, or why it is none of them."""
    given = media_type.split(";", 1)[0].strip().lower()
    given = _ALIASES.get(given, given)
    if given in (PDF, DOCX, HTML, MARKDOWN, CSV, TSV, JSON, JSON_LINES):
        return given
    if given.endswith("+json"):
        return JSON
    if given.startswith("text/"):
        return TEXT
    if given and given not in ("application/octet-stream", "application/xml"):
        return _unsupported(name, f"its media type {given} is not supported")
    ending = last_part(name).rpartition(".")[2].lower() if "." in last_part(name) else ""
    if known := _ENDINGS.get(ending):
        return known
    if content.startswith(b"%PDF-"):
        return PDF
    if content.startswith(_BINARY_STARTS):
        return _unsupported(name, "it is a binary file that is neither PDF nor DOCX")
    return TEXT


def charset_of(media_type: str) -> str:
    """The charset that a media type names; empty where it names none."""
    found = _CHARSET.search(media_type)
    return found.group(1) if found else ""


def _unsupported(name: str, why: str) -> IngestFailure:
    return unreadable(
        "UNSUPPORTED_TYPE",
        f"{name} cannot be read: {why}; send PDF, DOCX, HTML, Markdown, CSV, JSON or plain text, or set media_type",
    )
