"""The common form of a read document: its title, its text, and the blocks that the text consists of."""

from dataclasses import dataclass

from services.retriever.core.chunking import Block

# Every chunk below a heading carries it, so a paragraph that passes for one must not be carried whole.
MAX_HEADING_CHARS = 300

_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Parsed:
    """`text[block.start:block.end]` is a block's text. What the document does not name of itself is empty."""

    title: str
    text: str
    blocks: tuple[Block, ...]
    language: str = ""
    licence: str = ""


class ParsedBuilder:
    """Collects blocks in order and keeps the stack of headings above them."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self._headings = HeadingStack()

    def heading(self, text: str, level: int, page: int = 0) -> None:
        """A heading; level 1 is the outermost. An empty one is left out."""
        text = " ".join(text.split())
        if text:
            self._headings.enter(text, level)
            self._add(text, page, is_heading=True)

    def block(self, text: str, page: int = 0) -> None:
        """A paragraph, list or table; blank ones are left out."""
        text = text.strip()
        if text:
            self._add(text, page, is_heading=False)

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def build(self, title: str, language: str = "", licence: str = "") -> Parsed:
        """The document."""
        text = _BETWEEN.join(self._parts)
        return Parsed(" ".join(title.split()), text, tuple(self._blocks), language, licence)

    def _add(self, text: str, page: int, *, is_heading: bool) -> None:
        start = self._length + (len(_BETWEEN) if self._parts else 0)
        self._parts.append(text)
        self._length = start + len(text)
        self._blocks.append(Block(start, self._length, self._headings.path, page, is_heading))


class HeadingStack:
    """The headings above the current place, outermost first."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        """Their texts."""
        return tuple(text for _, text in self._stack)

    def enter(self, text: str, level: int) -> None:
        """Leaves the headings of this level and below, and enters this one."""
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        self._stack.append((level, text[:MAX_HEADING_CHARS]))
