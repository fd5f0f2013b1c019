"""Reads CSV and TSV: each row is a block, its cells named by the header where there is one."""

import csv
import io
from collections.abc import Iterator

from services.retriever.failure import too_large, unreadable
from services.retriever.parsing.parsed import Parsed, ParsedBuilder
from services.retriever.parsing.text import decode

_DELIMITERS = ",;\t|"
_MAX_CELL_CHARS = 1024 * 1024
_MAX_COLUMNS = 10_000
_LOOK_CHARS = 64 * 1024


def parse(content: bytes, name: str) -> Parsed:
    """The delimiter is told by the first rows; a first row of words, each another one, is the header."""
    text = decode(content, name)
    builder = ParsedBuilder()
    # The limit belongs to the process, which reads nothing but documents.
    csv.field_size_limit(_MAX_CELL_CHARS)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    header: list[str] = []
    try:
        for number, row in enumerate(rows):
            if len(row) > _MAX_COLUMNS:
                raise too_large(
                    "TABLE_TOO_WIDE", f"{name} has over {_MAX_COLUMNS:,} columns in row {number + 1}; split it"
                )
            cells = [" ".join(cell.split()) for cell in row]
            if number == 0 and _is_header(cells):
                header = cells
            else:
                builder.block(" | ".join(_named(header, cells)))
    except csv.Error as error:
        raise unreadable(
            "CSV_UNREADABLE", f"{name} is not readable as a table in line {rows.line_num}: {error}; save it anew as CSV"
        ) from error
    if header and not builder.length:
        builder.block(" | ".join(header))
    return builder.build("")


def _delimiter(text: str) -> str:
    """The sign that divides the first rows into the most columns, the same number in each."""
    lines = text[:_LOOK_CHARS].split("\n")[:20]

    def columns(sign: str) -> int:
        counts = [len(row) for row in _rows(lines, sign) if row]
        return counts[0] if counts and min(counts) == max(counts) else 0

    best = max(_DELIMITERS, key=columns)
    return best if columns(best) > 1 else max(_DELIMITERS, key=lines[0].count)


def _rows(lines: list[str], sign: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=sign))[:10]
    except csv.Error:
        return []


def _is_header(cells: list[str]) -> bool:
    return len(set(cells)) == len(cells) and all(cell and not _is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _named(header: list[str], cells: list[str]) -> Iterator[str]:
    for at, cell in enumerate(cells):
        if cell:
            yield f"{header[at]}: {cell}" if at < len(header) else cell
