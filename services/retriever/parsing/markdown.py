"""Reads Markdown by its tokens. The text stays as it was written, so offsets are those of the source."""

import re
from itertools import accumulate

from markdown_it import MarkdownIt
from markdown_it.token import Token

from services.retriever.core.chunking import Block
from services.retriever.parsing.parsed import HeadingStack, Parsed
from services.retriever.parsing.text import decode

_FRONT_MATTER = re.compile(r"\A---\n.*?\n(?:---|\.\.\.)\n", re.DOTALL)
_FRONT_PAIR = re.compile(r"^(title|lang|language|licen[cs]e):\s*[\"']?(.*?)[\"']?\s*$", re.MULTILINE)


def parse(content: bytes, name: str) -> Parsed:
    """Headings open sections. The title is the front matter's, or else the first heading of level 1."""
    text = decode(content, name)
    front = _FRONT_MATTER.match(text)
    skipped = front.end() if front else 0
    tokens = MarkdownIt("commonmark", {"maxNesting": 50}).enable("table").parse(text[skipped:])
    blocks, first_heading = _blocks(tokens, text, skipped)
    named = dict(reversed(_FRONT_PAIR.findall(front.group()))) if front else {}
    language, licence = named.get("lang") or named.get("language", ""), named.get("license") or named.get("licence", "")
    return Parsed(named.get("title", first_heading), text, blocks, language, licence)


def _blocks(tokens: list[Token], text: str, skipped: int) -> tuple[tuple[Block, ...], str]:
    # Markdown knows no line end but this one, unlike `splitlines`.
    lines = [*accumulate((len(line) + 1 for line in text[skipped:].split("\n")), initial=skipped)]
    headings, blocks, title = HeadingStack(), [], ""
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        # Level 0 blocks alone: what is nested in a list, quote or table lies within its span.
        if token.level != 0 or token.map is None or token.nesting < 0:
            continue
        is_heading = token.type == "heading_open"
        if is_heading and following is not None:
            level = int(token.tag[1:])
            heading = _plain(following)
            title = title or (heading if level == 1 else "")
            headings.enter(heading, level)
        start, end = lines[token.map[0]], lines[token.map[1]]
        stripped = text[start:end].rstrip()
        if stripped.strip():
            lead = len(stripped) - len(stripped.lstrip("\n"))
            blocks.append(Block(start + lead, start + len(stripped), headings.path, 0, is_heading))
    return tuple(blocks), title


def _plain(inline: Token) -> str:
    """A heading's text without its markup."""
    parts = (child.content for child in inline.children or () if child.type in ("text", "code_inline", "softbreak"))
    return " ".join("".join(parts).split())
