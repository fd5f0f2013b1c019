"""Reads JSON and JSON Lines: each record is a block of lines `path: value`."""

import json
import re
from collections.abc import Iterator
from typing import Any

from services.retriever.failure import IngestFailure, too_large, unreadable
from services.retriever.parsing.parsed import Parsed, ParsedBuilder
from services.retriever.parsing.text import decode

_MAX_PATH_CHARS = 512
# JSON can write these signs, and no UTF-8 or database can hold them.
_UNFIT = re.compile("[\x00\ud800-\udfff]")


def parse(content: bytes, name: str) -> Parsed:
    """Of a list each item is a record, of an object each of its keys; else every line is a record of its own."""
    return _built(_records(decode(content, name), name), name)


def parse_lines(content: bytes, name: str) -> Parsed:
    """JSON Lines; blank lines are left out."""
    return _built(_by_line(decode(content, name), name), name)


def _built(records: Iterator[Any], name: str) -> Parsed:
    builder = ParsedBuilder()
    try:
        for record in records:
            builder.block(_UNFIT.sub("\ufffd", "\n".join(_lines("", record))))
    except RecursionError:
        raise too_large("JSON_TOO_DEEP", f"{name} is nested too deeply to read; flatten it") from None
    return builder.build("")


def _records(text: str, name: str) -> Iterator[Any]:
    try:
        whole = json.loads(text)
    except ValueError as error:
        # Many files of that ending hold a record in each line.
        if "Extra data" not in str(error):
            raise _broken(name, error) from error
        yield from _by_line(text, name)
        return
    if isinstance(whole, list):
        yield from whole
    elif isinstance(whole, dict):
        yield from ({key: value} for key, value in whole.items())
    else:
        yield whole


def _by_line(text: str, name: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise _broken(f"{name}, line {number}", error) from error


def _lines(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(f"{path}.{key}"[-_MAX_PATH_CHARS:] if path else key[:_MAX_PATH_CHARS], inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _lines(path, inner)
    elif value is not None and value != "":
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{path}: {shown}" if path else shown


def _broken(name: str, error: ValueError) -> IngestFailure:
    return unreadable("JSON_UNREADABLE", f"{name} is not readable JSON: {error}; correct it and send it again")
