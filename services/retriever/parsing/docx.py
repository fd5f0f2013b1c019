"""Reads Word documents with python-docx: paragraphs, headings by their styles and tables, in document order."""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import docx
from docx.table import Table

from services.retriever.failure import too_large, unreadable
from services.retriever.parsing.parsed import Parsed, ParsedBuilder

# Far more than any Word text; a file that unpacks to more is a bomb, or full of pictures and not worth the memory.
MAX_UNPACKED_BYTES = 512 * 1024 * 1024

_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
# What libxml2 says when it gets no more memory.
_OUT_OF_MEMORY = ("unknown error", "Memory allocation failed")
_OLE_START = b"\xd0\xcf\x11\xe0"


def parse(content: bytes, name: str) -> Parsed:
    """Styles `Title` and `Heading 1` to `Heading 9` are headings; the title is the document's property of that name."""
    if content.startswith(_OLE_START):
        raise unreadable(
            "DOCX_ENCRYPTED",
            f"{name} is a password-protected or an old .doc file; save it as DOCX without a password and send it again",
        )
    _check_size(content, name)
    try:
        document = docx.Document(io.BytesIO(content))
        builder = ParsedBuilder()
        for item in document.iter_inner_content():
            _add(builder, item)
        return builder.build(document.core_properties.title or "")
    except MemoryError:
        raise
    except Exception as error:
        if str(error).startswith(_OUT_OF_MEMORY):
            raise MemoryError from error
        # A damaged package raises whatever its damage makes of zipfile, lxml and python-docx.
        raise _broken(name, str(error) or type(error).__name__) from error


def _check_size(content: bytes, name: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            unpacked_bytes = sum(item.file_size for item in package.infolist())
    except Exception as error:
        raise _broken(name, str(error) or type(error).__name__) from error
    if unpacked_bytes > MAX_UNPACKED_BYTES:
        raise too_large(
            "DOCX_TOO_LARGE",
            f"{name} unpacks to {unpacked_bytes >> 20} MiB, over the limit of {MAX_UNPACKED_BYTES >> 20} MiB; "
            "split the document or take out its pictures",
        )


def _broken(name: str, why: str) -> Exception:
    return unreadable(
        "DOCX_UNREADABLE", f"{name} is not a readable Word document: {why}; open it in Word and save it again as DOCX"
    )


def _add(builder: ParsedBuilder, item: Any) -> None:
    if isinstance(item, Table):
        builder.block("\n".join(_rows(item)))
        return
    style = (item.style.name or "") if item.style is not None else ""
    level = _HEADING.match(style)
    if level:
        builder.heading(item.text, int(level.group(1)))
    elif style.lower() == "title":
        builder.heading(item.text, 1)
    else:
        builder.block(item.text)


def _rows(table: Table) -> Iterator[str]:
    for row in table.rows:
        cells: list[str] = []
        last = None
        for cell in row.cells:
            # A merged cell comes once for each column that it spans.
            if cell._tc is not last:
                cells.append(" ".join(cell.text.split()))
            last = cell._tc
        if any(cells):
            yield " | ".join(cells)
