"""Cuts an answer into sentences, and text into words, in any script; finds citations. It judges none of them."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

HEADING_WORDS = 8
"""A line of at most so many words without a full stop is a heading, where another line follows."""
NUMBER_WEIGHT = 4
"""A sentence of usual length with a wrong number in it has too little support by that alone."""

CITATION = re.compile(r"[\[【]([0-9]{1,3}(?:\s?[,;]\s?[0-9]{1,3}){0,15})[\]】](?!\()|(`)")
"""Numbers in brackets, or a backtick, between two of which brackets are code."""
_LEADING = re.compile(r"\s*(?:>\s*)*(?:[-*+•–]\s+|[0-9]{1,3}[.)]\s+|#{1,6}\s+)?")
_CITED = re.compile(r"\s?[\[【][0-9,; ]{1,64}[\]】]")
_END = re.compile(
    r"(?<![.!?…؟])[.!?…؟]++[\"'”’»)*_`]*+(?:\s?[\[【][0-9,; ]{1,64}[\]】])*+(?=\s)"
    r"|(?<![。！？｡।])[。！？｡।]++[\"'”’」』）]*+(?:\s?[\[【][0-9,; ]{1,64}[\]】])*+"
)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_BOLD = re.compile(r"(\*\*|__)[^*_]+\1$")
_CLOSERS = " \t\r\n\"'”’»」』）)*_`"
_STOPS = ".!?…؟。！？｡।|;"
_ASKS = "?？؟"
_DISCLAIMER_CHARACTERS = 400

# Scripts that put no spaces between words are compared by pairs of characters.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Python's \w leaves out the marks with which many scripts write vowels.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u065f\u0900-\u0903\u093a-\u094f\u0980-\u0dff"
_RUN = re.compile(rf"[\w{_MARKS}]+(?:[.,:][0-9]+)*")
_PART = re.compile(rf"([0-9]+(?:[.,:][0-9]+)*)|([{_UNSPACED}]+)|([^0-9_{_UNSPACED}.,:]+)")
_GROUPED = re.compile(r"[.,](?=[0-9]{3}(?:[^0-9]|$))")
_SHORT = 3
_SPACED_ALPHABETS_END = "\u0530"
"""Latin, Greek and Cyrillic stand before it: there, words of up to three letters are mostly particles."""

# The words with which an answer speaks of its sources, or of itself, and those that deny.
_SPEAKS_OF = re.compile(
    r"\b(?:sources?|documents?|passages?|context|i|quellen?|dokumente?n?|textstellen?|ich|je|fuentes?|documentos?"
    r"|pasajes?|yo|fonti|documenti|fontes?|источник\w*|документ\w*|я)\b|来源|文档|资料|文書|資料|文献|문서|출처",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not?|cannot|nothing|none|unable|neither|without|lacks?|nicht|keine?\w*|nichts|pas|aucune?|rien|ningun\w*"
    r"|ningún|nada|non|nessun\w*|não|nenhum\w*|не|нет|ничего)\b|n['’]t\b|不|没有|沒有|未|ない|ません|없",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A sentence, a list's item, a heading or a block of code: from `start` to before `end`, in characters.

    `states_nothing` marks headings and questions.
    """

    start: int
    end: int
    is_code: bool = False
    states_nothing: bool = False


def units(answer: str) -> Iterator[Unit]:
    """In order, without what is blank. A line's end ends a sentence; a fenced block is one unit."""
    at, fence = 0, -1
    lines = answer.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if _FENCE.match(line):
            if fence < 0:
                fence = at
            else:
                yield Unit(fence, at + len(line.rstrip()), is_code=True)
                fence = -1
        elif fence < 0 and not line.isspace():
            # Under a heading there is text, right below it or after a blank line.
            is_last = all(following.isspace() for following in lines[number + 1 : number + 3])
            yield from _line(line, at, is_last=is_last)
        at += len(line)
    if fence >= 0:
        yield Unit(fence, len(answer.rstrip()), is_code=True)


def _line(line: str, at: int, *, is_last: bool) -> Iterator[Unit]:
    leading = _LEADING.match(line)
    start = leading.end() if leading else 0
    if _is_heading(line[start:].strip(), line[:start].strip(), is_last=is_last):
        yield Unit(at + start, at + len(line.rstrip()), states_nothing=True)
        return
    for found in _END.finditer(line, start):
        # What goes on in small letters is the same sentence: the stop was an abbreviation's.
        following = line[found.end() : found.end() + 64].lstrip()
        if following and not following[0].islower():
            yield from _sentence(line, start, found.end(), at)
            start = found.end()
    yield from _sentence(line, start, len(line), at)


def _sentence(line: str, start: int, end: int, at: int) -> Iterator[Unit]:
    text = line[start:end]
    stripped = text.strip()
    if stripped:
        begin = at + start + len(text) - len(text.lstrip())
        yield Unit(begin, begin + len(stripped), states_nothing=_last_mark(stripped) in _ASKS)


def _is_heading(text: str, marker: str, *, is_last: bool) -> bool:
    if marker.startswith("#") or text.endswith((":", "：")) or _BOLD.match(text):
        return True
    if marker or is_last or len(text) > 80 or "[" in text or "【" in text or _last_mark(text) in _STOPS:
        return False
    return len(text.split()) <= HEADING_WORDS


def _last_mark(text: str) -> str:
    """The last character before closing quotes and citations; a space where there is none, which is no mark."""
    for start in range(len(text) - 1, -1, -1):
        mark = text[start]
        if mark in _CLOSERS:
            continue
        if mark in "]】":
            opened = max(text.rfind("[", start - 66, start), text.rfind("【", start - 66, start))
            if opened >= 0 and _CITED.fullmatch(text, opened, start + 1):
                return _last_mark(text[max(0, opened - 200) : opened]) if opened else " "
        return mark
    return " "


def disclaims(text: str) -> bool:
    """Whether a sentence denies something of the sources, or of the one who answers: how answers say "unknown"."""
    text = text[:_DISCLAIMER_CHARACTERS]
    return _DENIES.search(text) is not None and _SPEAKS_OF.search(text) is not None


def runs(text: str) -> list[str]:
    """The text's words as they stand, still with what is written together, such as `8GB`."""
    return _RUN.findall(text)


def words_of(run: str) -> list[tuple[str, int]]:
    """A run's words in the form in which they are compared, each with its weight; particles weigh nothing."""
    if run.isascii() and run.isalpha():
        return [(run.lower(), _weight(run))]
    if not run.isascii():
        run = unicodedata.normalize("NFKC", run)
    found: list[tuple[str, int]] = []
    for number, unspaced, word in _PART.findall(run):
        if number:
            found.append((_GROUPED.sub("", number).replace(",", "."), NUMBER_WEIGHT))
        elif unspaced:
            found += [(unspaced[i : i + 2], 1) for i in range(max(1, len(unspaced) - 1))]
        else:
            found.append((word.casefold(), _weight(word)))
    return found


def _weight(word: str) -> int:
    """1 for content, 0 for particles: short words, unless they are abbreviations."""
    if word[0] >= _SPACED_ALPHABETS_END:
        return int(len(word) > 1)
    return int(len(word) > _SHORT or (len(word) > 1 and word.isupper()))
