"""Composes the answer's text: quotes with citations, or an honest word on why there is none. Pure."""

import re
from collections.abc import Sequence

from services.worker.engines.reader.extract import DIRECT, Quote, find
from services.worker.engines.reader.sentences import Kind
from services.worker.engines.reader.sources import Inquiry

NO_SOURCES = (
    "I am Weft's built-in reader: I answer only from documents, by quoting what fits the question, and this question "
    "came without any. Add documents and ask with retrieval. To chat freely, start Weft with a real model: "
    "`weft up --engine llamacpp --model FILE.gguf`."
)
NO_PASSAGES = (
    "No passage in the documents matches this question. Try other words, or add a document that covers it with "
    "`weft ingest`."
)
NO_ANSWER = "The documents that were found do not answer this."
NO_QUESTION = "There is no question in this conversation."
CLOSEST = "The documents do not say this directly. The closest passage says:"

_LISTED = (Kind.ITEM, Kind.ROW)
_PIECE = re.compile(r"\s*\S+")
_MARKER = re.compile(r"^\s*([-*+•·–▪]|\d{1,3}[.)])\s+")
# A run of marks is looked at from its beginning alone: from each of its places, a long one would take its square.
_END = re.compile(r"(?<![.!?…])([.!?…]+)([\"'”’)\]*_`]*)$")


def answer(inquiry: Inquiry) -> str:
    """The whole answer."""
    if inquiry.sources is None:
        return NO_SOURCES
    if not inquiry.question.strip():
        return NO_QUESTION
    if not inquiry.sources:
        return NO_PASSAGES
    finding = find(inquiry.question, inquiry.sources)
    if not finding.quotes:
        return _nearest(inquiry)
    text = compose(finding.quotes)
    return text if finding.coverage >= DIRECT else f"{CLOSEST}\n\n{text}"


def pieces(text: str) -> list[str]:
    """The text as tokens: each a word with the white space before it, so that joining them gives the text again."""
    found = _PIECE.findall(text)
    rest = text[sum(len(piece) for piece in found) :]
    return [*found, rest] if rest else found


def _nearest(inquiry: Inquiry) -> str:
    titles: dict[str, int] = {}
    for source in inquiry.sources or ():
        titles.setdefault(source.title or "untitled", source.number)
    listed = ", ".join(f"{title} [{number}]" for title, number in list(titles.items())[:3])
    return f"{NO_ANSWER} The nearest passages are from {listed}." if listed else NO_ANSWER


def compose(quotes: Sequence[Quote]) -> str:
    """Sentences run on, each source cited after its last; lists and code stand on lines of their own."""
    parts: list[str] = []
    for at, quote in enumerate(quotes):
        following = quotes[at + 1] if at + 1 < len(quotes) else None
        same = following is not None and following.source is quote.source
        text = quote.text if quote.kind is Kind.CODE else _tidy(quote, alone=not _listed(quotes, at))
        if quote.kind is Kind.CODE:
            text = f"{_fenced(text)}\n[{quote.source.number}]" if not same else _fenced(text)
        elif not same:
            text = _cite(text, quote.source.number)
        parts.append(_gap(quotes, at) + text)
    return "".join(parts)


def _gap(quotes: Sequence[Quote], at: int) -> str:
    if at == 0:
        return ""
    listed, after_list = _listed(quotes, at), _listed(quotes, at - 1)
    if listed and after_list:
        return "\n"
    code = Kind.CODE in (quotes[at].kind, quotes[at - 1].kind)
    return "\n\n" if listed or after_list or code else " "


def _listed(quotes: Sequence[Quote], at: int) -> bool:
    """Whether an item stands in a list: next to another item, or under the sentence that announces it."""
    if quotes[at].kind not in _LISTED:
        return False
    around = [quotes[other] for other in (at - 1, at + 1) if 0 <= other < len(quotes)]
    return any(
        other.source is quotes[at].source and (other.kind in _LISTED or other.text.endswith(":")) for other in around
    )


def _tidy(quote: Quote, *, alone: bool) -> str:
    text = " ".join(quote.text.split())
    if quote.kind in _LISTED:
        text = _MARKER.sub("", text)
        return text if alone else f"- {text}"
    return f"Under “{quote.under}”: {text}" if quote.under else text


def _fenced(text: str) -> str:
    stripped = text.strip("\n")
    if stripped.lstrip().startswith(("```", "~~~")):
        return stripped if stripped.rstrip().endswith(("```", "~~~")) else f"{stripped}\n```"
    return f"```\n{stripped}\n```"


def _cite(text: str, number: int) -> str:
    """Puts the citation before the full stop: `... on port 8080 [1].`"""
    if match := _END.search(text):
        return f"{text[: match.start()]} [{number}]{match[1]}" if not match[2] else f"{text} [{number}]"
    return f"{text} [{number}]"
