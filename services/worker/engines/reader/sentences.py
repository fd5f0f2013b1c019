"""Splits a passage into units that can be quoted: sentences, list items and blocks of code, each with its heading."""

import re
from dataclasses import dataclass, field
from enum import Enum

UNIT_LINES_LIMIT = 14
# A line of printed text that is shorter than this share of the longest may be a title.
_TITLE_SHARE = 0.6
_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(\S.*)$")
_NUMBERED = re.compile(r"^\s*(?:\d{1,2}(?:\.\d{1,2})+\.?|[IVX]{1,4}\.)\s+([A-Z][^.!?:]{2,70})$")
_UNDERLINE = re.compile(r"^\s*(=+|-{3,})\s*$")
_ITEM = re.compile(r"^(\s*)([-*+•·–▪]|\d{1,3}[.)])\s+(?=\S)")
_ROW = re.compile(r"^\s*\|.*\|\s*$")
_ROW_RULE = re.compile(r"^\s*\|[\s:|-]+\|\s*$")
_COMMAND = re.compile(r"^\s*(\$ |>>> |% )\S")
_RULE = re.compile(r"^\s*([-*_=]\s*){3,}$")
_HYPHENATED = re.compile(r"(\w)[\u00ad-]\n\s*([a-z])")
_BOUNDARY = re.compile(r"(?<=[.!?…])([\"'”’)\]*_`]*)\s+(?=[\"'“‘(\[*_`]*[A-Z0-9À-ÞА-Я])|(?<=[。！？])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|al|Fig|Figs|Eq|Eqs|Sec|No|Nos|Dr|Mr|Mrs|Ms|Prof|St|Inc|Ltd|Co|Jr|Sr|approx|ca|pp|vol|ed)"
    r"|\b[A-Z]|^\d{1,3})\.$"
)
# No abbreviation is longer; a look at whole sentences would take longer with each one that follows.
_ABBREVIATION_LIMIT = 12
_ENDS = re.compile(r"[.!?…:;。！？][\"'”’)\]*_`]*$")


class Kind(Enum):
    """What a unit is."""

    SENTENCE = "sentence"
    ITEM = "item"
    CODE = "code"
    ROW = "row"


@dataclass(slots=True)
class Unit:
    """A quotable piece. `block` counts the passage's paragraphs and lists; `lead` is the unit that announces it."""

    text: str
    kind: Kind
    block: int
    heading: str
    lead: int = -1
    followers: list[int] = field(default_factory=list)


def split(passage: str) -> list[Unit]:
    """The passage's units in order; headings are no units of their own."""
    splitter = _Splitter()
    for line in _HYPHENATED.sub(r"\1\2", passage).splitlines():
        splitter.take(line)
    splitter.flush()
    return _with_leads(splitter.units)


def split_sentences(text: str) -> list[str]:
    """Sentences of one paragraph, without the spaces between them."""
    found: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        end = match.end(1) if match.group(1) is not None else match.end()
        if _ABBREVIATION.search(text[max(start, end - _ABBREVIATION_LIMIT) : end]):
            continue
        found.append(text[start:end].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


class _Splitter:
    """Reads line by line: what a line is decides whether it ends the paragraph before it."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self._heading = ""
        self._block = 0
        self._lines: list[str] = []
        self._kind = Kind.SENTENCE
        self._fenced = False
        self._columns: list[str] = []

    def take(self, line: str) -> None:
        if _FENCE.match(line):
            if not self._fenced:
                self.flush()
                self._kind = Kind.CODE
            self._lines.append(line)
            if self._fenced:
                self.flush()
            self._fenced = not self._fenced
        elif self._fenced:
            self._lines.append(line)
        else:
            self._take_text(line)

    def _take_text(self, line: str) -> None:
        if not line.strip() or _RULE.match(line):
            if _UNDERLINE.match(line) and len(self._lines) == 1 and self._kind is Kind.SENTENCE:
                self._heading, self._lines = self._lines[0].strip(), []
            self.flush()
        elif match := _HEADING.match(line) or _NUMBERED.match(line):
            self.flush()
            # Markdown lets a heading end in marks like those before it.
            self._heading = match[1].rstrip().rstrip("#").rstrip() or match[1]
        elif _ROW.match(line):
            self._take_row(line)
        elif match := _ITEM.match(line):
            self._begin(Kind.ITEM, line, keep_block=True)
        elif _COMMAND.match(line) or (line.startswith("    ") and not self._lines):
            if self._kind is not Kind.CODE:
                self.flush()
            self._kind = Kind.CODE
            self._lines.append(line)
        elif self._kind is Kind.CODE:
            self._begin(Kind.SENTENCE, line)
        else:
            self._lines.append(line)

    def _take_row(self, line: str) -> None:
        """The row above a rule names the columns."""
        cells = _cells(line)
        if _ROW_RULE.match(line):
            self._columns = _cells(self._lines[0]) if self._lines else []
            self._lines = []
        else:
            if self._kind is not Kind.ROW:
                self._columns = []
            self._begin(Kind.ROW, _row_text(self._columns, cells) if self._columns else line, keep_block=True)

    def _begin(self, kind: Kind, line: str, *, keep_block: bool = False) -> None:
        """A unit of `kind` starts on this line, in the block before it where that is of the same kind."""
        last = self._kind
        block = self._block
        self.flush()
        if keep_block and last is kind:
            self._block = block
        self._kind = kind
        self._lines.append(line)

    def flush(self) -> None:
        """Ends the paragraph, item or block of code that is open."""
        lines, kind = self._lines, self._kind
        self._lines, self._kind = [], Kind.SENTENCE
        if not lines:
            return
        for at, text in enumerate(_texts(lines, kind)):
            # An item's further sentences are sentences like any other.
            self.units.append(Unit(text, kind if at == 0 else Kind.SENTENCE, self._block, self._heading))
        self._block += 1


def _texts(lines: list[str], kind: Kind) -> list[str]:
    if kind is Kind.CODE:
        return ["\n".join(line.rstrip() for line in lines[:UNIT_LINES_LIMIT])]
    if kind is Kind.ROW:
        return [line.strip().strip("|").strip() for line in lines]
    if kind is Kind.SENTENCE:
        return [sentence for paragraph in _paragraphs(lines) for sentence in split_sentences(paragraph)]
    joined = " ".join(line.strip() for line in lines)
    marker = _ITEM.match(joined)
    start = marker.end() if marker else 0
    first, *more = split_sentences(joined[start:]) or [""]
    return [joined[:start] + first, *more]


def _paragraphs(lines: list[str]) -> list[str]:
    """Lines of printed text joined; a short one with no full stop before a capital is a title of its own."""
    width = max(len(line.strip()) for line in lines)
    found: list[list[str]] = [[]]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        text, after = line.strip(), following.strip()
        found[-1].append(text)
        if len(text) < _TITLE_SHARE * width and not _ENDS.search(text) and after[:1].isupper():
            found.append([])
    return [" ".join(paragraph) for paragraph in found if paragraph]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _row_text(columns: list[str], cells: list[str]) -> str:
    """`first: second` for two columns; with more, each further cell under its column's name."""
    first, *rest = cells
    if len(rest) == 1:
        return f"{first}: {rest[0]}"
    named = [f"{name}: {cell}" if name else cell for name, cell in zip(columns[1:], rest, strict=False) if cell]
    return f"{first} – {'; '.join(named)}" if named else first


def _with_leads(units: list[Unit]) -> list[Unit]:
    """A sentence that ends in a colon announces the list or the code after it."""
    for at, unit in enumerate(units[:-1]):
        if unit.kind is not Kind.SENTENCE or not unit.text.endswith(":"):
            continue
        following = units[at + 1]
        if following.kind is Kind.SENTENCE:
            continue
        for other in range(at + 1, min(at + 1 + UNIT_LINES_LIMIT, len(units))):
            if units[other].heading != unit.heading:
                break
            if units[other].kind is not following.kind:
                if units[other].kind is Kind.SENTENCE and units[other].block == units[other - 1].block:
                    continue
                break
            if following.kind is Kind.CODE and other > at + 1:
                break
            units[other].lead = at
            unit.followers.append(other)
    return units


def is_whole(text: str) -> bool:
    """Whether a sentence starts and ends like one: a chunk's edges often cut through."""
    first = text.lstrip("\"'“‘([*_`")[:1]
    return bool(_ENDS.search(text)) and not first.islower()
