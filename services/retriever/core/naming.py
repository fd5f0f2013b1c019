"""Names of indexes and documents: which are allowed, and how a document without an id gets one from its source."""

import hashlib
import re

DEFAULT_INDEX = "default"

_INDEX = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DOCUMENT = re.compile(r"[A-Za-z0-9._-]{1,128}")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]+")
_STEM_CHARS = 64


def is_index_name(name: str) -> bool:
    """Whether it is a lower-case name of 1 to 63 letters, digits, `_` and `-` that starts with a letter or a digit."""
    return _INDEX.fullmatch(name) is not None


def is_document_id(document_id: str) -> bool:
    """Whether it is 1 to 128 letters, digits, `.`, `_` and `-`."""
    return _DOCUMENT.fullmatch(document_id) is not None


def last_part(source: str) -> str:
    """What follows the last slash of a path or URL, without query and fragment; the source where that is empty."""
    path = re.split(r"[?#]", source, maxsplit=1)[0] if "://" in source else source
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or source


def document_id_for(source: str) -> str:
    """The id of the document at `source`: readable, allowed, and the same whenever the source is the same."""
    stem = _NOT_ALLOWED.sub("-", last_part(source)).strip("-")[:_STEM_CHARS]
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    return f"{stem}-{digest}" if stem else digest
