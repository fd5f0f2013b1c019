"""Reads a web page's main content with trafilatura: headings, paragraphs, lists and tables, without its furniture."""

import re
from collections.abc import Iterator
from typing import Any

import trafilatura

from services.retriever.failure import unreadable
from services.retriever.parsing.parsed import Parsed, ParsedBuilder
from services.retriever.parsing.text import decode

_TITLE = "string((//head/title | //title)[1])"
_LICENCE = "//*[self::a or self::link][contains(concat(' ', normalize-space(@rel), ' '), ' license ')]/@href"
_LICENCE_META = (
    "//meta[@name='license' or @name='licence' or @name='dcterms.license' or @name='DC.rights' "
    "or @name='dcterms.rights' or @itemprop='license']/@content"
)
_LEVEL = re.compile(r"h([1-6])")


def parse(content: bytes, name: str) -> Parsed:
    """The page's title is its `<title>`; pages without a main part are taken as a whole."""
    tree = trafilatura.load_html(content)
    if tree is None:
        # A piece of a page, which is text with elements in it.
        tree = trafilatura.load_html(f"<html><body>{decode(content, name)}</body></html>")
    if tree is None:
        raise unreadable(
            "HTML_UNREADABLE", f"{name} is not a readable HTML page; open it in a browser and save it again"
        )
    # Extraction takes the tree apart, so what the page says of itself is read before.
    language, licence = _declared(tree)
    named = str(tree.xpath(_TITLE))
    found: Any = trafilatura.bare_extraction(tree, favor_recall=True, include_tables=True, include_comments=False)
    builder = ParsedBuilder()
    if found is not None and found.body is not None:
        for element in found.body:
            _add(builder, element)
    title = named or ((found.title or "") if found is not None else "")
    parsed = builder.build(title, language, licence)
    if parsed.blocks:
        return parsed
    whole = trafilatura.html2txt(content)
    for paragraph in whole.split("\n"):
        builder.block(paragraph)
    return builder.build(title, language, licence)


def _declared(tree: Any) -> tuple[str, str]:
    """The language and the licence that the page names of itself."""
    named = tree.xpath(_LICENCE) or tree.xpath(_LICENCE_META)
    language = tree.xpath("string(//html/@lang)") or tree.xpath("string(//html/@xml:lang)")
    return str(language), str(named[0]) if named else ""


def _add(builder: ParsedBuilder, element: Any) -> None:
    if element.tag == "head":
        level = _LEVEL.fullmatch(element.get("rend") or "")
        builder.heading("".join(element.itertext()), int(level.group(1)) if level else 6)
    elif element.tag == "list":
        builder.block("\n".join(f"- {_line(item)}" for item in element.iter("item") if _line(item)))
    elif element.tag == "table":
        builder.block("\n".join(_rows(element)))
    else:
        builder.block("".join(element.itertext()))


def _rows(table: Any) -> Iterator[str]:
    for row in table.iter("row"):
        yield " | ".join(_line(cell) for cell in row.iter("cell"))


def _line(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())
