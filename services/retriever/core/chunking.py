"""Cuts a document's text into chunks of a bounded number of tokens, at good places. Offsets are exact; no I/O."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

Span = tuple[int, int]
"""Start and end, exclusive, in characters."""

Tokenise = Callable[[str], Sequence[Span]]
"""The spans of a text's tokens, in order."""

# How good it is to end a chunk after a token.
_INSIDE_WORD, _WORD_END, _SENTENCE_END, _BLOCK_END = range(4)
_TERMINALS = (".", "!", "?", "…", "。", "！", "？")
_CLOSERS = "\"')]”’»"
_SIGNS = frozenset((*_TERMINALS, *_CLOSERS))
# WordPiece takes a word of any length for one token; pieces of this length keep chunks bounded in characters too.
_PIECE_CHARS = 100
# Runs of blanks are no tokens; with this bound a chunk of few tokens stays short in characters.
_CHARS_PER_TOKEN = 16
# A tokeniser takes hundreds of bytes for each character, and more than twice as long for twice as many: a section is
# tokenised in parts of about this length, between which no chunk reaches across.
_PART_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, table or list of the text, with the headings above it (a heading's own included)."""

    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    page: int = 0
    is_heading: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """Where one chunk lies, the page on which it starts and the headings above it."""

    start: int
    end: int
    heading_path: tuple[str, ...]
    page: int


@dataclass(slots=True)
class _Units:
    """A section's tokens: where each lies, how good an end it is, and the page it is on."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    ending: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)


def cut(
    text: str, blocks: Sequence[Block], tokenise: Tokenise, chunk_tokens: int, overlap_tokens: int
) -> Iterator[Cut]:
    """Chunks of at most `chunk_tokens`, none across sections; neighbours within a section share `overlap_tokens`.

    A chunk ends at the last paragraph, sentence or word end (the best of these) in its second half. Headings with
    nothing below them join the section that follows. `overlap_tokens` must not exceed half of `chunk_tokens`.
    """
    if overlap_tokens * 2 > chunk_tokens:
        raise ValueError("overlap_tokens must not exceed half of chunk_tokens")
    for section in _parts(text, _sections(blocks)):
        units = _units(text, section, tokenise)
        for first, last in _windows(units, chunk_tokens, overlap_tokens):
            yield Cut(units.starts[first], units.ends[last - 1], section[-1].heading_path, units.pages[first])


def _sections(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    waiting: list[Block] = []
    for _, group in groupby(blocks, key=lambda block: block.heading_path):
        waiting.extend(group)
        if not waiting[-1].is_heading:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _parts(text: str, sections: Iterator[list[Block]]) -> Iterator[list[Block]]:
    """The sections, those that are too long in parts; a block that is too long itself is divided between words."""
    for section in sections:
        part: list[Block] = []
        for block in section:
            for piece in _pieces(text, block):
                if part and piece.end - part[0].start > _PART_CHARS:
                    yield part
                    part = []
                part.append(piece)
        yield part


def _pieces(text: str, block: Block) -> Iterator[Block]:
    start = block.start
    while block.end - start > _PART_CHARS:
        # The last blank of the second half; a word without end is cut where it is.
        end = max(text.rfind(blank, start + _PART_CHARS // 2, start + _PART_CHARS) for blank in ("\n", " ", "\t"))
        end = end if end > start else start + _PART_CHARS
        yield replace(block, start=start, end=end)
        start = end
    yield replace(block, start=start)


def _units(text: str, section: Sequence[Block], tokenise: Tokenise) -> _Units:
    units = _Units()
    # Millions of tokens pass here, so what is looked up is looked up once.
    starts, ends, ending = units.starts, units.ends, units.ending
    for block in section:
        base, before = block.start, len(starts)
        for start, end in tokenise(text[base : block.end]):
            start, end = base + start, base + end
            if ends and ending[-1] != _BLOCK_END:
                ending[-1] = _ending(text, ends[-1], start)
            for piece in (start,) if end - start <= _PIECE_CHARS else range(start, end, _PIECE_CHARS):
                starts.append(piece)
                ends.append(end if end - piece <= _PIECE_CHARS else piece + _PIECE_CHARS)
                ending.append(_INSIDE_WORD)
        units.pages.extend([block.page] * (len(starts) - before))
        if ending:
            ending[-1] = _BLOCK_END
    return units


def _ending(text: str, end: int, next_start: int) -> int:
    """How good an end the token that ends at `end` is, when the next one starts at `next_start`."""
    # Most tokens end in a letter, which says it all.
    if next_start - end <= 1 and text[end - 1] not in _SIGNS:
        return _INSIDE_WORD if end == next_start else _WORD_END
    tail = text[max(0, end - 3) : end].rstrip(_CLOSERS)
    if end == next_start:
        return _SENTENCE_END if tail.endswith(("。", "！", "？")) else _INSIDE_WORD
    if "\n\n" in text[end:next_start]:
        return _BLOCK_END
    return _SENTENCE_END if tail.endswith(_TERMINALS) else _WORD_END


def _windows(units: _Units, chunk_tokens: int, overlap_tokens: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) unit of each chunk."""
    first, count = 0, len(units.starts)
    while first < count:
        last = _end_of(units, first, chunk_tokens)
        yield first, last
        if last == count:
            return
        first = _start_of_next(units, first, last, overlap_tokens)


def _end_of(units: _Units, first: int, chunk_tokens: int) -> int:
    limit = min(first + chunk_tokens, len(units.starts))
    while limit > first + 1 and units.ends[limit - 1] - units.starts[first] > chunk_tokens * _CHARS_PER_TOKEN:
        limit -= 1
    if limit == len(units.starts):
        return limit
    middle = first + (limit - first) // 2 + 1
    return max(range(middle, limit + 1), key=lambda last: (units.ending[last - 1], last), default=limit)


def _start_of_next(units: _Units, first: int, last: int, overlap_tokens: int) -> int:
    """The first sentence start within the overlap, else the first word start, else as far back as it reaches."""
    earliest = max(first + 1, last - overlap_tokens)
    for wanted in (_SENTENCE_END, _WORD_END):
        for start in range(earliest, last):
            if units.ending[start - 1] >= wanted:
                return start
    return earliest if overlap_tokens else last
