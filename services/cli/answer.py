"""An answer as it comes in: its text, its sources, and which of those it cites."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text as Styled

from services.cli.convert import Event, Finished, Grounding, Note, Source, Sources, Text
from services.cli.documents import shown
from services.kit.errors import WeftError

_CITATION = re.compile(r"\[(\d{1,3})\]")
_CUT = {"length": "cut at max_tokens", "deadline": "the deadline passed", "cancelled": "cancelled"}
_NOTHING_FOUND = "(nothing relevant was found, so no model was asked; --answer-anyway asks it)"
UNSUPPORTED_LIMIT = 10
"""Sentences without support that are shown; of more, their number is told."""


class Answer:
    """Collects one answer's events; raises the error of one that failed."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.sources: tuple[Source, ...] = ()
        self.finished: Finished | None = None

    def __repr__(self) -> str:
        return f"Answer({len(self.text)} characters, {len(self.sources)} sources)"

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    def take(self, event: Event | None) -> None:
        """Takes the next event."""
        match event:
            case Text(text):
                self._parts.append(text)
            case Sources(sources):
                self.sources = sources
            case Finished():
                self.finished = event
            case WeftError():
                raise event

    def cited(self) -> set[int]:
        """Numbers of the sources that the text cites as [1], [2]."""
        known = {source.number for source in self.sources}
        return {int(number) for number in _CITATION.findall(self.text)} & known

    def to_json(self) -> dict[str, Any]:
        """The whole answer for programs."""
        cited = self.cited()
        sources = [asdict(source) | {"cited": source.number in cited} for source in self.sources]
        finished = asdict(self.finished) if self.finished else None
        return {"answer": self.text, "sources": sources, "finished": finished}


class Printer:
    """Prints an answer while it comes in: its text on `out`, notes on `notes`."""

    def __init__(self, out: Console, notes: Console) -> None:
        self._out = out
        self._notes = notes

    def __repr__(self) -> str:
        return f"Printer(width={self._out.width})"

    def event(self, event: Event | None) -> None:
        """Prints what the event brings."""
        match event:
            case Text(text):
                self._out.print(text, end="", markup=False, highlight=False, soft_wrap=True)
                self._out.file.flush()
            case Note(text) if self._notes.is_terminal:
                self._notes.print(Styled(f"… {text}", style="dim"))

    def broken(self, answer: Answer) -> None:
        """Ends the line of an answer that broke off, so that what is said of it begins a new one."""
        if answer.text:
            self._out.print()

    def end(self, answer: Answer) -> None:
        """Ends the text; says why it is not whole, what of it has no support, and which sources there are."""
        self._out.print()
        if answer.finished and answer.finished.reason in _CUT:
            self._notes.print(f"({_CUT[answer.finished.reason]})", style="yellow")
        if answer.finished and answer.finished.reason == "nothing_found":
            self._notes.print(_NOTHING_FOUND, style="yellow", markup=False, soft_wrap=True)
        if answer.finished and answer.finished.grounding:
            print_doubts(self._out, answer.text, answer.finished.grounding)
        if answer.sources:
            self._out.print()
            print_sources(self._out, answer.sources, answer.cited())


def print_doubts(out: Console, text: str, grounding: Grounding) -> None:
    """What of an answer cannot be traced to its sources; nothing where all of it can."""
    if not grounding.dangling and not grounding.unsupported:
        return
    out.print()
    for number in grounding.dangling:
        out.print(f"[{number}] points at no source", style="red", markup=False)
    for one in grounding.unsupported[:UNSUPPORTED_LIMIT]:
        line = Styled("not in the sources: ", style="yellow")
        line.append(" ".join(text[one.start_offset : one.end_offset].split()), style="dim")
        out.print(line, soft_wrap=True)
    if (more := len(grounding.unsupported) - UNSUPPORTED_LIMIT) > 0:
        out.print(f"not in the sources: {more} more", style="yellow")


def print_sources(out: Console, sources: Sequence[Source], cited: set[int]) -> None:
    """One line for each source; those that are not cited are dim."""
    for source in sources:
        place = " › ".join(source.heading_path)
        page = f"page {source.page}" if source.page else ""
        details = ", ".join(part for part in (shown(source.source), place, page) if part)
        line = Styled(f"[{source.number}] ", style="bold cyan" if source.number in cited else "dim")
        line.append(source.title or shown(source.source), style="bold" if source.number in cited else "dim")
        line.append(f"  {details}", style="" if source.number in cited else "dim")
        out.print(line, soft_wrap=True)
