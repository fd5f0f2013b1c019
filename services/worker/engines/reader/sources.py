"""Finds the passages and the question in a conversation; the contract's Conversation comment has the format."""

import re
from dataclasses import dataclass

from services.worker.ports import Conversation, Rendered, Role

_BLOCK = re.compile(r"<sources>\n?(.*?)</sources>", re.DOTALL)
_SOURCE = re.compile(r'<source((?:\s+\w+="[^"]*")*)\s*>\n?(.*?)\n?</source>', re.DOTALL)
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
        return Inquiry(_BLOCK.sub("", prompt.text).strip(), _sources_of(prompt.text))
    question, system = "", ""
    for message in prompt.messages:
        if message.role is Role.USER:
            question = message.content
        elif message.role is Role.SYSTEM:
            system = message.content
    return Inquiry(question, _sources_of(system))


def _sources_of(text: str) -> tuple[Source, ...] | None:
    blocks = _BLOCK.findall(text)
    if not blocks:
        return None
    return tuple(
        _to_source(at, attributes, passage) for at, (attributes, passage) in enumerate(_SOURCE.findall(blocks[-1]), 1)
    )


def _to_source(at: int, attributes: str, passage: str) -> Source:
    values = {name: value.replace("&quot;", '"') for name, value in _ATTRIBUTE.findall(attributes)}
    number = int(values["id"]) if values.get("id", "").isdecimal() else at
    text = passage.replace("‹source", "<source").replace("‹/source", "</source")
    return Source(number, values.get("title", ""), values.get("section", ""), text)
