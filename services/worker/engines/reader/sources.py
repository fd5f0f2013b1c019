"""Finds the passages and the question in a conversation; the contract's Conversation comment has the format."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.worker.ports import Conversation, Rendered, Role

_OPEN, _CLOSE = "<sources>", "</sources>"
_SOURCE_OPEN = re.compile(r'<source((?:\s+\w+="[^"]*")*)\s*>\n?')
_SOURCE_CLOSE = "</source>"
_ID_DIGITS_LIMIT = 10
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Source:
    """One passage; `number` is what a citation shows."""

    number: int
    title: str
    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked, and what may be answered from. `sources` is None where the prompt holds no list of them."""

    question: str
    sources: tuple[Source, ...] | None


def find_inquiry(prompt: Conversation | Rendered) -> Inquiry:
    """The last user turn, and the sources of the last system turn; in plain text both come from that text."""
    if isinstance(prompt, Rendered):
        before, inside, after = _cut(prompt.text)
        return Inquiry(f"{before}{after}".strip(), None if inside is None else tuple(_sources_in(inside)))
    question, system = "", ""
    for message in prompt.messages:
        if message.role is Role.USER:
            question = message.content
        elif message.role is Role.SYSTEM:
            system = message.content
    inside = _cut(system)[1]
    return Inquiry(question, None if inside is None else tuple(_sources_in(inside)))


def _cut(text: str) -> tuple[str, str | None, str]:
    """What stands before, in and after the last list of sources. It searches once, whatever the text holds."""
    end = text.rfind(_CLOSE)
    start = text.rfind(_OPEN, 0, end) if end >= 0 else -1
    if start < 0:
        return text, None, ""
    return text[:start], text[start + len(_OPEN) : end], text[end + len(_CLOSE) :]


def _sources_in(text: str) -> Iterator[Source]:
    at = number = 0
    while match := _SOURCE_OPEN.search(text, at):
        end = text.find(_SOURCE_CLOSE, match.end())
        if end < 0:
            return
        number += 1
        yield _to_source(number, match[1], text[match.end() : end].removesuffix("\n"))
        at = end + len(_SOURCE_CLOSE)


def _to_source(at: int, attributes: str, passage: str) -> Source:
    values = {name: value.replace("&quot;", '"') for name, value in _ATTRIBUTE.findall(attributes)}
    name = values.get("id", "")
    number = int(name) if name.isdecimal() and len(name) < _ID_DIGITS_LIMIT else at
    text = passage.replace("‹source", "<source").replace("‹/source", "</source")
    return Source(number, values.get("title", ""), values.get("section", ""), text)
